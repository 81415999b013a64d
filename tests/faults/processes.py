"""The processes of a system: kept running as a process manager does, killed and paused as told."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.leash import leashed
from tests.conftest import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RESTART_S = 0.2  # after which what has ended is started again
LOOK_S = 0.02


class Process:
    """One program that is to run.

    Args:
        name: For the history.
        command: Program and arguments.
        env: Its environment.
        output: File that its output is added to.
    """

    def __init__(self, name: str, command: list[str], env: Mapping[str, str], output: Path) -> None:
        self.name = name
        self.wanted = False
        self.popen: subprocess.Popen[bytes] | None = None
        self._command = command
        self._env = dict(env)
        self._output = output
        self._start_at_s = 0.0

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self.popen.pid if self.popen and self.popen.poll() is None else None

    def look(self) -> int | None:
        """Start it if it is due; give the exit code when it has ended since the last look."""
        if self.popen is not None and (code := self.popen.poll()) is not None:
            self.popen = None
            self._start_at_s = time.monotonic() + RESTART_S
            return code
        if self.wanted and self.popen is None and time.monotonic() >= self._start_at_s:
            with self._output.open("ab") as output:
                self.popen = subprocess.Popen(
                    leashed(*self._command), stdout=output, stderr=output, env=self._env
                )
        return None

    def stop(self, number: signal.Signals) -> None:
        """Have it end by a signal, and not start again; returns when all of it is gone."""
        self.wanted = False
        pid = self.pid
        if pid is not None:
            tree = [pid, *descendants(pid)]
            for each in (signal.SIGCONT, number):
                send(pid, each)
            wait_for(lambda: self.pid is None and not any(map(is_alive, tree)), timeout_s=90)


class Keeper(threading.Thread):
    """Starts processes, and starts them again when they end.

    All are tied to this thread: the kernel ends them when it ends.
    """

    def __init__(self, note_exit: Callable[[Process, int], None]) -> None:
        super().__init__(daemon=True)
        self.done = threading.Event()
        self.processes: list[Process] = []
        self._note_exit = note_exit

    def run(self) -> None:
        """Look after them until told to end."""
        while not self.done.wait(LOOK_S):
            for process in list(self.processes):
                code = process.look()
                if code is not None:
                    self._note_exit(process, code)


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def is_alive(pid: int) -> bool:
    """Say whether there is such a process, and it has not ended."""
    found = _stat(pid)
    return found is not None and found[0] != "Z"


def descendants(pid: int) -> list[int]:
    """List the processes below one, by their ids."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (found := _stat(int(folder.name))) and found[0] != "Z":
            children.setdefault(found[1], []).append(int(folder.name))
    below, left = [], [pid]
    while left:
        for child in children.get(left.pop(), ()):
            below.append(child)
            left.append(child)
    return sorted(below)


def command_of(pid: int) -> str:
    """Give a process's command line; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def parent_of(pid: int) -> int | None:
    """Give the id of a process's parent, if it is there."""
    found = _stat(pid)
    return found and found[1]


def _stat(pid: int) -> tuple[str, int] | None:
    """Give a process's state and parent."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return stat[0], int(stat[1])
