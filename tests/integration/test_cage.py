"""What a converter's process cannot reach, whatever the file makes it do."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ingest.converters import Conversion, Limits
from tests.conftest import wait_for
from tests.converting import convert_alone

ROOT = Path(__file__).parents[2]
DEADLINE_S = 30.0

# A process that does in the cage what it is told, and prints what came of it.
CAGED = """
import json, os, socket, subprocess, sys
from pathlib import Path
from ingest.converters import Limits
from ingest.converters.cage import enter_cage
parent, outer = os.getppid(), os.getpid()
refused = enter_cage(Limits())
def attempt(act):
    try:
        return repr(act())
    except Exception as exc:
        return type(exc).__name__
"""


def _in_cage(script: str) -> Any:
    """Run a script in the cage; give what it prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", CAGED + script],
        capture_output=True,
        check=True,
        timeout=DEADLINE_S,
        env={"PYTHONPATH": str(ROOT), "PATH": os.defpath},
    )
    return json.loads(done.stdout)


@pytest.fixture(autouse=True)
def _cage_is_there() -> None:
    """Where the platform gives no namespaces, nothing here holds: that is a failure to know of."""
    assert _in_cage("print(json.dumps(refused))") is None


def test_caged_process_reaches_no_server_of_the_machine() -> None:
    """A socket of the machine, also of its own address, cannot be reached, nor anything beyond."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port)).close()
        found = _in_cage(
            "def send(address):\n"
            "    socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', address)\n"
            f"places = (('127.0.0.1', {port}), ('192.0.2.1', 80))\n"
            "print(json.dumps([attempt(lambda: act(place)) for place in places"
            " for act in (send, socket.create_connection)]))"
        )
    # UDP is refused by the empty namespace, TCP by Landlock before it gets there.
    assert found == ["OSError", "PermissionError"] * 2


def test_caged_process_cannot_read_what_the_service_holds() -> None:
    """Neither environment nor memory of the processes outside can be read, also not as root."""
    found = _in_cage(
        "print(json.dumps([attempt(lambda: open(f'/proc/{parent}/{name}', 'rb').read(1))"
        " for name in ('environ', 'mem', 'maps')]))"
    )
    assert set(found) == {"PermissionError"}


def test_process_that_forbids_inspection_cannot_be_read_without_privileges() -> None:
    """Also where there is no user namespace, the service's own environment is kept from others."""
    script = (
        "from headrace.privacy import forbid_inspection\n"
        "forbid_inspection()\n"
        "print(flush=True)\n"
        "input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT), "HEADRACE_TOKEN": "secret"},
    ) as service:
        assert service.stdout is not None
        service.stdout.readline()
        # Without a namespace: the cage's process drops its capabilities all the same.
        script = (
            f"import ingest.converters.cage as cage\ncage._unshare = lambda _: 'no'\n{CAGED}"
            f"print(json.dumps(attempt(lambda: open('/proc/{service.pid}/environ').read())))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            check=True,
            timeout=DEADLINE_S,
            env={"PYTHONPATH": str(ROOT)},
        )
        service.communicate(b"\n")
    assert json.loads(done.stdout) == "PermissionError"


def test_caged_process_cannot_read_hidden_files(tmp_path: Path) -> None:
    """The service's own files cannot be read, the one to convert can; others are as they were."""
    for name in ("data/token", "data/spool/other", "data/spool/mine", "data/out/x", "beside"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
    script = (
        f"root = Path({str(tmp_path)!r})\n"
        "print(json.dumps([attempt(lambda: (root / name).read_text()) for name in"
        " ('data/token', 'data/spool/other', 'data/spool/mine', 'data/out/x', 'beside')]))"
    )
    entering = CAGED.replace(
        "enter_cage(Limits())",
        f"enter_cage(Limits(hidden=({str(tmp_path / 'data')!r},)), readable=["
        f"Path({str(tmp_path / 'data/spool/mine')!r}), Path({str(tmp_path / 'data/out')!r})])",
    )
    done = subprocess.run(
        [sys.executable, "-c", entering + script],
        capture_output=True,
        check=True,
        timeout=DEADLINE_S,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert json.loads(done.stdout) == ["PermissionError"] * 2 + ["'text'"] * 3


def test_caged_process_has_no_privileges_and_gets_none() -> None:
    """No capability is left, and no program that is started brings one back."""
    shown = "open('/proc/self/status').read()"
    program = f"import sys; sys.stdout.write({shown})"
    found = _in_cage(
        f"print(json.dumps([{shown}, subprocess.run([sys.executable, '-c', {program!r}],"
        f" capture_output=True, text=True).stdout]))"
    )
    for status in found:
        fields = dict(line.split(":\t", 1) for line in status.splitlines())
        assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
        assert fields["NoNewPrivs"] == "1"


def test_caged_process_takes_all_it_started_with_it() -> None:
    """A grandchild that left the group and the session is gone when the process has ended."""
    sleeper = "import os, time; os.setsid(); print(flush=True); time.sleep(600)"
    found = _in_cage(
        f"child = subprocess.Popen([sys.executable, '-c', {sleeper!r}, 'headrace-grandchild',"
        f" str(outer)], stdout=subprocess.PIPE)\n"
        f"child.stdout.readline()\n"
        f"print(json.dumps(outer))"
    )
    mark = f"headrace-grandchild\0{found}\0".encode()
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if mark in _read(path)]


def test_caged_process_ends_with_the_one_outside() -> None:
    """When the process that waits outside is killed, the one inside is killed by the kernel."""
    script = "print(json.dumps(outer), flush=True); import time; time.sleep(600)"
    with subprocess.Popen(
        [sys.executable, "-c", CAGED + script, "headrace-caged"],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT)},
    ) as outer:
        assert outer.stdout is not None
        assert json.loads(outer.stdout.readline()) == outer.pid
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        assert len(children) == 2
        outer.kill()
        outer.wait()
        wait_for(lambda: not any(_runs(int(pid)) for pid in children))


@pytest.mark.parametrize(
    ("script", "status"),
    [("os._exit(7)", 7), ("os.kill(os.getpid(), 11)", -11), ("os.kill(os.getpid(), 9)", -9)],
)
def test_caged_process_ends_are_seen_outside(script: str, status: int) -> None:
    """An exit status or a signal is that of the process which was started."""
    done = subprocess.run(
        [sys.executable, "-c", CAGED + script],
        check=False,
        timeout=DEADLINE_S,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == status


def test_cage_of_platform_that_refuses_still_limits() -> None:
    """Where there are no namespaces, the reason is given and the rest holds: TCP is refused too."""
    # Stands in for a kernel that refuses: this one does not.
    script = (
        "import resource\n"
        "print(json.dumps([refused, resource.getrlimit(resource.RLIMIT_CORE), os.getpid()==outer,"
        " attempt(lambda: socket.create_connection(('127.0.0.1', 1)))]))"
    )
    refusing = CAGED.replace(
        "parent, outer",
        "import ingest.converters.cage as cage\ncage._unshare = lambda _: 'no'\nparent, outer",
    )
    done = subprocess.run(
        [sys.executable, "-c", refusing + script],
        capture_output=True,
        check=True,
        timeout=DEADLINE_S,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert json.loads(done.stdout) == ["namespaces: no", [0, 0], True, "PermissionError"]


async def test_conversion_shows_progress_while_it_runs(tmp_path: Path) -> None:
    """Bytes that a converter reads are seen although it reports none, several times a second."""
    source = tmp_path / "rows.csv"
    source.write_text("a,b\n" + f"1,{'x' * 50}\n" * 4_000_000)
    seen: list[tuple[int, int]] = []
    steps: list[str] = []

    def report(rows: int, size_bytes: int) -> None:
        if steps[-1] == "read":
            seen.append((rows, size_bytes))

    conversion = Conversion(
        input=source,
        output=tmp_path / "out.db",
        format="csv",
        table="t",
        begin=steps.append,
        report=report,
    )
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    await convert_alone(conversion, limits=Limits(), scratch=tmp_path)
    took_s = loop.time() - started_at
    assert len(seen) >= 2 * (took_s - 1.0)  # twice a second, after the start
    assert len(set(seen)) > 1
    assert seen == sorted(seen)
    assert seen[-1] == (4_000_000, source.stat().st_size)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
