"""What the handlers work on, and how they answer."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from headrace.errors import Refusal
from ingest.stopping import BODIES

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator
    from datetime import datetime

    from headrace.arriving import ArrivedFile
    from headrace.clock import SteadyClock
    from headrace.idempotency import KeysInFlight
    from headrace.keys import PrimaryPaths
    from headrace.log import GenerationLog
    from headrace.stopping import Stop
    from headrace.store import Store
    from headrace.tokens import Tokens
    from headrace.web import Requests
    from ingest.archive import Archive
    from ingest.converters.registry import Registry
    from ingest.disk import Disk
    from ingest.holds import Holds
    from ingest.journal import Journal
    from ingest.lease import LeaseHolder
    from ingest.metrics import IngestMetrics
    from ingest.primary import Primary
    from ingest.prune_objects import Pruner
    from ingest.publish import Publisher
    from ingest.regions import Regions
    from ingest.replicate import Litestream
    from ingest.rollback import Rollback
    from ingest.rows.writer import RowWriter
    from ingest.succession import JournalReplica
    from ingest.tus.uploads import TusUploads
    from ingest.upload import Uploads
    from ingest.watchers import Watchers


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLimits:
    """What one request of the write API may hold.

    Attributes:
        bytes: Of its body.
        rows: Of one request.
    """

    bytes: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The parts of a running primary.

    Attributes:
        incoming_told: Set when a reader says that it took uploads in this one's place.
    """

    paths: PrimaryPaths
    clock: SteadyClock
    tokens: Tokens
    archive: Archive
    disk: Disk
    keys_in_flight: KeysInFlight
    journal: Journal
    journal_replica: JournalReplica
    uploads: Uploads
    rows: RowWriter
    row_limits: RowLimits
    tus: TusUploads
    watchers: Watchers
    registry: Registry
    primary: Primary
    publisher: Publisher
    generations: GenerationLog
    rollback: Rollback
    holds: Holds
    pruner: Pruner
    regions: Regions
    lease: LeaseHolder
    litestream: Litestream
    metrics: IngestMetrics
    stop: Stop
    requests: Requests
    store: Store
    incoming_told: asyncio.Event
    max_upload_bytes: int

    def now(self) -> datetime:
        """Give the time, by a clock that never jumps."""
        return self.clock.now()

    def require_room(self, size_bytes: int) -> None:
        """Refuse a file for which there is no room.

        Raises:
            Refusal: ``disk-full``.
        """
        self.disk.require(size_bytes)

    async def keep(self, arrived: ArrivedFile, chunks: AsyncIterator[bytes]) -> None:
        """Spool a file, and have it in the archive as well.

        Raises:
            Refusal: It did not arrive whole, is too large or empty, or cannot be kept.
        """
        key = self.archive.key(arrived.receipt_id, arrived.filename)
        arrived.spooled = await self.archive.receive(
            chunks,
            self.paths.spool / arrived.receipt_id,
            key=key,
            limit_bytes=self.max_upload_bytes,
        )
        arrived.archive = key

    def check_writer(self, request: web.Request) -> None:
        """Refuse a write without the token, and every write while it could not be kept.

        Raises:
            Refusal: ``unauthorized``, ``stopping``, ``lease-lapsed`` or ``replication-down``.
        """
        self.tokens.check(request.headers)
        self.check_keeping()

    def check_keeping(self) -> None:
        """Refuse what could not be kept now.

        Raises:
            Refusal: ``stopping``, ``lease-lapsed`` or ``replication-down``.
        """
        if self.stop.asked.is_set():
            raise Refusal("stopping", "the primary is stopping: send it again")
        self.lease.check()
        if not self.litestream.up.is_set():
            raise Refusal(
                "replication-down", "Litestream is down, so nothing could be kept: send it again"
            )

    @asynccontextmanager
    async def receiving(self) -> AsyncIterator[None]:
        """Bound the time that a body may take while the primary stops.

        Raises:
            Refusal: ``stopping``.
        """
        try:
            async with self.stop.limit(BODIES):
                yield
        except TimeoutError as exc:
            raise Refusal(
                "stopping",
                "the primary is stopping, and the file had not arrived whole: nothing of it is "
                "kept, send it again",
            ) from exc


NODE = web.AppKey("NODE", Node)
