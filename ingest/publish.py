"""publish: the generation log gets its next entry, and everybody who listens hears of it."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from headrace.errors import PrimaryLostError, StoreError
from headrace.generation import Entry
from ingest.insist import insist

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Mapping

    from headrace.generation import Cut, State
    from headrace.log import GenerationLog

log = structlog.get_logger()


class Publisher:
    """The one writer of the log.

    Args:
        generations: The log.
        state: The newest generation.
        epoch: Gives the epoch of the lease that is held.

    Attributes:
        state: The newest generation.
    """

    def __init__(self, generations: GenerationLog, state: State, epoch: Callable[[], int]) -> None:
        self.state = state
        self._epoch = epoch
        self._log = generations
        self._lock = asyncio.Lock()
        self._listeners: set[asyncio.Queue[Entry]] = set()

    async def publish(
        self,
        *,
        cause: Mapping[str, str],
        databases: Mapping[str, Cut] | None = None,
        removed: tuple[str, ...] = (),
    ) -> Entry:
        """Publish the next generation; retries until the store takes it.

        Raises:
            PrimaryLostError: Another primary has published it.
        """
        async with self._lock:
            entry = self._next_entry(cause, databases or {}, removed)
            self.state = await insist(
                lambda: self._log.publish(self.state, entry), StoreError, "publish failed"
            )
            for listener in self._listeners:
                listener.put_nowait(entry)
        log.info("generation published", generation=entry.number, cause=dict(cause))
        return entry

    async def fence(self) -> None:
        """Publish a first entry of this epoch: from then on nobody of an older one can publish.

        What the primary before had on its way may come first: then that is gone on from.

        Raises:
            PrimaryLostError: Somebody of a newer epoch has published.
        """
        while True:
            try:
                await self.publish(cause={"kind": "takeover"})
            except PrimaryLostError:
                newest = await insist(self._log.read_newest, StoreError, "log not read")
                if newest.epoch >= self._epoch():
                    raise
                self.state = newest
            else:
                return

    def _next_entry(
        self, cause: Mapping[str, str], databases: Mapping[str, Cut], removed: tuple[str, ...]
    ) -> Entry:
        return Entry(
            number=self.state.number + 1,
            epoch=self._epoch(),
            created_at=datetime.now(UTC),
            cause=cause,
            databases=databases,
            removed=removed,
        )

    async def follow(self, after: int) -> AsyncGenerator[Entry]:
        """Give every entry after a generation: those of the log, then new ones as they come."""
        with self._listening() as queue:
            number = after
            while number < self.state.number:
                entry = await self._log.find_entry(number + 1)
                if entry is None:  # pruned: the follower has to read the log itself
                    break
                number = entry.number
                yield entry
            while True:
                entry = await queue.get()
                if entry.number > number:
                    number = entry.number
                    yield entry

    @contextmanager
    def _listening(self) -> Iterator[asyncio.Queue[Entry]]:
        queue: asyncio.Queue[Entry] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)
