"""Stopping: SIGINT or SIGTERM begins it, and by one deadline all of it is over.

Each part of a stop has a share of the time, counted from the signal. A second signal, a second or
more after the first, cuts what is left to ``HURRY_S``. A process that still runs ``SLACK_S`` after
the deadline (a thread cannot be cancelled) ends as if it were killed: the next start goes on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

log = structlog.get_logger()

HURRY_S = 5.0
SLACK_S = 1.0
SAME_S = 1.0  # two signals so near are one: of a process manager to all of a group, and of a parent
TOO_LATE = 1  # exit code


class Stop:
    """One stop of this process.

    Args:
        timeout_s: For all of it.

    Attributes:
        asked: Set when it begins.
        hurried: Set when it was asked for once more.
    """

    def __init__(self, timeout_s: float) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()
        self._timeout_s = timeout_s
        self._began_s = 0.0  # the loop's time
        self._limits: dict[asyncio.Timeout, float] = {}  # with their shares
        self._enforced = False
        self._last_resort: threading.Timer | None = None

    def listen(self) -> None:
        """Let the signals to this process ask, and end it when its time is over."""
        self._enforced = True
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self.ask)

    def ask(self) -> None:
        """Begin; asked again a while later, hurry."""
        if not self.asked.is_set():
            self._begin()
            self.asked.set()
        elif _now_s() - self._began_s >= SAME_S:
            self.hurry()

    def hurry(self) -> None:
        """Stop now, with little time for what has to be."""
        if not self.hurried.is_set():
            self._timeout_s = min(self.left_s(), self._timeout_s, HURRY_S)
            self._begin()
            self.hurried.set()
            self.asked.set()

    def left_s(self, share: float = 1.0) -> float:
        """Give the time until a share of it is over; infinite while nobody has asked."""
        if not self.asked.is_set():
            return float("inf")
        return max(self._end_s(share) - _now_s(), 0.0)

    @asynccontextmanager
    async def limit(self, share: float) -> AsyncIterator[None]:
        """Bound the block to a share of the time, as soon as there is a stop.

        Raises:
            TimeoutError: It is over.
        """
        async with asyncio.timeout(None) as limit:
            self._limits[limit] = share
            if self.asked.is_set():
                limit.reschedule(self._end_s(share))
            try:
                yield
            finally:
                del self._limits[limit]

    def _begin(self) -> None:
        self._began_s = _now_s()
        for limit, share in self._limits.items():
            if not limit.expired():
                limit.reschedule(self._end_s(share))
        if self._last_resort is not None:
            self._last_resort.cancel()
        if self._enforced:
            self._last_resort = threading.Timer(self._timeout_s + SLACK_S, _end_late)
            self._last_resort.daemon = True
            self._last_resort.start()

    def _end_s(self, share: float) -> float:
        return self._began_s + share * self._timeout_s


def _end_late() -> None:
    log.error("stop took too long: ended")
    os._exit(TOO_LATE)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
