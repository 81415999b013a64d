"""One batch: apply, journal, commit, replicate, publish."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import structlog

from headrace.errors import Refusal
from headrace.receipt import UploadState
from headrace.tracing import span
from ingest.audit_rows import count_alike
from ingest.insist import insist, to_end
from ingest.journal import Options
from ingest.merge import adopt, count_tables, find_last_merge
from ingest.outcome import cause_of, refusal_of, url_of
from ingest.upload import ROWS
from ingest.volume import make_empty, new_lineage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from headrace.generation import Cut
    from headrace.keys import PrimaryPaths
    from headrace.receipt import Receipt
    from ingest.audit_rows import AuditRow
    from ingest.disk import Disk
    from ingest.journal import Journal
    from ingest.primary import Primary
    from ingest.rows.batch import Batch
    from ingest.rows.writes import Answer, RowWrite
    from ingest.succession import JournalReplica

log = structlog.get_logger()

FORMAT = ROWS

Done = TypeVar("Done")


class Commit:
    """The way of a batch. Its database's lock is held by whoever calls.

    Args:
        paths: The volume.
        journal: Keeps receipts.
        journal_replica: Where a successor finds them.
        primary: The databases.
        disk: Has room, or not.
    """

    def __init__(
        self,
        *,
        paths: PrimaryPaths,
        journal: Journal,
        journal_replica: JournalReplica,
        primary: Primary,
        disk: Disk,
    ) -> None:
        self._paths = paths
        self._journal = journal
        self._journal_replica = journal_replica
        self._primary = primary
        self._disk = disk

    async def run(
        self,
        receipt: Receipt,
        writes: Sequence[RowWrite],
        before: Cut | None,
        audits: Sequence[AuditRow],
    ) -> tuple[tuple[Answer, ...], Receipt]:
        """Take a batch to its end.

        Args:
            receipt: Not journalled yet.
            writes: What is asked for.
            before: The database as it is published; None: it is made.
            audits: What the audit log says of each request, if anything is written.

        Returns:
            An answer for each request, and the receipt: published, which is to be journalled by
            ``finish``; without a generation and not journalled at all, if nothing was written.

        Raises:
            Refusal: Nothing was written.
            PrimaryLostError: Another primary has taken over: nothing was published.
        """
        started_s = time.perf_counter()
        self._disk.require(2 * receipt.bytes)  # in the database, and in Litestream's transactions
        database = receipt.database or ""
        scratch = self._paths.staging / receipt.id
        if before is None:
            await asyncio.to_thread(make_empty, scratch)
            path = scratch / "staging.db"
        else:
            path = self._paths.database(database, before.lineage)
        lineage = before.lineage if before else new_lineage()
        journalled: list[Receipt] = []
        try:
            with span("merge"):
                batch = await self._write(
                    path, receipt, writes, before, audits=audits, journalled=journalled
                )
            if not journalled:
                return batch.answers, receipt
            receipt = journalled[0]
            if before is None:
                await self._adopt(path, lineage, receipt)
        finally:
            if before is None:
                await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
        receipt = replace(receipt, timings_s={"merge": round(time.perf_counter() - started_s, 4)})
        return batch.answers, await self._publish(
            receipt, self._primary.unpublished_cut(lineage, batch.tables, None)
        )

    async def finish(self, receipt: Receipt) -> None:
        """Journal that a batch is published. What is asked of the journal later sees it."""
        await _try_hard(lambda: self._journal.save(receipt))

    async def settle(self, receipt: Receipt) -> None:
        """Publish a batch that was committed before a stop; else let its receipt say that.

        Raises:
            PrimaryLostError: Another primary has taken over.
        """
        cut = self._primary.state.databases.get(receipt.database or "")
        if cut is not None:
            path = self._paths.database(receipt.database or "", cut.lineage)
            last = await _try_hard(lambda: asyncio.to_thread(find_last_merge, path))
            if last is not None and last[0] == receipt.id:
                tables = await _try_hard(lambda: asyncio.to_thread(count_tables, path))
                await self.finish(
                    await self._publish(
                        receipt, self._primary.unpublished_cut(cut.lineage, tables, None)
                    )
                )
                return
        refusal = Refusal(
            "primary-lost", "the primary ended before the rows were written: nothing of them is"
        )
        await self._fail(receipt, refusal)

    async def _write(
        self,
        path: Path,
        receipt: Receipt,
        writes: Sequence[RowWrite],
        before: Cut | None,
        *,
        audits: Sequence[AuditRow],
        journalled: list[Receipt],
    ) -> Batch:
        """Apply, journal and commit; says by ``journalled`` how far that went."""

        def journal(batch: Batch) -> str | None:
            whole = replace(receipt, tables=batch.outcomes)
            options = Options(table=None, media_type=None)
            self._journal.add_now(whole, options, count_alike(audits, receipt.id))
            journalled.append(whole)
            return None if before is None else receipt.id  # a new database: ``adopt`` notes it

        # sqlite-utils, which it loads, is 5 MB that a primary without such writes does not need.
        from ingest.rows.batch import write_batch  # noqa: PLC0415

        tables: Mapping[str, int] = before.tables if before else {}
        try:
            return await to_end(write_batch, path, writes, tables, journal)
        except Exception as exc:
            refusal = exc if isinstance(exc, Refusal) else refusal_of(exc)
            if not isinstance(exc, Refusal):
                log.exception("rows not written", receipt=receipt.id)
            for each in journalled:
                await self._fail(each, refusal)
            raise refusal from exc

    async def _adopt(self, path: Path, lineage: str, receipt: Receipt) -> None:
        """Make what was written the first state of a database."""
        try:
            self._disk.require((await asyncio.to_thread(path.stat)).st_size)
            target = self._paths.database(receipt.database or "", lineage)
            await to_end(adopt, path, target, receipt.id)
        except Exception as exc:
            refusal = exc if isinstance(exc, Refusal) else refusal_of(exc)
            await self._fail(receipt, refusal)
            raise refusal from exc

    async def _publish(self, receipt: Receipt, cut: Cut) -> Receipt:
        """replicate, publish: nothing is refused from here on, it is retried until it is done.

        The receipt is replicated as well before anything is published: so a successor that finds
        the rows in the log knows of the batch.
        """
        database = receipt.database or ""
        started_s = time.perf_counter()
        cut = replace(cut, metadata=self._primary.kept_metadata(database, cut.tables))
        with span("replicate"):
            cut, _ = await asyncio.gather(
                self._primary.replicate(database, cut), self._journal_replica.replicate()
            )
        replicated_s = time.perf_counter()
        with span("publish"):
            entry = await self._primary.publish(
                cause=cause_of(FORMAT, receipt), databases={database: cut}
            )
        timings_s = {
            **receipt.timings_s,
            "replicate": round(replicated_s - started_s, 4),
            "publish": round(time.perf_counter() - replicated_s, 4),
        }
        return replace(
            receipt,
            state=UploadState.PUBLISHED,
            timings_s=timings_s,
            generation=entry.number,
            lineage=cut.lineage,
            txid=cut.txid,
            url=url_of(receipt),
            published_at=entry.created_at,
        )

    async def _fail(self, receipt: Receipt, refusal: Refusal) -> None:
        failed = replace(receipt, state=UploadState.FAILED, error=refusal.document(), tables=())
        await _try_hard(lambda: self._journal.save(failed))


async def _try_hard(ask: Callable[[], Awaitable[Done]]) -> Done:
    """Do what is not refused any more, also on a disk that is full for a while."""
    return await insist(ask, (sqlite3.Error, OSError), "rows delayed")
