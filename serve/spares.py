"""The set that a switch took out of service, kept for the next switch.

Once its requests are answered, it *rests*: it holds no slot open, so slots may be rolled forward
under it. At the next switch it is told only what differs (change.py): nothing is forked at all.
Generations come in bursts, and a resting set holds memory: after a while without a switch it is
stopped, and the next switch forks one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from headrace.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from serve.metrics import ReaderMetrics
    from serve.workers import WorkerSet

log = structlog.get_logger()

KEPT_S = 60.0  # from the last switch
DRAINING_WAIT_S = 0.3  # for a set that is being drained, at a switch that comes before it is
DRESSINGS_AT_MOST = 100  # then a set is forked anew: what plugins pile up has an end


class Spares:
    """Keeps one spare set.

    Args:
        on_rest: Called when the spare has let go of its slots.
        metrics: Counts spares that are ready.
        kept_s: How long a spare is kept.
    """

    def __init__(
        self,
        on_rest: Callable[[], Awaitable[None]],
        metrics: ReaderMetrics,
        kept_s: float = KEPT_S,
    ) -> None:
        self._on_rest = on_rest
        self._metrics = metrics
        self._kept_s = kept_s
        self._spare: WorkerSet | None = None
        self._resting = False  # it holds no slot open
        self._rested: asyncio.Event | None = None  # set when what drains rests, or never will
        self._keeping: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    @property
    def slots(self) -> Iterable[Path]:
        """The files that a spare may hold open now."""
        return () if self._spare is None or self._resting else self._spare.slots.values()

    @property
    def ready(self) -> int:
        """Workers that rest, ready to be taken."""
        return len(self._spare.workers) if self._spare and self._resting else 0

    def expect(self) -> None:
        """Know that a set is being drained, and is offered in a while."""
        self._rested = asyncio.Event()

    def note_retired(self) -> None:
        """Know that a set that was being drained does not use its slots, unless it was taken."""
        if self._spare is None:
            self._end_wait()

    async def wait_rest(self) -> None:
        """Wait a little until the set that is being drained rests.

        Then it is the spare, and its slots can be rolled forward: under load forking takes longer,
        and with a large database a copy does.
        """
        if self._rested is not None:
            try:
                async with asyncio.timeout(DRAINING_WAIT_S):
                    await self._rested.wait()
            except TimeoutError:
                log.info("spare not waited for", waited_s=DRAINING_WAIT_S)

    def offer(self, old: WorkerSet) -> bool:
        """Take over a drained set, unless there is a spare or it is not sound; tell whether."""
        if self._spare or old.dressings >= DRESSINGS_AT_MOST or not old.is_sound():
            return False
        self._spare = old
        self._keeping = asyncio.create_task(self._keep(old))
        return True

    async def take(self) -> WorkerSet | None:
        """Give the spare, which is to be dressed, or None."""
        return await self._let_go()

    async def discard(self) -> None:
        """Stop the spare."""
        spare = await self._let_go()
        if spare is not None:
            await spare.stop()
        if self._stopping is not None:
            await self._stopping

    def _end_wait(self) -> None:
        if self._rested is not None:
            self._rested.set()

    async def _let_go(self) -> WorkerSet | None:
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        spare, self._spare = self._spare, None
        self._resting = False
        self._metrics.spares.set(0)
        return spare

    async def _keep(self, spare: WorkerSet) -> None:
        """Let a set rest; stop it when it breaks, or was not taken for a while."""
        try:
            await spare.rest()
            self._resting = True
            self._metrics.spares.set(len(spare.workers))
            await self._on_rest()
            self._end_wait()
            async with asyncio.timeout(self._kept_s):
                await spare.wait_broken()
            log.warning("spare lost", reason="a spare worker ended")
        except WorkerError as exc:
            log.warning("spare lost", reason=str(exc))
        except TimeoutError:
            log.debug("spare not needed", kept_s=self._kept_s)
        self._end_wait()
        self._metrics.spares.set(0)
        self._spare, self._resting = None, False
        self._stopping = asyncio.create_task(spare.stop())  # not cut short by a switch
