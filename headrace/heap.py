"""How much memory of the C library's heap a process keeps.

Both do nothing where the C library is not glibc.

Source: mallopt(3), malloc_trim(3); the number of ``M_ARENA_MAX`` is glibc's, ``malloc/malloc.h``.
"""

from __future__ import annotations

import ctypes
import os

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
