"""The cage: what a converter's process may use, and what it cannot reach.

On Linux the process gives up the network, the sight of other processes' memory and environment, and
every privilege, by namespaces (namespaces(7)) and prctl(2). Whatever it starts dies with it: the
processes lie in a PID namespace that ends with its first process. A platform that refuses
namespaces leaves the limits, the empty environment and the process group.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingest.converters import Limits

CPU_GRACE_S = 5  # from the signal that ends the process to the one that cannot fail to
MAX_PROCESSES = 512  # threads too; counted where there is a user namespace to count in

# Source: linux/sched.h, linux/prctl.h, linux/capability.h.
_CLONE_NEWIPC, _CLONE_NEWUSER = 0x08000000, 0x10000000
_CLONE_NEWPID, _CLONE_NEWNET = 0x20000000, 0x40000000
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522


def enter_cage(limits: Limits) -> str | None:
    """Limit and lock in this process for good; to be called before it has threads.

    It returns in a child of the process that called: the caller itself only waits for that child,
    and ends as it does, when everything that the child started has been killed.

    Returns:
        What the platform refused, for the log; None where it refused nothing.
    """
    set_limits(limits)
    if sys.platform != "linux":
        return f"{sys.platform} has no namespaces"
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    refused = _unshare(libc)
    _drop_capabilities(libc)
    if refused is None:
        _stay_behind()
    return refused


def set_limits(limits: Limits) -> None:
    """Limit what this process, and each that it starts, may use."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.output_bytes, limits.output_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s + CPU_GRACE_S))
    # Python ignores it, and SQLite would call a file that is too large a disk that is full.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


def _unshare(libc: ctypes.CDLL) -> str | None:
    """Leave the network, and the world that this process has privileges in; else say why not."""
    user, group = os.geteuid(), os.getegid()
    others = _CLONE_NEWNET | _CLONE_NEWIPC | _CLONE_NEWPID
    if libc.unshare(_CLONE_NEWUSER | others) != 0:
        # A container that lets nobody make a user namespace may still let root make the others.
        return None if libc.unshare(others) == 0 else os.strerror(ctypes.get_errno())
    with contextlib.suppress(OSError):  # without it, files belong to "nobody" as seen from here
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with contextlib.suppress(ValueError, OSError):  # a lower limit is there already
        resource.setrlimit(resource.RLIMIT_NPROC, (MAX_PROCESSES, MAX_PROCESSES))
    return None


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Give up what root may do, here and in the namespaces that were just made."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _check(libc.capset(header, nothing))


def _stay_behind() -> None:
    """Go on in a child that lies in the PID namespace; wait for it here, and end as it did."""
    read_end, write_end = os.pipe()
    keeper = os.fork()
    if keeper == 0:  # the namespace's first process: when it ends, all in it are killed
        _keep_namespace(read_end)
    worker = os.fork()
    if worker == 0:
        os.close(read_end)
        os.close(write_end)
        return
    _, status = os.waitpid(worker, 0)
    os.close(write_end)
    os.waitpid(keeper, 0)  # it is not gone before all others are
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) != signal.SIGKILL:
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


def _keep_namespace(read_end: int) -> None:
    """Live until the process that waits outside ends, however it does."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans are handed to this process
    os.dup2(read_end, 0)
    os.closerange(1, os.sysconf("SC_OPEN_MAX"))
    os.read(0, 1)
    os._exit(0)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
