"""What the handlers work on, and how they answer."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from headrace.errors import Refusal
from headrace.names import MAX_DATABASE_NAME
from ingest.access import EndedTokenRefusal
from ingest.audit_actions import PREVIEW, action_of
from ingest.metrics import DENIALS
from ingest.same_origin import SAFE
from ingest.stopping import BODIES
from ingest.writer import Writer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator
    from datetime import datetime

    from headrace.clock import SteadyClock
    from headrace.idempotency import KeysInFlight
    from headrace.keys import PrimaryPaths
    from headrace.log import GenerationLog
    from headrace.place import Place
    from headrace.stopping import Stop
    from headrace.store import Store
    from headrace.web import Requests
    from ingest.access import Access
    from ingest.archive import Archive
    from ingest.audit import AuditLog
    from ingest.buckets.watching import Buckets
    from ingest.buffers import Buffers
    from ingest.converters.registry import Registry
    from ingest.disk import Disk
    from ingest.fetch import Fetcher
    from ingest.holds import Holds
    from ingest.journal import Journal
    from ingest.lease import LeaseHolder
    from ingest.metrics import IngestMetrics
    from ingest.preview import Previews
    from ingest.primary import Primary
    from ingest.prune_objects import Pruner
    from ingest.publish import Publisher
    from ingest.regions import Regions
    from ingest.replicate import Litestream
    from ingest.roll_call import RollCall
    from ingest.rollback import Rollback
    from ingest.rows.writer import RowWriter
    from ingest.succession import JournalReplica
    from ingest.token_store import TokenStore
    from ingest.tus.uploads import TusUploads
    from ingest.upload import Uploads
    from ingest.watchers import Watchers

SERVER_ERROR = 500
_NOT_ALLOWED = frozenset({401, 403})
# Of a request: who sends it, as far as that is known; who may write, and was counted; the database
# that it is about, if its query tells; whether the audit log has a row of it.
_ASKER = web.RequestKey("ASKER", Writer)
_WRITER = web.RequestKey("WRITER", Writer)
DATABASE = web.RequestKey("DATABASE", str)
_AUDITED = web.RequestKey("AUDITED", bool)


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
        place: Where it runs.
        fetcher: Fetches files from URLs.
        schedules_changed: Set when a schedule is made, or has run.
        incoming_told: Set when a reader says that it took uploads in this one's place.
    """

    paths: PrimaryPaths
    place: Place
    clock: SteadyClock
    access: Access
    tokens: TokenStore
    audit: AuditLog
    archive: Archive
    buffers: Buffers
    disk: Disk
    keys_in_flight: KeysInFlight
    journal: Journal
    journal_replica: JournalReplica
    uploads: Uploads
    previews: Previews
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
    roll_call: RollCall
    lease: LeaseHolder
    litestream: Litestream
    metrics: IngestMetrics
    stop: Stop
    requests: Requests
    store: Store
    fetcher: Fetcher
    schedules_changed: asyncio.Event
    incoming_told: asyncio.Event
    buckets: Buckets
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

    def check_writer(self, request: web.Request) -> Writer:
        """Tell who writes; refuse everybody while it could not be kept. Counts each request once.

        Raises:
            Refusal: ``unauthorized``, ``cross-site``, ``too-many-requests``, ``stopping``,
                ``lease-lapsed`` or ``replication-down``.
        """
        writer = request.get(_WRITER)
        if writer is None:
            self.access.count_address(request)
            writer = self.identify(request)
            self.access.count(writer)
            request[_WRITER] = writer
        self.check_keeping()
        return writer

    def identify(self, request: web.Request) -> Writer:
        """Tell who sends a request.

        Raises:
            Refusal: ``unauthorized`` or ``cross-site``.
        """
        try:
            writer = self.access.identify(request)
        except EndedTokenRefusal as refusal:
            request[_ASKER] = refusal.writer
            raise
        request[_ASKER] = writer
        return writer

    def note_denied(self, request: web.Request, refusal: Refusal) -> None:
        """Count a request that was refused; the audit log says so if its sender is known."""
        if refusal.code in DENIALS:
            self.metrics.denied.labels(refusal.code).inc()
        asker = request.get(_ASKER)
        if asker is None or request.method in SAFE or request.get(_AUDITED):
            return
        if action_of(request) == PREVIEW and refusal.status not in _NOT_ALLOWED:
            return  # somebody only looked at a file, and nothing was to be written
        if refusal.status < SERVER_ERROR:
            found = request.match_info.get("database") or request.get(DATABASE)
            database = found or request.query.get("database")
            known = database if database and len(database) <= MAX_DATABASE_NAME else None
            self.audit.note_refused(asker, action_of(request), refusal.code, known)

    @asynccontextmanager
    async def audited(
        self,
        request: web.Request,
        writer: Writer,
        *,
        database: str | None = None,
        detail: str | None = None,
    ) -> AsyncIterator[None]:
        """Have the audit log say that the block began, and how it ended."""
        request[_AUDITED] = True
        what = action_of(request)
        async with self.audit.during(writer, what, database=database, detail=detail):
            yield

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
