"""The journal's replica, and many who wait for it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import pytest

from headrace.errors import LeaseLostError, Refusal
from headrace.stopping import Stop
from ingest.metrics import IngestMetrics
from ingest.succession import KEEP_TIMEOUT_S, JournalReplica
from tests.unit.loop_kit import now_s, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ingest.lease import LeaseHolder
    from ingest.replicate import Litestream

LINEAGE = "0123456789abcdef"
SYNC_S = 1.0


class Syncing:
    """Stands in for Litestream, which syncs a database once at a time, and for the lease."""

    def __init__(self) -> None:
        self.journal = ""
        self.begun_s: list[float] = []
        self.lost = False
        self.turn = asyncio.Lock()

    async def sync(self, _database: str, _lineage: str) -> int:
        """Sync for a second."""
        async with self.turn:
            self.begun_s.append(now_s())
            await asyncio.sleep(SYNC_S)
        return len(self.begun_s)

    async def name_journal(self, lineage: str) -> None:
        """Name it, unless somebody else has the lease."""
        if self.lost:
            raise LeaseLostError("somebody else has it")
        self.journal = lineage

    def check(self) -> None:
        """Find that the lease is held."""


@asynccontextmanager
async def replica_of(syncing: Syncing) -> AsyncIterator[JournalReplica]:
    """Give a replica that is kept while the block runs."""
    replica = JournalReplica(
        cast("Litestream", syncing),
        cast("LeaseHolder", syncing),
        LINEAGE,
        stop=Stop(60),
        metrics=IngestMetrics(),
    )
    running = asyncio.create_task(replica.run())
    try:
        yield replica
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_replica_that_a_crowd_waits_for_is_made_twice() -> None:
    """A thousand uploads are answered as fast as two, whichever of them came first."""

    async def main() -> list[float]:
        syncing = Syncing()
        async with replica_of(syncing) as replica:

            async def keep(number: int) -> float:
                await asyncio.sleep(number / 1000 * SYNC_S / 2)
                came_s = now_s()
                await replica.keep()
                assert any(came_s <= begun_s <= now_s() - SYNC_S for begun_s in syncing.begun_s)
                return now_s() - came_s

            waits_s = await asyncio.gather(*map(keep, range(1000)))
        assert len(syncing.begun_s) == 2
        return waits_s

    assert max(run(main())) <= 2 * SYNC_S


def test_replica_is_made_for_others_when_one_who_waits_goes() -> None:
    """Who gives up takes nothing from those who came with him, or after him."""

    async def main() -> None:
        syncing = Syncing()
        async with replica_of(syncing) as replica:
            first = asyncio.create_task(replica.keep())
            second = asyncio.create_task(replica.keep())
            await asyncio.sleep(SYNC_S / 2)
            third = asyncio.create_task(replica.keep())
            first.cancel()
            await asyncio.gather(second, third)
        assert first.cancelled()
        assert syncing.begun_s == [0.0, SYNC_S]

    run(main())


def test_replica_that_cannot_be_made_is_waited_for_within_its_time() -> None:
    """An answer does not wait for ever: it says that the receipt may be kept, or not."""

    async def main() -> None:
        syncing = Syncing()
        async with replica_of(syncing) as replica, syncing.turn:
            with pytest.raises(Refusal) as refused:
                await replica.keep()
        assert (refused.value.code, now_s()) == ("replication-down", KEEP_TIMEOUT_S)

    run(main())


def test_replica_of_a_journal_that_cannot_be_named_is_lost_for_all_who_wait() -> None:
    """Each is told of the successor, also who comes later."""

    async def main() -> None:
        syncing = Syncing()
        syncing.lost = True
        async with replica_of(syncing) as replica:
            waiting = (replica.replicate() for _ in range(2))
            ends = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(each) for each in ends] == [LeaseLostError] * 2
            with pytest.raises(LeaseLostError):
                await replica.keep()

    run(main())
