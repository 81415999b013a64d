"""What the processes that others are forked from have in common: one thread, and no event loop."""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from headrace.heap import give_back_heap
from headrace.leash import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def settle() -> None:
    """Make ready to be forked: what children share with this, they shall neither touch nor copy."""
    gc.collect()
    gc.freeze()  # collections in children do not touch it
    give_back_heap()  # what imports have freed, children would copy to use it again


def hear_children() -> int:
    """Give a descriptor that is readable when a child has ended; what is read from it says nothing.

    It does not block.
    """
    wake_read, wake_write = os.pipe()
    for descriptor in (wake_read, wake_write):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return wake_read


def reap(pids: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Give those children that have ended, each with its exit status; below 0: by that signal."""
    for pid in pids:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            yield pid, os.waitstatus_to_exitcode(status)


def become_child(parent_pid: int) -> None:
    """Leave behind what a child has of its parent's ways; end when that does."""
    die_with_parent(parent_pid)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def leave(status: int) -> NoReturn:
    """End a child: all that it has printed is there, and nothing is done that is its parent's."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
