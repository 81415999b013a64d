"""What people are told of a reader that has heard nothing for a while, and waiting for its news."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headrace.errors import Refusal

if TYPE_CHECKING:
    from serve.freshness import Freshness
    from serve.switch import Supervisor

# RFC 9111 did away with `Warning: 110`, and `Age` is that of a page since it was rendered.
HEADER = "Headrace-Staleness"
TOLD_FROM_S = 15.0  # after so long without a heartbeat the push is given up as well (follow.py)
WAIT_S = 5.0


class Staleness:
    """How stale the generation in service is.

    Args:
        supervisor: Knows what is in service.
        freshness: Knows when that was the newest.
        max_s: A reader that is staler answers nobody; None: it always does.
    """

    def __init__(
        self, supervisor: Supervisor, freshness: Freshness, max_s: float | None = None
    ) -> None:
        self._supervisor = supervisor
        self._freshness = freshness
        self._max_s = max_s

    def now_s(self) -> float:
        """Give the seconds since what is in service was last known to be the newest."""
        current = self._supervisor.current
        return 0.0 if current is None else self._freshness.staleness_s(current.state)

    def told_s(self) -> int:
        """Give what answers say of it, in seconds; 0 if it is not worth a word."""
        stale_s = self.now_s()
        return int(stale_s) if stale_s >= TOLD_FROM_S else 0

    async def wait(self) -> None:
        """Wait, if there is a limit, until what is in service is fresh enough.

        Raises:
            Refusal: ``too-stale``.
        """
        if self._max_s is None or self.now_s() <= self._max_s:
            return
        try:
            async with asyncio.timeout(WAIT_S):
                await self._wait_fresh(self._max_s)
        except TimeoutError:
            raise Refusal(
                "too-stale",
                f"what is served here was last known to be the newest {self.now_s():.0f} s ago",
                hint="other readers may know more; /-/headrace.json says why this one does not",
            ) from None

    async def _wait_fresh(self, max_s: float) -> None:
        arrivals = self._supervisor.arrivals
        while self.now_s() > max_s:
            news = asyncio.create_task(self._freshness.wait_news())
            switch = asyncio.create_task(arrivals.wait(self._supervisor.generation + 1, WAIT_S))
            try:
                await asyncio.wait([news, switch], return_when=asyncio.FIRST_COMPLETED)
            finally:
                news.cancel()
                switch.cancel()
