"""Keep what a process holds from other processes of the same user.

Source: prctl(2), PR_SET_DUMPABLE; proc(5) on ``/proc/pid/environ`` and ``/proc/pid/mem``. Linux
only. It is not kept across execve(2): a program that is started can be looked at again.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_DUMPABLE = 4  # linux/prctl.h


def forbid_inspection() -> None:
    """Refuse this process's environment and memory to all but a root with CAP_SYS_PTRACE."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
