"""Sets of workers that are out of service and still answer requests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from serve.metrics import ReaderMetrics
    from serve.nursery import Nursery
    from serve.workers import WorkerSet

log = structlog.get_logger()

DRAIN_S = 30.0  # for requests that are being answered, long CSV exports included
AT_MOST = 8  # sets: more would fill the memory with workers
# What the oldest of so many has at least. Who reads one export of each generation, and slowly,
# would hold all news back with the whole of `DRAIN_S`; so he does for half a second each.
LEAST_DRAIN_S = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retiring:
    """A set that is being drained.

    Attributes:
        since_s: When that began, on the loop's clock.
        task: Does it.
    """

    since_s: float
    task: asyncio.Task[None]

    @property
    def seconds(self) -> float:
        """How long it has been."""
        return asyncio.get_running_loop().time() - self.since_s


class Retirement:
    """Drains sets; each becomes the spare or is stopped.

    Args:
        offer: Takes a drained set over as a spare, or tells that it does not.
        after: Called when a set does not use its slots any more.
        metrics: Counts steps.

    Attributes:
        retiring: The sets, the oldest first.
        waited_for: Whether a switch waits for one of them.
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
        self.retiring: dict[WorkerSet, Retiring] = {}
        self.waited_for = False

    @property
    def slots(self) -> Iterator[Path]:
        """The files that these sets may still read."""
        return (slot for each in self.retiring for slot in each.slots.values())

    def uses(self, nursery: Nursery) -> bool:
        """Tell whether one of the sets was forked from a nursery."""
        return any(each.nursery is nursery for each in self.retiring)

    def retire(self, old: WorkerSet) -> None:
        """Drain a set in the background."""
        self.retiring[old] = Retiring(
            since_s=asyncio.get_running_loop().time(), task=asyncio.create_task(self._retire(old))
        )

    async def wait_room(self) -> None:
        """Wait until there are not too many sets; the oldest is stopped once it had its least."""
        try:
            while len(self.retiring) >= AT_MOST:
                self.waited_for = True
                oldest, retiring = next(iter(self.retiring.items()))
                done, _ = await asyncio.wait(
                    [each.task for each in self.retiring.values()],
                    timeout=max(LEAST_DRAIN_S - retiring.seconds, 0.0),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not done and oldest in self.retiring:
                    await self._cut_short(oldest)
        finally:
            self.waited_for = False

    async def stop(self) -> None:
        """Stop all sets now."""
        tasks, old = [each.task for each in self.retiring.values()], list(self.retiring)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(each.stop() for each in old))
        self.retiring.clear()

    async def _cut_short(self, old: WorkerSet) -> None:
        log.warning(
            "drain cut short",
            generation=old.state.number,
            requests=old.in_flight,
            draining=len(self.retiring),
        )
        task = self.retiring[old].task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self._end(old, at_once=True)
        del self.retiring[old]
        await self._after()

    async def _retire(self, old: WorkerSet) -> None:
        with self._metrics.step("retire"):
            if not await old.drain(DRAIN_S) or not self._offer(old):
                await self._end(old)
        del self.retiring[old]
        await self._after()

    async def _end(self, old: WorkerSet, *, at_once: bool = False) -> None:
        try:
            await old.stop(at_once=at_once)
        except Exception:  # switches go on, whatever it is
            log.exception("set not stopped", generation=old.state.number)
