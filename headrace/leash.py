"""Processes that end when their parent does, also when the parent is killed with ``kill -9``.

Python processes call ``die_with_parent``; other programs are started through
``python -m headrace.leash PROGRAM ARG…``, which ties itself and then becomes the program.

Source: prctl(2), PR_SET_PDEATHSIG; it is kept across execve(2). Linux only: elsewhere an orphan
lives until it is stopped.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent_pid: int | None = None) -> None:
    """Ask the kernel to kill this process when its parent ends.

    Args:
        parent_pid: The parent as it was when this process was started. If it is gone already, the
            kernel's signal would never come: then this process ends at once.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot set the parent death signal")
    if parent_pid is not None and os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)


def leashed(*command: str) -> list[str]:
    """Give the command line that runs a program on a leash held by this process."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - the command is this program's own
