from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import sys
import textwrap
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headrace.errors import Refusal
from ingest import convert as parent
from ingest import nursery as nurseries
from ingest.convert import convert
from ingest.converters import Conversion, Limits, TableRows
from tests.converting import convert_alone, nursery_in

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1024**2
DEADLINE_S = 30.0

# Stands in for `ingest.converters` where a test needs a process that behaves badly.
FAKE = """
import json, os, signal, sys, time
request = json.loads(sys.stdin.buffer.read())
from pathlib import Path
scratch = Path(os.environ["TMPDIR"])
Path(request["conversion"]["output"]).write_bytes(b"partial")
Path(request["conversion"]["output"] + "-journal").write_bytes(b"partial")
"""


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Give the folder that conversions work in."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give a function that replaces the converter's process by a script."""

    def replace_by(script: str) -> None:
        package = tmp_path / "fake" / "ingest" / "converters"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package.parent / "__init__.py").touch()
        real = Path(nurseries.__file__).with_name("converters") / "__main__.py"
        shutil.copy(real, package / "__main__.py")
        (package / "process.py").write_text(
            "def main():\n" + textwrap.indent(FAKE + script, "    ")
        )
        for name in ("delimited", "json_records"):  # what the nursery imports
            (package / f"{name}.py").touch()
        monkeypatch.setattr(nurseries, "_IMPORT_ROOT", tmp_path / "fake")

    return replace_by


def _conversion(folder: Path, data: str | bytes = "a,b\n1,x\n", kind: str = "csv") -> Conversion:
    source = folder / "in put"
    source.write_bytes(data.encode() if isinstance(data, str) else data)
    return Conversion(input=source, output=folder / "out.db", format=kind, table="t")


async def _refuse(conversion: Conversion, scratch: Path, limits: Limits | None = None) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await convert_alone(conversion, limits=limits or Limits(), scratch=scratch)
    assert not list(scratch.iterdir())
    assert not list(conversion.output.parent.glob("out.db*"))
    return caught.value


async def _until_gone(pid: int) -> None:
    """Wait until a process has ended (one that only waits to be reaped has ended)."""
    async with asyncio.timeout(DEADLINE_S):
        while _is_running(pid):  # noqa: ASYNC110 - another process tells no event
            await asyncio.sleep(0)


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def _read_pid(path: Path) -> int:
    """Wait until a process has written its id into a file."""
    async with asyncio.timeout(DEADLINE_S):
        while not (path.exists() and path.read_text().endswith("\n")):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
    return int(path.read_text())


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ("a,b\n1,x\n", "csv"),
        ('[{"a": 1, "b": "x"}]', "json"),
        ('{"a": 1, "b": "x"}\n', "ndjson"),
        ("a: 1\nb: x\n", "yaml"),
    ],
)
async def test_convert_file_of_rows_makes_a_staging_database(
    tmp_path: Path, scratch: Path, data: str, kind: str
) -> None:
    """A file becomes a complete database, and nothing else is left."""
    conversion = _conversion(tmp_path, data, kind)
    converted = await convert_alone(conversion, limits=Limits(), scratch=scratch)
    assert converted.tables == (TableRows(name="t", rows=1),)
    with closing(sqlite3.connect(conversion.output)) as connection:
        assert connection.execute("SELECT * FROM t").fetchall() == [(1, "x")]
    assert not list(scratch.iterdir())
    assert [path.name for path in tmp_path.glob("out.db*")] == ["out.db"]


async def test_convert_relative_paths_are_those_of_the_caller(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths hold although the process works in a folder of its own."""
    _conversion(tmp_path)
    monkeypatch.chdir(tmp_path)
    conversion = Conversion(input=Path("in put"), output=Path("out.db"), format="csv", table="t")
    await convert_alone(conversion, limits=Limits(), scratch=Path("scratch"))
    assert (tmp_path / "out.db").exists()


async def test_convert_one_nursery_forks_a_process_for_each_file(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are locked in, at once as well, and none outlives its file."""
    monkeypatch.setattr(parent, "_say_refused", pytest.fail)
    conversion = _conversion(tmp_path)
    outputs = [tmp_path / f"{number}.db" for number in range(8)]
    async with nursery_in(scratch) as nursery:
        made = await asyncio.gather(
            *(
                convert(replace(conversion, output=output), limits=Limits(), nursery=nursery)
                for output in outputs
            )
        )
        assert nursery.pid is not None
        assert not _children(nursery.pid)
    assert [each.tables for each in made] == [(TableRows(name="t", rows=1),)] * 8
    assert not list(scratch.iterdir())


async def test_convert_process_holds_nothing_of_its_nursery(
    tmp_path: Path, scratch: Path, fake: Callable[[str], None]
) -> None:
    """It cannot order other processes, nor say what became of them, nor of itself."""
    fake(
        "held = sorted(int(name) for name in os.listdir('/proc/self/fd'))\n"
        "print(json.dumps({'converted': {'tables': [], 'warnings': [json.dumps(held)]}}))"
    )
    async with nursery_in(scratch) as nursery:
        other = await nursery.fork()
        conversion = _conversion(tmp_path)
        converted = await convert(conversion, limits=Limits(), nursery=nursery)
        await other.end()
    assert json.loads(converted.warnings[0]) == [0, 1, 2, 3]  # the last: the folder it looks into


async def test_convert_nursery_that_died_is_replaced(tmp_path: Path, scratch: Path) -> None:
    """What happens to it between two files costs no upload."""
    async with nursery_in(scratch) as nursery:
        used = []
        for number in range(3):
            await nursery.start()
            assert nursery.pid is not None
            used.append(nursery.pid)
            if number:
                os.kill(nursery.pid, signal.SIGKILL)
            conversion = replace(_conversion(tmp_path), output=tmp_path / f"{number}.db")
            converted = await convert(conversion, limits=Limits(), nursery=nursery)
            assert converted.tables == (TableRows(name="t", rows=1),)
        assert len(set(used)) == 2
    assert not list(scratch.iterdir())


async def test_convert_nursery_that_hangs_is_replaced(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is there and does nothing keeps no upload waiting for ever."""
    async with nursery_in(scratch) as nursery:
        await nursery.start()
        hung = nursery.pid
        assert hung is not None
        os.kill(hung, signal.SIGSTOP)
        start = nursery._start  # noqa: SLF001 - for the next one the deadline is as it was

        async def start_patiently() -> None:
            monkeypatch.undo()
            await start()

        monkeypatch.setattr(nurseries, "_FORK_DEADLINE_S", 0.1)
        monkeypatch.setattr(nursery, "_start", start_patiently)
        async with asyncio.timeout(DEADLINE_S):
            converted = await convert(_conversion(tmp_path), limits=Limits(), nursery=nursery)
        assert converted.tables == (TableRows(name="t", rows=1),)
        assert nursery.pid != hung
        assert not _is_running(hung)
    assert not list(scratch.iterdir())


async def test_convert_nursery_that_dies_amid_a_file_is_a_crash(
    tmp_path: Path, scratch: Path, fake: Callable[[str], None]
) -> None:
    """Its converters die with it, and those who wait for them are told."""
    note = tmp_path / "pids"
    fake(f"Path({str(note)!r}).write_text(f'{{os.getpid()}}\\n'); time.sleep(600)")
    async with nursery_in(scratch) as nursery:
        conversion = _conversion(tmp_path)
        task = asyncio.create_task(convert(conversion, limits=Limits(), nursery=nursery))
        pid = await _read_pid(note)
        assert nursery.pid is not None
        os.kill(nursery.pid, signal.SIGKILL)
        with pytest.raises(Refusal) as caught:
            await task
        await _until_gone(pid)
    assert caught.value.code == "converter-crashed"
    assert not list(scratch.iterdir())


async def test_convert_processes_that_wait_end_with_the_service(scratch: Path) -> None:
    """The nursery, and who waits for a request, end when nobody can send one any more."""
    script = f"""
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {str(Path(parent.__file__).parents[1])!r})
from ingest.nursery import Nursery
async def wait():
    nursery = Nursery(Path({str(scratch)!r}))
    process = await nursery.fork()
    print(nursery.pid, process.pid, flush=True)
    await process.wait()
asyncio.run(wait())
"""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    pids = (await server.stdout.readline()).split()
    server.kill()
    await server.wait()
    for pid in pids:
        await _until_gone(int(pid))


async def test_convert_where_imports_start_threads_is_locked_in_as_well(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cage needs a process without threads: a nursery that has some begins anew, bare."""
    monkeypatch.setattr(parent, "_say_refused", pytest.fail)
    environment = nurseries.bare_environment  # to leave out what prevents the thread
    monkeypatch.setattr(
        nurseries,
        "bare_environment",
        lambda folder: {**environment(folder), "JE_ARROW_MALLOC_CONF": "background_thread:true"},
    )
    conversion = _conversion(tmp_path)
    converted = await convert_alone(conversion, limits=Limits(), scratch=scratch)
    assert converted.tables == (TableRows(name="t", rows=1),)


async def test_convert_sqlite_and_markdown_files_come_through(
    tmp_path: Path, scratch: Path
) -> None:
    """The name of the file reaches the converter, and a database can be converted again."""
    conversion = _conversion(tmp_path, "hello\n", "markdown")
    await convert_alone(replace(conversion, filename="x.md"), limits=Limits(), scratch=scratch)
    again = replace(
        conversion, input=conversion.output, output=tmp_path / "again.db", format="sqlite"
    )
    await convert_alone(again, limits=Limits(), scratch=scratch)
    with closing(sqlite3.connect(again.output)) as connection:
        assert connection.execute("SELECT * FROM t").fetchall() == [("x", "hello\n")]


async def test_convert_bad_file_is_refused_with_all_the_converter_says(
    tmp_path: Path, scratch: Path
) -> None:
    """A refusal keeps its code, place and hint on its way out of the process."""
    refusal = await _refuse(_conversion(tmp_path, "a,b\n1,2\n1\n"), scratch)
    assert (refusal.code, refusal.line) == ("invalid-file", 3)
    assert refusal.hint
    assert refusal.extra == {"lines": [3]}


async def test_convert_process_has_no_secrets_and_its_own_folder(
    tmp_path: Path, scratch: Path, fake: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process gets an environment made from nothing, a group and a folder of its own."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    fake(
        "assert os.getcwd() == os.environ['TMPDIR']\n"
        "facts = {'environ': dict(os.environ), 'group': os.getpgrp() == os.getpid(),"
        " 'cwd': os.getcwd()}\n"
        "print(json.dumps({'converted': {'tables': [], 'warnings': [json.dumps(facts)]}}))"
    )
    converted = await convert_alone(_conversion(tmp_path), limits=Limits(), scratch=scratch)
    facts = json.loads(converted.warnings[0])
    assert "secret" not in str(facts)
    assert facts["group"]
    assert Path(facts["cwd"]).parent == scratch
    assert facts["environ"].keys() <= {
        "PATH", "LANG", "HOME", "TMPDIR", "PYTHONPATH", "ARROW_DEFAULT_MEMORY_POOL",
        "MALLOC_ARENA_MAX", "JE_ARROW_MALLOC_CONF", "LC_CTYPE",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["json", "csv"])
async def test_convert_with_too_little_memory_is_a_limit(
    tmp_path: Path, scratch: Path, kind: str
) -> None:
    """A file that needs more memory than it may have is refused as such."""
    value = "x" * (40 * MIB)
    data = f'{{"a": "{value}"}}' if kind == "json" else f'a\n"{value}"\n'
    limits = Limits(memory_bytes=100 * MIB)
    refusal = await _refuse(_conversion(tmp_path, data, kind), scratch, limits)
    assert (refusal.code, refusal.extra) == ("limit-exceeded", {"limit": "memory"})


async def test_convert_of_ordinary_csv_needs_little_memory(tmp_path: Path, scratch: Path) -> None:
    """A file far larger than the memory that the process may use is converted."""
    data = "a,b\n" + "1234567,some text that is a little longer\n" * 2_000_000
    limits = Limits(memory_bytes=400 * MIB)
    converted = await convert_alone(
        _conversion(tmp_path, data), limits=replace(limits), scratch=scratch
    )
    assert converted.tables[0].rows == 2_000_000


async def test_convert_of_an_object_of_arrays_needs_little_memory(
    tmp_path: Path, scratch: Path
) -> None:
    """Each of its tables is read object by object, though there are two in the file."""
    rows = ", ".join(['{"a": 1234567, "b": "é, a text that is a little longer"}'] * 300_000)
    data = f'{{"first": [{rows}], "empty": [], "second": [{rows}]}}'
    limits = Limits(memory_bytes=150 * MIB)
    converted = await convert_alone(
        _conversion(tmp_path, data, "json"), limits=limits, scratch=scratch
    )
    assert [(table.name, table.rows) for table in converted.tables] == [
        ("first", 300_000),
        ("second", 300_000),
    ]
    with closing(sqlite3.connect(tmp_path / "out.db")) as connection:
        of_second = connection.execute("SELECT DISTINCT a, b FROM second").fetchall()
    assert of_second == [(1234567, "é, a text that is a little longer")]


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
async def test_convert_with_too_large_a_database_is_a_limit(
    tmp_path: Path, scratch: Path, kind: str
) -> None:
    """A file that makes a larger database than it may is refused, and the database is gone."""
    row = "some text\n" if kind == "csv" else '{"a": "some text"}\n'
    data = ("a\n" if kind == "csv" else "") + row * 200_000
    limits = Limits(output_bytes=MIB)
    refusal = await _refuse(_conversion(tmp_path, data, kind), scratch, limits)
    assert (refusal.code, refusal.extra) == ("limit-exceeded", {"limit": "output"})


async def test_convert_with_too_little_cpu_time_is_a_limit(tmp_path: Path, scratch: Path) -> None:
    """A conversion that computes for too long is ended by the kernel."""
    limits = Limits(cpu_s=1)
    data = "- {a: [1, 2, 3]}\n" * 1_000_000
    refusal = await _refuse(_conversion(tmp_path, data, "yaml"), scratch, limits)
    assert (refusal.code, refusal.extra) == ("limit-exceeded", {"limit": "cpu"})


async def test_convert_with_too_little_time_is_a_limit_and_leaves_no_process(
    tmp_path: Path, scratch: Path, fake: Callable[[str], None]
) -> None:
    """At the deadline the whole group of processes is killed, children included."""
    note = tmp_path / "pids"
    fake(
        f"child = os.fork()\n"
        f"if child: Path({str(note)!r}).write_text(f'{{child}}\\n')\n"
        f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"time.sleep(600)"
    )
    refusal = await _refuse(_conversion(tmp_path), scratch, Limits(wall_s=1.0))
    assert (refusal.code, refusal.extra) == ("limit-exceeded", {"limit": "wall"})
    await _until_gone(await _read_pid(note))


async def test_convert_that_is_cancelled_leaves_no_process(
    tmp_path: Path, scratch: Path, fake: Callable[[str], None]
) -> None:
    """A conversion that nobody waits for any more is killed, and its output removed."""
    note = tmp_path / "pids"
    fake(f"Path({str(note)!r}).write_text(f'{{os.getpid()}}\\n'); time.sleep(600)")
    conversion = _conversion(tmp_path)
    task = asyncio.create_task(convert_alone(conversion, limits=Limits(), scratch=scratch))
    pid = await _read_pid(note)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not _is_running(pid)
    assert not list(scratch.iterdir())
    assert not list(tmp_path.glob("out.db*"))


@pytest.mark.parametrize(
    "script",
    [
        "os.kill(os.getpid(), signal.SIGSEGV)",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "os.abort()",
        "sys.exit(3)",
        "raise ValueError('row contents')",
        "print('no outcome')",
        "pass",
    ],
)
async def test_convert_process_that_dies_is_a_crash(
    tmp_path: Path, scratch: Path, fake: Callable[[str], None], script: str
) -> None:
    """However the process ends without an outcome, the upload gets an answer and the rest stays."""
    fake(script)
    refusal = await _refuse(_conversion(tmp_path), scratch)
    assert refusal.code == "converter-crashed"
    assert "row contents" not in str(refusal.document())


async def test_convert_process_whose_parent_dies_ends(tmp_path: Path, scratch: Path) -> None:
    """A converter does not outlive the server, also when that is killed with kill -9."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    script = f"""
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {str(Path(parent.__file__).parents[1])!r})
from ingest.convert import convert
from ingest.converters import Conversion, Limits
from ingest.nursery import Nursery
conversion = Conversion(
    input=Path({str(fifo)!r}), output=Path({str(tmp_path / "out.db")!r}), format="csv", table="t")
asyncio.run(convert(conversion, limits=Limits(), nursery=Nursery(Path({str(scratch)!r}))))
"""
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    try:
        async with asyncio.timeout(DEADLINE_S):
            # The converter waits for a writer of its input: by then it is on its leash.
            descriptor = await asyncio.to_thread(os.open, fifo, os.O_WRONLY)
            (nursery,) = _children(server.pid)
            (pid,) = _children(nursery)
        server.send_signal(signal.SIGKILL)
        await server.wait()
        await _until_gone(pid)
        os.close(descriptor)
    finally:
        if server.returncode is None:
            server.kill()
            await server.wait()
