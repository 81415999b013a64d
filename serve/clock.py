"""A clock that goes on while this machine is suspended, and that notices when it was.

Three clocks of the system show different sleeps. A process that is stopped finds all of them ahead.
While a kernel is suspended CLOCK_MONOTONIC, and with it every timer of the event loop, stands
still, and CLOCK_BOOTTIME goes on. A machine that is brought back from a snapshot finds neither
moved: only the time of day is ahead, once somebody has set it.

Source: clock_gettime(2); Fly's "Machine Suspend and Resume": it uses snapshots of Firecracker.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from headrace.clock import boot_s

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_EVERY_S = 1.0
NAP_S = 5.0  # between two looks: no loop is that busy. Less of the time of day is a correction


class Clock:
    """Counts seconds, those in which nothing ran among them.

    Args:
        read: Gives the seconds of CLOCK_MONOTONIC, of CLOCK_BOOTTIME, and the time of day.

    Attributes:
        naps: How often more than ``NAP_S`` passed between two looks.
    """

    def __init__(self, read: Callable[[], tuple[float, float, float]] | None = None) -> None:
        self.naps = 0
        self._read = read or read_clocks
        self._last = self._read()
        self._now_s = 0.0
        self._napping = asyncio.Event()

    def now_s(self) -> float:
        """Look at the time: seconds since the clock was made. It never goes back."""
        before, self._last = self._last, self._read()
        steady_s, boot_s, day_s = (new - old for new, old in zip(self._last, before, strict=True))
        passed_s = max(steady_s, boot_s, day_s if day_s - steady_s > NAP_S else 0.0)
        self._now_s += passed_s
        if passed_s > NAP_S:
            self.naps += 1
            self._napping.set()
            self._napping = asyncio.Event()
        return self._now_s

    async def run(self) -> None:
        """Look now and then, until cancelled: else any pause between two looks would be a nap."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.now_s()

    async def wait_nap(self) -> None:
        """Wait for the end of the next nap."""
        await self._napping.wait()


def read_clocks() -> tuple[float, float, float]:
    """Read the three clocks, in seconds."""
    return time.monotonic(), boot_s(), time.time()
