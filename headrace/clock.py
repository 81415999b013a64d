"""Clocks that never jump. The machine's date may: it is corrected, set by hand, or simply wrong.

So what is waited for or compared goes by ``boot_s``, and what has to be compared over restarts and
machines by the object store's date, carried on by ``boot_s`` (``SteadyClock``). The machine's own
date (``datetime.now``) is written down for people only.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta

# It goes on while the machine is suspended, and is never set. Source: clock_gettime(2).
_BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_s() -> float:
    """Give the seconds since the machine started, or another moment that stays the same."""
    return time.clock_gettime(_BOOT)


class SteadyClock:
    """A date that goes on by itself, whatever the machine's date does.

    Args:
        now: The date now.
    """

    def __init__(self, now: datetime) -> None:
        self._began_at = now
        self._began_s = boot_s()

    def now(self) -> datetime:
        """Give the date."""
        return self._began_at + timedelta(seconds=boot_s() - self._began_s)
