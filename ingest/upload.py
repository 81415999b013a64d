"""The way of an upload: detect, convert, merge, replicate, publish, each journalled first.

After a crash the journal says where each upload was. The receipt's id lies inside the database that
it was merged into, so going on from there does no step twice (invariant I6).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from headrace import tracing
from headrace.errors import LogError, PrimaryLostError, Refusal, StoreError
from headrace.receipt import NEXT_STATE, NOTHING_CHANGED, Receipt, TableOutcome, UploadState, made_s
from ingest.convert import convert
from ingest.converters import Conversion, Converted
from ingest.converters.packings import PACKINGS
from ingest.described import described
from ingest.detect import detect
from ingest.insist import insist, try_hard
from ingest.journal import SERVER_ERROR
from ingest.merging import MERGED, Merging
from ingest.nursery import Nursery, bare_environment
from ingest.outcome import (
    cause_of,
    refusal_of,
    url_of,
)
from ingest.recognising import RecogniseError, ask_apart
from ingest.showing import Showing
from ingest.turns import Places, Turns
from ingest.volume import make_empty

if TYPE_CHECKING:
    from collections.abc import (
        AsyncIterator,
        Callable,
        Iterable,
        Mapping,
        Sequence,
    )
    from datetime import datetime

    from headrace.clock import SteadyClock
    from headrace.generation import Cut
    from headrace.idempotency import Claim
    from headrace.keys import PrimaryPaths
    from headrace.receipt import Progress
    from ingest.archive import Archive
    from ingest.audit_rows import AuditRow
    from ingest.converters import Limits
    from ingest.converters.registry import Converter, Registry
    from ingest.disk import Disk
    from ingest.journal import Journal, Options
    from ingest.metrics import IngestMetrics
    from ingest.primary import Primary
    from ingest.succession import JournalReplica

log = structlog.get_logger()

ROWS = "rows"  # format of receipts that are no uploads: ingest/rows sees to them
CONVERSIONS = max(2, os.cpu_count() or 1)  # at once
# What is being done in a state that is journalled.
_FAILS_IN = {
    UploadState.RECEIVED: "detect",
    UploadState.CONVERTING: "convert",
    UploadState.MERGING: "merge",
    UploadState.REPLICATING: "replicate",
}


class Uploads:
    """Every upload that is on its way.

    Attributes:
        places: Bounds them.
        nursery: Forks converters, for previews as well.
    """

    def __init__(
        self,
        *,
        paths: PrimaryPaths,
        clock: SteadyClock,
        journal: Journal,
        archive: Archive,
        disk: Disk,
        primary: Primary,
        registry: Registry,
        metrics: IngestMetrics,
        limits: Limits,
        journal_replica: JournalReplica,
        places: Places,
        on_lost: Callable[[LogError], None],
    ) -> None:
        self.places = places
        self._paths = paths
        self._journal = journal
        self._archive = archive
        self._disk = disk
        self._primary = primary
        self._merging = Merging(paths=paths, journal=journal, disk=disk, primary=primary)
        self._registry = registry
        self._metrics = metrics
        self._limits = limits
        self._journal_replica = journal_replica
        self._on_lost = on_lost
        self._parked = False
        self._clock = clock
        self._showing = Showing(clock.now)
        self.nursery = Nursery(paths.staging)
        self._turns = Turns(CONVERSIONS)
        metrics.in_flight.set_function(lambda: len(self._running))
        metrics.queued.set_function(lambda: self._turns.waiting)
        metrics.oldest_s.set_function(self._oldest_s)
        metrics.headroom.watch("uploads", lambda: places.used)
        self._running: dict[str, asyncio.Task[Receipt]] = {}
        self._failing: set[str] = set()
        self._last: dict[str, asyncio.Task[Receipt]] = {}  # of each database

    async def start(
        self,
        uploads: Iterable[tuple[Receipt, Options]],
        claim: Claim | None = None,
        aliases: Sequence[tuple[str, str]] = (),
        audit: Sequence[AuditRow] = (),
    ) -> None:
        """Journal the uploads of one request, and send those on their way that were not refused.

        Args:
            uploads: Each with its bytes in the spool, or refused already.
            claim: What the request's key stands for.
            aliases: Receipts that were given out, each with the one that is shown for it.
            audit: What the audit log says of them.
        """
        uploads = tuple(uploads)
        await self._journal.add(uploads, claim, aliases, audit)
        for receipt, options in uploads:
            if receipt.error is not None:
                self._count_failure(receipt, receipt.error, "receive")
                continue
            self._metrics.uploads.labels(receipt.state.value).inc()
            self._metrics.received_bytes.inc(receipt.bytes)
            self._go(receipt, options)

    async def resume(self, unfinished: Iterable[tuple[Receipt, Options]]) -> None:
        """Send every upload on its way again that a stop or a crash left there.

        What may be merged already asks for its database first: until it is published, nothing else
        may be written there, or take its place.
        """
        await self.nursery.start()
        left = [each for each in unfinished if each[0].format != ROWS]
        for receipt, options in sorted(left, key=lambda each: each[0].state not in MERGED):
            log.info("upload resumed", receipt=receipt.id, state=receipt.state.value)
            self._go(receipt, options)
        await asyncio.sleep(0)  # those now wait for their databases' locks

    async def wait(self, receipt_id: str, timeout_s: float) -> Receipt | None:
        """Wait until an upload has ended, at most so long; give its receipt as it is then."""
        task = self._running.get(receipt_id)
        if task is not None:
            await asyncio.wait([task], timeout=timeout_s)
        return await self._journal.find(receipt_id)

    def is_failing(self, receipt_id: str) -> bool:
        """Whether an upload has failed, and a successor might not know it."""
        return receipt_id in self._failing

    def find_progress(self, receipt_id: str) -> Progress | None:
        """Find how far an upload is, if it is being converted or merged."""
        return self._showing.find(receipt_id)

    def progressed_at(self, receipt_id: str) -> datetime | None:
        """Say since when an upload's progress is what it is."""
        return self._showing.changed_at(receipt_id)

    async def wait_all(self) -> None:
        """Wait until every upload has ended."""
        while self._running:
            await asyncio.wait(self._running.values())

    async def park(self) -> None:
        """Leave every upload where it is, and begin no other: the next start goes on with them."""
        self._parked = True
        self._disk.close()
        for receipt_id, task in self._running.items():
            log.info("upload parked", receipt=receipt_id)
            task.cancel()
        try:
            await asyncio.gather(*self._running.values(), return_exceptions=True)
        finally:
            await self.nursery.close()

    def _go(self, receipt: Receipt, options: Options) -> None:
        if self._parked:
            return
        database = receipt.database or ""
        earlier = self._last.get(database)
        task = asyncio.create_task(self._run(receipt, options, earlier))
        self._running[receipt.id] = self._last[database] = task
        self.places.take(options.sent_by)
        task.add_done_callback(lambda _task: self._forget(receipt.id, database, options.sent_by))

    def _forget(self, receipt_id: str, database: str, sender: str) -> None:
        self.places.give_back(sender)
        if self._last.get(database) is self._running.pop(receipt_id):
            del self._last[database]

    def _oldest_s(self) -> float:
        """Say since when the oldest upload is there: ids begin with that time."""
        oldest = min(self._running, default=None)
        return 0.0 if oldest is None else max(self._clock.now().timestamp() - made_s(oldest), 0.0)

    async def _run(
        self, receipt: Receipt, options: Options, earlier: asyncio.Task[Receipt] | None
    ) -> Receipt:
        """Take one upload to its end; cancelled, it stays where it is in the journal."""
        with (
            tracing.continued(options.traceparent),
            tracing.span("upload", receipt=receipt.id, database=receipt.database or ""),
        ):
            return await self._take_to_end(receipt, options, earlier)

    async def _take_to_end(
        self, receipt: Receipt, options: Options, earlier: asyncio.Task[Receipt] | None
    ) -> Receipt:
        try:
            receipt = await self._deliver(receipt, options, earlier)
        except Refusal as refusal:
            if self._parked and refusal.code == "stopping":  # what it was writing gave way first
                return receipt
            receipt = await self._fail(receipt, refusal)
        except PrimaryLostError as exc:
            self._on_lost(exc)
            return receipt
        except Exception as exc:
            log.exception("upload failed", receipt=receipt.id)
            receipt = await self._fail(receipt, refusal_of(exc))
        await asyncio.to_thread(self._clean, receipt.id)
        if receipt.id in self._failing:
            await self._keep_failure(receipt)
        return receipt

    async def _deliver(
        self, receipt: Receipt, options: Options, earlier: asyncio.Task[Receipt] | None
    ) -> Receipt:
        database = receipt.database or ""
        if receipt.state in MERGED:  # resumed: nobody else writes between the look and the end
            async with self._primary.database_lock(database):
                receipt, cut = await self._merging.find_merged(receipt)
                if cut is not None:
                    return await self._publish(receipt, cut)
        texts: Mapping[str, frozenset[str]] = {}
        with suppress(sqlite3.Error):  # it is looked at again under the lock
            texts = await self._merging.find_texts(receipt)
        receipt, staged = await self._convert(receipt, options, texts)
        if earlier is not None:  # conversions overlap; merges keep the order of arrival
            await asyncio.wait([earlier])
        while True:
            async with self._primary.database_lock(database):
                told, texts = texts, await self._merging.find_texts(receipt)
                if await self._merging.keeps_texts(receipt, staged, told=told, texts=texts):
                    receipt, cut = await self._merge(receipt, staged, options)
                    if cut is None:  # no row changed: there is a database, then
                        cut = self._primary.cut(database)
                        if self._described(receipt) == cut.metadata:
                            return await self._end_unchanged(receipt)
                    return await self._publish(receipt, cut)
            # The tables are others than those that it was converted for. Others need not wait.
            receipt, staged = await self._convert(receipt, options, texts)

    def _described(self, receipt: Receipt) -> Mapping[str, Any]:
        """Give what is said about a database once an upload is published."""
        before = self._primary.state.databases.get(receipt.database or "")
        return described(receipt, before.metadata if before else {})

    async def _convert(
        self, receipt: Receipt, options: Options, texts: Mapping[str, frozenset[str]]
    ) -> tuple[Receipt, Converted]:
        """detect, convert: the spooled file becomes a staging database."""
        spooled = self._paths.spool / receipt.id
        scratch = self._paths.staging / receipt.id
        await asyncio.to_thread(make_empty, scratch)
        if not spooled.exists():  # it was sent to a primary before this one
            await insist(
                lambda: self._archive.fetch(receipt, spooled, options.sent_by),
                StoreError,
                "upload not fetched",
            )
        async with self._step(receipt, "detect") as timings_s:
            found = await asyncio.to_thread(
                detect,
                spooled,
                filename=receipt.filename,
                media_type=options.media_type,
                encoding=options.wishes.encoding,
                registry=self._registry,
                on_failure=self._count_plugin_failure,
                asking=partial(ask_apart, environment=partial(bare_environment, scratch)),
            )
        receipt = replace(receipt, format=found, timings_s=timings_s)
        if receipt.state is UploadState.RECEIVED:
            receipt = await self._advance(receipt)
        else:  # resumed: the journal is ahead of the work
            receipt = replace(receipt, state=UploadState.CONVERTING)
            await self._journal.save(receipt)
        async with (
            self._turns.turn(options.sent_by),
            self._step(receipt, "convert") as timings_s,
            self._showing.conversion(receipt) as (begin, report),
        ):
            converting = convert(
                Conversion(
                    input=spooled,
                    output=scratch / "staging.db",
                    format=found,
                    table=options.table or receipt.database or "data",
                    table_given=options.table_given,
                    filename=receipt.filename,
                    media_type=options.media_type,
                    wishes=options.wishes,
                    texts=texts,
                    report=report,
                    begin=begin,
                    registry=self._registry,
                ),
                limits=self._limits,
                nursery=self.nursery,
            )
            converted = await self._disk.run(converting)
        receipt = replace(
            receipt,
            timings_s=timings_s,
            format=converted.format or found,
            encoding=converted.encoding,
        )
        return receipt, converted

    async def _merge(
        self, receipt: Receipt, staged: Converted, options: Options
    ) -> tuple[Receipt, Cut | None]:
        """merge: into the live database, or as the first state of a new lineage.

        Returns:
            The receipt, and what is to be published; None if it is published already.
        """
        receipt = replace(
            receipt,
            tables=tuple(TableOutcome(name=each.name, rows=each.rows) for each in staged.tables),
            warnings=(*receipt.warnings, *staged.warnings),
        )
        receipt = await self._merging.describe(receipt, staged, options)
        receipt = await self._advance(receipt)
        async with (
            self._step(receipt, "merge") as timings_s,
            self._showing.merge(receipt, self._merging.written(receipt)),
        ):
            receipt, cut = await self._merging.run(receipt, staged, options)
        return replace(receipt, timings_s=timings_s), cut

    async def _end_unchanged(self, receipt: Receipt) -> Receipt:
        """End an upload of what is there already: the newest generation shows it."""
        cut = self._primary.cut(receipt.database or "")
        receipt = await self._advance(receipt)
        receipt = replace(
            receipt,
            generation=self._primary.state.number,
            lineage=cut.lineage,
            txid=cut.txid,
            url=url_of(receipt),
            published_at=self._clock.now(),
            warnings=(*receipt.warnings, NOTHING_CHANGED),
        )
        receipt = await self._advance(receipt)
        self._count_end(receipt, "unchanged")
        return receipt

    async def _publish(self, receipt: Receipt, cut: Cut) -> Receipt:
        """replicate, publish. Nothing is refused from here on: it is retried until it is done.

        The receipt is replicated as well before anything is published: so a successor that finds
        the rows in the log knows of the upload, and of its key.
        """
        if receipt.state is UploadState.MERGING:
            merged = receipt
            receipt = await try_hard(lambda: self._advance(merged), receipt.id)
        database = receipt.database or ""
        cut = replace(cut, metadata=self._described(receipt))
        async with self._step(receipt, "replicate") as timings_s:
            cut, _ = await asyncio.gather(
                self._primary.replicate(database, cut), self._journal_replica.replicate()
            )
        receipt = replace(receipt, timings_s=timings_s)
        async with self._step(receipt, "publish") as timings_s:
            entry = await self._primary.publish(
                cause=cause_of("ingest", receipt), databases={database: cut}
            )
        receipt = replace(
            receipt,
            timings_s=timings_s,
            generation=entry.number,
            lineage=cut.lineage,
            txid=cut.txid,
            url=url_of(receipt),
            published_at=entry.created_at,
        )
        self._count_end(receipt, "published")
        return await try_hard(lambda: self._advance(receipt), receipt.id)

    async def _advance(self, receipt: Receipt) -> Receipt:
        """Journal the next state."""
        receipt = replace(receipt, state=NEXT_STATE[receipt.state])
        await self._journal.save(receipt)
        self._metrics.uploads.labels(receipt.state.value).inc()
        return receipt

    async def _fail(self, receipt: Receipt, refusal: Refusal) -> Receipt:
        # The journal holds the newest receipt: the caller's copy may be of an earlier step.
        newest = await self._journal.find(receipt.id) or receipt
        step = _FAILS_IN.get(newest.state, "publish")
        self._failing.add(receipt.id)
        receipt = replace(newest, state=UploadState.FAILED, error=refusal.document(), tables=())
        await try_hard(lambda: self._journal.save(receipt), receipt.id)
        self._count_failure(receipt, refusal.document(), step)
        tracing.tell(refused=refusal.code)
        log.info("upload refused", receipt=receipt.id, code=refusal.code)
        return receipt

    async def _keep_failure(self, receipt: Receipt) -> None:
        """Have a failure where a successor finds it, which would else try the upload again."""
        try:
            await self._journal_replica.replicate()
        except PrimaryLostError as exc:
            self._on_lost(exc)
        else:
            self._failing.discard(receipt.id)

    def _count_failure(self, receipt: Receipt, error: Mapping[str, Any], step: str) -> None:
        self._metrics.uploads.labels(UploadState.FAILED.value).inc()
        self._metrics.refusals.labels(step, error["code"]).inc()
        # What is refused is the client's to change.
        self._count_end(receipt, "failed" if error["status"] >= SERVER_ERROR else "refused")

    def _count_end(self, receipt: Receipt, outcome: str) -> None:
        # "csv+json.tar.gz" counts as "gz": there are endless ways to pack files.
        family = (receipt.format or "").rpartition(".")[2]
        if family not in self._registry.names and family not in PACKINGS.values():
            family = "unknown"
        self._metrics.ended.labels(family, outcome).inc()
        self._metrics.by_database.count_upload(receipt.database or "", outcome)

    def _count_plugin_failure(self, converter: Converter, exc: Exception) -> None:
        # Not the message of somebody's exception: it may hold what the file does.
        error = str(exc) if isinstance(exc, RecogniseError) else type(exc).__name__
        log.warning("plugin failed", converter=converter.name, error=error)
        self._metrics.plugin_failures.labels(converter.name).inc()

    @asynccontextmanager
    async def _step(self, receipt: Receipt, step: str) -> AsyncIterator[dict[str, float]]:
        """Time a step: gives the receipt's timings with this step's added when it is done."""
        timings_s = dict(receipt.timings_s)
        started_s = time.perf_counter()
        with tracing.span(step):
            yield timings_s
        timings_s[step] = round(time.perf_counter() - started_s, 4)
        self._metrics.step_seconds.labels(step).observe(timings_s[step])

    def _clean(self, receipt_id: str) -> None:
        with suppress(FileNotFoundError):
            (self._paths.spool / receipt_id).unlink()
        shutil.rmtree(self._paths.staging / receipt_id, ignore_errors=True)
