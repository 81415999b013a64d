"""Sets of workers that are out of service and still answer requests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from serve.metrics import ReaderMetrics
    from serve.nursery import Nursery
    from serve.workers import WorkerSet

DRAIN_S = 30.0  # for requests that are being answered, long CSV exports included
AT_MOST = 8  # sets; a switch waits for one of them, rather than fill the memory with workers


class Retirement:
    """Drains sets; each becomes the spare or is stopped.

    Args:
        offer: Takes a drained set over as a spare, or tells that it does not.
        after: Called when a set does not use its slots any more.
        metrics: Counts steps.
    """

    def __init__(
        self,
        offer: Callable[[WorkerSet], bool],
        after: Callable[[], Awaitable[None]],
        metrics: ReaderMetrics,
    ) -> None:
        self._offer = offer
        self._after = after
        self._metrics = metrics
        self._retiring: dict[WorkerSet, asyncio.Task[None]] = {}

    @property
    def slots(self) -> Iterator[Path]:
        """The files that these sets may still read."""
        return (slot for each in self._retiring for slot in each.slots.values())

    def uses(self, nursery: Nursery) -> bool:
        """Tell whether one of the sets was forked from a nursery."""
        return any(each.nursery is nursery for each in self._retiring)

    def retire(self, old: WorkerSet) -> None:
        """Drain a set in the background."""
        self._retiring[old] = asyncio.create_task(self._retire(old))

    async def wait_room(self) -> None:
        """Wait until there are not too many sets; each has its deadline."""
        while len(self._retiring) >= AT_MOST:
            await asyncio.wait(self._retiring.values(), return_when=asyncio.FIRST_COMPLETED)

    async def stop(self) -> None:
        """Stop all sets now."""
        tasks, old = list(self._retiring.values()), list(self._retiring)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(each.stop() for each in old))
        self._retiring.clear()

    async def _retire(self, old: WorkerSet) -> None:
        with self._metrics.step("retire"):
            if not await old.drain(DRAIN_S) or not self._offer(old):
                await old.stop()
        del self._retiring[old]
        await self._after()
