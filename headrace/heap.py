"""How much memory of the C library's heap a process keeps.

Both do nothing where the C library is not glibc.

Source: mallopt(3), malloc_trim(3); the number of ``M_ARENA_MAX`` is glibc's, ``malloc/malloc.h``.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time

LOOK_EVERY_S = 1.0
RESTS_BELOW_S = 0.02  # of CPU time between two looks
WORTH_S = 0.1  # of CPU time since heap was last given back: what less than that has freed is little

_M_ARENA_MAX = -8


def use_one_heap() -> None:
    """Let all threads share one heap: each of its own would keep what it has freed.

    To be called before there are threads. An environment that sets ``MALLOC_ARENA_MAX`` wins.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_M_ARENA_MAX, 1)


def give_back_heap() -> None:
    """Give the kernel back what has been freed."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


async def give_back_heap_at_rest() -> None:
    """Give it back each time that the process comes to rest, until cancelled.

    The C library keeps what lies below something that is in use. In a reader's edge that were 3 MB
    after a few pages, mostly of compressing them.
    """
    given_s, used_s = 0.0, time.process_time()
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        before_s, used_s = used_s, time.process_time()
        if used_s - before_s < RESTS_BELOW_S and used_s - given_s > WORTH_S:
            give_back_heap()
            given_s = used_s
