"""The next set of workers: forked, started and warm, before there is a generation for it.

A spare set is dressed as a generation of before, and *rests*: it holds no slot open, so slots may
be rolled forward under it. At a switch it is told what differs (change.py). The set that a switch
took out of service is the best spare there is, once its requests are answered: nothing is forked at
all. Only if that takes long, or a worker of it is not sound, a new set is made in the background.
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

OFFER_WAIT_S = 1.0  # for the set that a switch took out of service, before a new one is made
DRAINING_WAIT_S = 0.3  # for that set, at a switch that comes before it is drained
DRESSINGS_AT_MOST = 100  # then a set is made anew: what plugins pile up has an end
FIRST_BACKOFF_S = 1.0
MAX_BACKOFF_S = 60.0


class Spares:
    """Keeps one spare set.

    Args:
        on_rest: Called when the spare has let go of its slots.
        metrics: Counts spares that are ready.
    """

    def __init__(self, on_rest: Callable[[], Awaitable[None]], metrics: ReaderMetrics) -> None:
        self._on_rest = on_rest
        self._metrics = metrics
        self._spare: WorkerSet | None = None  # can be taken
        self._awake: WorkerSet | None = None  # may hold slots open
        self._settled = asyncio.Event()  # it can be known whether there is one
        self._settled.set()
        self._offered: asyncio.Future[WorkerSet] | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def slots(self) -> Iterable[Path]:
        """The files that a spare may hold open now."""
        return () if self._awake is None else self._awake.slots.values()

    @property
    def ready(self) -> int:
        """Workers that rest, ready to be taken."""
        return len(self._spare.workers) if self._spare and self._awake is None else 0

    def keep(self, make_set: Callable[[], WorkerSet]) -> None:
        """Have a spare in a while, from now on; ``make_set`` makes one for what is in service."""
        if self._keeping is None:
            self._offered = asyncio.get_running_loop().create_future()
            self._keeping = asyncio.create_task(self._keep(make_set, self._offered))

    def offer(self, old: WorkerSet) -> bool:
        """Take over a drained set, unless there is a spare or it is not sound; tell whether."""
        wanted = self._offered is not None and not self._offered.done()
        if not wanted or old.dressings >= DRESSINGS_AT_MOST or not old.is_sound():
            return False
        self._spare = self._awake = old
        self._offered.set_result(old)  # type: ignore[union-attr] # it is wanted
        return True

    async def take(self) -> WorkerSet | None:
        """Give the spare, which is to be dressed, or None.

        One that is being started is waited for: it is ahead of any that could be forked now. A set
        that is being drained is waited for a little: under load forking takes longer.
        """
        await self._settled.wait()
        if self._offered is not None and not self._offered.done():
            await asyncio.wait([self._offered], timeout=DRAINING_WAIT_S)
            await self._settled.wait()
        spare, self._spare = self._spare, None
        await self._end()
        return spare

    async def discard(self) -> None:
        """Stop the spare, or the making of one."""
        spare, self._spare = self._spare, None
        await self._end()
        if spare is not None:
            await spare.stop()

    async def _end(self) -> None:
        keeping, self._keeping = self._keeping, None
        self._offered = None
        if keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        self._awake = None
        self._settled.set()
        self._metrics.spares.set(0)

    async def _keep(
        self, make_set: Callable[[], WorkerSet], offered: asyncio.Future[WorkerSet]
    ) -> None:
        backoff_s = FIRST_BACKOFF_S
        spare = await _wait_for_offer(offered)
        while True:
            try:
                if spare is None:
                    spare = await self._make(make_set)
                await self._ready(spare)
                backoff_s = FIRST_BACKOFF_S
                await spare.wait_broken()
                reason = "a spare worker ended"
            except WorkerError as exc:
                reason = str(exc)
            log.warning("spare lost", reason=reason, retry_in_s=backoff_s)
            self._metrics.spares.set(0)
            broken, self._spare, self._awake, spare = self._spare, None, None, None
            if broken is not None:
                await broken.stop()
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)

    async def _make(self, make_set: Callable[[], WorkerSet]) -> WorkerSet:
        made = self._awake = make_set()
        self._settled.clear()
        try:
            await made.start()
        except BaseException:
            await made.stop()
            raise
        else:
            self._spare = made
        finally:
            self._settled.set()
        await made.render_first_pages()
        return made

    async def _ready(self, spare: WorkerSet) -> None:
        await spare.rest()
        self._awake = None
        self._metrics.spares.set(len(spare.workers))
        await self._on_rest()


async def _wait_for_offer(offered: asyncio.Future[WorkerSet]) -> WorkerSet | None:
    done, _ = await asyncio.wait([offered], timeout=OFFER_WAIT_S)
    if not done:
        offered.cancel()
        return None
    return offered.result()
