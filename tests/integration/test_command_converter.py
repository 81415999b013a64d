"""Programs that convert: what they get, what they may do, what is believed of them."""

from __future__ import annotations

import errno
import json
import os
import shlex
import sqlite3
import sys
import textwrap
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from headrace.converter_command import split_command
from headrace.errors import Refusal
from ingest.converters import BUILT_IN, Conversion, Limits, TableRows
from ingest.converters.registry import Converter
from tests.conftest import wait_for
from tests.converting import convert_alone

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024**2

# Begins each tool: what it was asked for, and a database to put something into.
TOOL = """
import os, sqlite3, sys
source, made, *rest = sys.argv[1:]
db = sqlite3.connect(made, isolation_level=None)
"""

Ask = Callable[..., Conversion]  # a script for the tool, and what is sent to it


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Give the folder that conversions work in."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Give a function that makes a conversion by a tool, a script that it is given."""

    def make(script: str, *more: str, filename: str = "a.x", table: str = "t") -> Conversion:
        tool = tmp_path / "tool.py"
        tool.write_text(TOOL + textwrap.dedent(script))
        command = shlex.join([sys.executable, str(tool), "{input}", "{output}", *more])
        converter = Converter(
            name="tool",
            convert="ingest.converters.command:convert",
            match=("*.x",),
            settings={"command": split_command(command)},
        )
        source = tmp_path / "spooled"
        source.write_bytes(b"sent")
        return Conversion(
            input=source,
            output=tmp_path / "out.db",
            format="tool",
            table=table,
            filename=filename,
            registry=replace(BUILT_IN, added=(converter,)),
        )

    return make


async def _refuse(conversion: Conversion, scratch: Path, limits: Limits | None = None) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await convert_alone(conversion, limits=limits or Limits(), scratch=scratch)
    assert not list(scratch.iterdir())
    assert not list(conversion.output.parent.glob("out.db*"))
    return caught.value


async def _facts(conversion: Conversion, scratch: Path) -> dict[str, str]:
    """Convert by a tool that makes a table of names and texts."""
    await convert_alone(conversion, limits=Limits(), scratch=scratch)
    with closing(sqlite3.connect(conversion.output)) as connection:
        return dict(connection.execute("SELECT * FROM facts").fetchall())


@pytest.mark.parametrize(
    "filename",
    ["my file.x", "a'; touch gone; '.x", "$(id).x", "-rf.x", "é{table}.x", "../../up.x", "n" * 255],
)
async def test_command_gets_the_file_under_its_own_name(
    ask: Ask, scratch: Path, filename: str
) -> None:
    """Whatever a file is called, the tool gets its path as one argument, and keeps its ending."""
    conversion = ask(
        """
        db.execute("CREATE TABLE facts (name, fact)")
        facts = {"name": os.path.basename(source), "read": open(source).read()}
        db.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())
        """,
        filename=filename,
    )
    facts = await _facts(conversion, scratch)
    assert facts["name"] == filename.replace("/", "_")[-50 if len(filename) > 200 else 0 :]
    assert facts["read"] == "sent"


async def test_command_gets_no_secret_and_its_own_folder(
    ask: Ask, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tool's environment is made from nothing; programs beside our Python are found."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-tests")
    conversion = ask(
        """
        import json
        db.execute("CREATE TABLE facts (name, fact)")
        facts = {"environ": json.dumps(dict(os.environ)), "cwd": os.getcwd()}
        db.executemany("INSERT INTO facts VALUES (?, ?)", facts.items())
        """
    )
    facts = await _facts(conversion, scratch)
    environ = json.loads(facts["environ"])
    assert "of-tests" not in facts["environ"]
    assert "PYTHONPATH" not in environ
    assert environ["PATH"].split(":")[0] == os.path.dirname(sys.executable)  # noqa: PTH120
    assert facts["cwd"].startswith(f"{scratch}/")


async def test_command_makes_tables_that_are_counted(ask: Ask, scratch: Path) -> None:
    """Every table that the tool made is there with its rows; `{table}` names one."""
    conversion = ask(
        """
        db.execute(f'CREATE TABLE "{rest[0]}" (a)')
        db.execute("CREATE TABLE other (a)")
        db.execute("INSERT INTO other VALUES (1), (2)")
        """,
        "{table}",
        table="my table",
    )
    converted = await convert_alone(conversion, limits=Limits(), scratch=scratch)
    assert converted.tables == (
        TableRows(name="my table", rows=0),
        TableRows(name="other", rows=2),
    )


async def test_command_that_leaves_a_wal_loses_nothing(ask: Ask, scratch: Path) -> None:
    """A tool that ends without closing its database has still written it."""
    conversion = ask(
        """
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE t (a)")
        db.execute("INSERT INTO t VALUES (1)")
        os._exit(0)
        """
    )
    converted = await convert_alone(conversion, limits=Limits(), scratch=scratch)
    assert converted.tables == (TableRows(name="t", rows=1),)


async def test_command_table_that_looks_like_an_option_is_refused(ask: Ask, scratch: Path) -> None:
    """An uploader cannot give the tool an option."""
    conversion = ask("", "{table}", table="--load-extension=/x")
    assert (await _refuse(conversion, scratch)).code == "invalid-name"


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ("sys.exit(3)", "converter-failed", "status 3"),
        ("sys.exit('no such column')", "converter-failed", "status 1: no such column"),
        ("os.kill(os.getpid(), 11)", "converter-failed", "signal 11"),
        ("os.unlink(made)", "converter-failed", "no database"),
        ("os.unlink(made); os.symlink('/etc/passwd', made)", "converter-failed", "no database"),
        ("open(made, 'w').write('no database at all')", "converter-failed", "damaged"),
        ("open(made, 'wb').write(b'SQLite format 3\\0' + b'x' * 9000)", "converter-failed", ""),
        ("db.execute('CREATE VIEW v AS SELECT 1')", "no-rows", "no table"),
        ("sys.exit('No space left on device')", "disk-full", "full"),
        ("raise MemoryError", "limit-exceeded", "memory"),
        ("os.kill(os.getpid(), 24)", "limit-exceeded", "cpu"),
    ],
)
async def test_command_that_fails_is_refused(
    ask: Ask, scratch: Path, script: str, code: str, words: str
) -> None:
    """However a tool fails, the upload gets an answer that says how, and nothing is left."""
    refusal = await _refuse(ask(script), scratch)
    assert refusal.code == code
    assert words in refusal.detail


async def test_command_is_quoted_by_its_last_lines(ask: Ask, scratch: Path) -> None:
    """However much a tool complains, a few printable lines of it are shown, without our folders."""
    conversion = ask(
        """
        print("on stdout")
        for number in range(100_000):
            print("line", number, file=sys.stderr)
        print("\\x1b[31mcannot read", source, file=sys.stderr)
        sys.exit(1)
        """,
        filename="sent.x",
    )
    refusal = await _refuse(conversion, scratch)
    stderr = refusal.extra["stderr"]
    assert len(stderr) == 10
    assert stderr[-2:] == ["line 99999", "[31mcannot read sent.x"]
    assert refusal.detail.endswith("status 1: [31mcannot read sent.x")


@pytest.mark.parametrize(
    "script",
    [
        "open(made, 'wb').write(bytes(20_000_000))",
        "db.execute('CREATE TABLE t (a)'); db.execute('INSERT INTO t VALUES (zeroblob(20000000))')",
    ],
)
async def test_command_cannot_write_more_than_a_conversion_may(
    ask: Ask, scratch: Path, script: str
) -> None:
    """The limits of the conversion hold for the tool, whatever it makes of them."""
    conversion = ask(script)
    refusal = await _refuse(conversion, scratch, Limits(output_bytes=MIB))
    assert (refusal.code, refusal.extra) == ("limit-exceeded", {"limit": "output"})


async def test_command_that_never_ends_is_killed(ask: Ask, scratch: Path, tmp_path: Path) -> None:
    """At the deadline the tool is gone too, also one that wants to stay."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    conversion = ask(
        f"""
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.read(os.open({str(fifo)!r}, os.O_RDWR), 1)
        """
    )
    refusal = await _refuse(conversion, scratch, Limits(wall_s=2.0))
    assert (refusal.code, refusal.extra) == ("limit-exceeded", {"limit": "wall"})

    def is_gone() -> bool:
        try:
            os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        except OSError as exc:
            return exc.errno == errno.ENXIO  # no process has it open to read
        return False

    wait_for(is_gone)  # it was sent SIGKILL, and takes a moment to be gone
