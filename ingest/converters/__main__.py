"""The process that converters are forked from: it has imported what most files need.

The service holds the other end of its standard input, a Unix socket. Each message there is the
folder that a converter is to work in, with three descriptors: a socket to take the request from and
to answer on, a file for what it complains of, and a socket for what becomes of it. On that there
are two lines: ``pid N``, from the converter itself, once it leads a group of its own; ``status N``,
from here, when it has ended (below 0: by that signal).

It handles nothing that anybody has uploaded, and ends, with all converters, when the service does.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from headrace.forking import become_child, hear_children, leave, reap, settle
from headrace.leash import die_with_parent
from ingest.converters.process import main as convert

MAX_ORDER_BYTES = 8192  # the path of a folder
DESCRIPTORS = 3
_BARE = "bare"  # argument: nothing is imported before it is needed
_PRELOADED = ("ingest.converters.delimited", "ingest.converters.json_records")


def main() -> None:
    """Fork converters until standard input ends."""
    die_with_parent()
    if _BARE not in sys.argv:
        _import_ahead()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the service alone
    wake = hear_children()
    orders = socket.socket(fileno=os.dup(0))
    settle()
    fates: dict[int, int] = {}  # the socket for what becomes of a converter, by its process id
    while True:
        readable, _, _ = select.select([orders.fileno(), wake], [], [])
        if wake in readable:
            os.read(wake, select.PIPE_BUF)
            _reap(fates)
        if orders.fileno() in readable:
            folder, descriptors, _, _ = socket.recv_fds(orders, MAX_ORDER_BYTES, DESCRIPTORS)
            if not folder:
                break
            talk, complaint, fate = descriptors
            pid = _fork(Path(os.fsdecode(folder)), talk, complaint, fate)
            fates[pid] = fate
            os.close(talk)
            os.close(complaint)
    for pid in fates:
        os.kill(pid, signal.SIGKILL)


def _import_ahead() -> None:
    """Import what most files need; if that starts threads, which the cage forbids, begin anew."""
    for name in _PRELOADED:
        importlib.import_module(name)
    tasks = Path("/proc/self/task")
    if tasks.exists() and len(list(tasks.iterdir())) > 1:
        os.execv(sys.executable, [*sys.orig_argv, _BARE])  # noqa: S606 - its own


def _fork(folder: Path, talk: int, complaint: int, fate: int) -> int:
    """Fork a converter; give its process id."""
    nursery_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become_converter(nursery_pid, folder, talk, complaint, fate)
    return pid


def _become_converter(
    nursery_pid: int, folder: Path, talk: int, complaint: int, fate: int
) -> NoReturn:
    """Leave all that is the nursery's behind, and convert."""
    try:
        become_child(nursery_pid)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.setsid()  # a group of its own, to be killed as one
        os.write(fate, f"pid {os.getpid()}\n".encode())
        for ours, standard in ((talk, 0), (talk, 1), (complaint, 2)):
            os.dup2(ours, standard)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.chdir(folder)
        os.environ["HOME"] = os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
        convert()
    except SystemExit as exc:
        leave(exc.code if isinstance(exc.code, int) else 1)
    except BaseException:  # noqa: BLE001 - this is the last frame of the process
        sys.excepthook(*sys.exc_info())
        leave(1)
    leave(0)


def _reap(fates: dict[int, int]) -> None:
    """Tell what became of those that have ended."""
    for pid, status in reap(list(fates)):
        fate = fates.pop(pid)
        with suppress(OSError):  # nobody waits for it any more
            os.write(fate, f"status {status}\n".encode())
        os.close(fate)


if __name__ == "__main__":
    main()
