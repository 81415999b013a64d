"""Group commit: requests that wait for the same database are one transaction, and one generation.

A batch begins when the one before it is published, or a few milliseconds after the first request
came to a database at rest. So the more requests come at once, the more share the cost of a commit,
of its way into the object store, and of a generation; and nobody is answered before all of that is
done (invariant I1).

Each batch has one receipt. It is journalled between the transaction's last statement and its
commit, and its id is committed beside the rows: so after a crash it is known whether the rows are
there (invariant I6).
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog

from headrace.errors import PrimaryLostError, Refusal
from headrace.receipt import Receipt, UploadState, new_receipt_id
from headrace.tracing import TRACEPARENT, carried, continued, span
from ingest.outcome import refusal_of
from ingest.rows.commit import FORMAT
from ingest.rows.writes import CreateTable, DropTable, OlderWrite

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from headrace.clock import SteadyClock
    from headrace.errors import LogError
    from ingest.audit_rows import AuditRow
    from ingest.journal import Options
    from ingest.metrics import IngestMetrics
    from ingest.primary import Primary
    from ingest.rows.commit import Commit
    from ingest.rows.writes import Answer, RowWrite

log = structlog.get_logger()

ANSWER_S = 30.0  # until somebody who waits is told that it takes too long
MOST_ROWS = 20_000  # of a batch, if the next request does not fit: nobody waits for too many others
MOST_BYTES = 64 * 1024**2
GATHER = 0.3  # of the time of a batch: if nobody came for so long, the next one begins


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of a request.

    Attributes:
        answer: What it is answered with.
        receipt_id: Of its batch; None if the batch wrote nothing.
        generation: A generation that shows it.
    """

    answer: Answer
    receipt_id: str | None
    generation: int


@dataclass(eq=False, slots=True, kw_only=True)
class Waiting:
    """A request that waits for its answer.

    Attributes:
        write: What it asks for.
        size_bytes: Of its body.
        audit: What the audit log says of it.
        done: Its end.
        traceparent: Its span; None if it is not traced.
    """

    write: RowWrite
    size_bytes: int
    audit: AuditRow
    done: asyncio.Future[Written]
    traceparent: str | None


@dataclass(slots=True)
class _Line:
    """Those that wait for one database."""

    waiting: list[Waiting] = field(default_factory=list)
    expected: int = 0  # of those, before the next batch
    all_came: asyncio.Event = field(default_factory=asyncio.Event)
    came_s: float = 0.0  # when the last one did
    receipt_id: str | None = None  # of the batch under way
    batch_s: float = 0.0  # that the last one took


class RowWriter:
    """Every request of the write API that is on its way.

    Args:
        primary: The databases.
        commit: Takes a batch to its end.
        metrics: Counts batches.
        clock: Gives receipts their time.
        on_lost: Told if this no longer is the primary.
        window_s: How long a request to a database at rest waits for others.
    """

    def __init__(
        self,
        *,
        primary: Primary,
        commit: Commit,
        metrics: IngestMetrics,
        clock: SteadyClock,
        on_lost: Callable[[LogError], None],
        window_s: float,
    ) -> None:
        self._primary = primary
        self._commit = commit
        self._metrics = metrics
        self._clock = clock
        self._on_lost = on_lost
        self._window_s = window_s
        self._lines: dict[str, _Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._parked = False

    async def write(
        self, database: str, write: RowWrite, size_bytes: int, audit: AuditRow
    ) -> Written:
        """Apply a request, with others, and wait until it is replicated and published.

        Raises:
            Refusal: ``stopping``, ``disk-full``, ``lease-lapsed`` or ``replication-down``; the text
                says whether it may be there all the same.
        """
        if self._parked:
            raise Refusal("stopping", "the primary is stopping: send it again")
        done: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        waiting = Waiting(
            write=write,
            size_bytes=size_bytes,
            audit=audit,
            done=done,
            traceparent=carried().get(TRACEPARENT),
        )
        line = self._lines.get(database)
        if line is None:
            line = self._lines[database] = _Line()
            self._start(self._serve(database, line))
        line.waiting.append(waiting)
        line.came_s = time.perf_counter()
        if len(line.waiting) >= line.expected:
            line.all_came.set()
        await asyncio.wait([done], timeout=ANSWER_S)
        if done.done():
            return done.result()
        if waiting in line.waiting:
            line.waiting.remove(waiting)
            raise Refusal(
                "replication-down", "earlier writes are not replicated yet: nothing was written"
            )
        raise Refusal(
            "replication-down",
            f"the rows are not replicated yet; receipt {line.receipt_id} will say if they were",
        )

    async def drop_table(self, database: str, table: str, audit: AuditRow) -> int:
        """Drop a table, as ``write`` does; give a generation without it.

        Args:
            database: Its database.
            table: Its name; as in SQLite, the case of letters does not matter.
            audit: What the audit log says of it.

        Raises:
            Refusal: ``not-found``, or one of ``write``.
        """
        tables = self._primary.cut(database).tables
        name = next((each for each in tables if each.lower() == table.lower()), table)
        write = DropTable(table=name, database=database, confirm=True)
        written = await self.write(database, write, 0, audit)
        if written.answer.status == HTTPStatus.NOT_FOUND:
            raise Refusal("not-found", f"there is no table {table!r}")
        if written.answer.status != HTTPStatus.OK:
            raise Refusal("internal-error", "; ".join(written.answer.document["errors"]))
        return written.generation

    async def resume(self, unfinished: Iterable[tuple[Receipt, Options]]) -> None:
        """Find out about each batch that a stop or a crash left on its way.

        They ask for their databases first: nothing may be written there before.
        """
        for receipt, _options in unfinished:
            if receipt.format == FORMAT:
                self._start(self._settle(receipt))
        await asyncio.sleep(0)  # each now waits for its database's lock

    async def wait_all(self) -> None:
        """Wait until every request has been answered."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def park(self) -> None:
        """Begin no other batch, and leave those under way where they are."""
        self._parked = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, database: str, line: _Line) -> None:
        """Write batches until nobody waits any more."""
        taken: list[Waiting] = []
        try:
            await asyncio.sleep(self._window_s)
            while line.waiting:
                async with self._primary.database_lock(database):
                    taken = _take(line.waiting)
                    first, *others = (each.traceparent for each in taken)
                    with continued(first), span("rows", links=others, database=database):
                        await self._write_batch(database, line, taken)
                await self._gather(line, len(taken))
                taken = []
        finally:
            del self._lines[database]  # with the last look at who waits: nothing comes between
            left = "the primary is stopping, and the rows may be there or not"
            _tell(taken, Refusal("stopping", left))
            _tell(line.waiting, Refusal("stopping", "the primary is stopping: send it again"))

    async def _gather(self, line: _Line, answered: int) -> None:
        """Wait for those who were answered, as long as they come: most have something more to send.

        Else there are two halves of them, each of which waits for the other's batch as well. And a
        batch costs the more the fewer share it.
        """
        line.expected = len(line.waiting) + answered
        began_s = line.came_s = time.perf_counter()
        while len(line.waiting) < line.expected:
            until_s = min(line.came_s + GATHER * line.batch_s, began_s + line.batch_s)
            if (left_s := until_s - time.perf_counter()) <= 0:
                break
            line.all_came.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await line.all_came.wait()

    async def _write_batch(self, database: str, line: _Line, taken: list[Waiting]) -> None:
        """Take one batch to its end, and tell everybody."""
        started_s = time.perf_counter()
        receipt = self._receipt(database, taken)
        line.receipt_id = receipt.id
        writes = [each.write for each in taken]
        audits = [each.audit for each in taken]
        outcome = "failed"
        try:
            cut = self._primary.state.databases.get(database)
            if cut is None and not any(isinstance(each, _MAKING) for each in writes):
                raise Refusal("not-found", "Database not found")
            answers, receipt = await self._commit.run(receipt, writes, cut, audits)
        except Refusal as refusal:
            _tell(taken, refusal)
        except PrimaryLostError as exc:
            self._on_lost(exc)
            _tell(taken, Refusal("lease-lapsed", "another primary took over: nothing was written"))
        except Exception as exc:
            log.exception("rows not written", receipt=receipt.id)
            _tell(taken, refusal_of(exc))
        else:
            published = receipt.generation is not None
            line.batch_s = time.perf_counter() - started_s
            outcome = "published" if published else "unchanged"
            for each, answer in zip(taken, answers, strict=True):
                if not each.done.done():
                    each.done.set_result(
                        Written(
                            answer=answer,
                            receipt_id=receipt.id if published else None,
                            generation=receipt.generation or self._primary.state.number,
                        )
                    )
            if published:
                await self._commit.finish(receipt)
        self._metrics.rows.batches.labels(outcome).inc()
        self._metrics.rows.requests.labels(outcome).inc(len(taken))
        self._metrics.rows.rows.labels(outcome).inc(sum(each.rows_count for each in writes))
        self._metrics.rows.batch_requests.observe(len(taken))
        self._metrics.rows.batch_seconds.observe(time.perf_counter() - started_s)

    async def _settle(self, receipt: Receipt) -> None:
        """Publish a batch that was committed before a stop; else say that it was not."""
        try:
            async with self._primary.database_lock(receipt.database or ""):
                await self._commit.settle(receipt)
        except PrimaryLostError as exc:
            self._on_lost(exc)

    def _receipt(self, database: str, taken: list[Waiting]) -> Receipt:
        now = self._clock.now()
        return Receipt(
            id=new_receipt_id(now),
            state=UploadState.MERGING,
            filename="rows.json",
            bytes=sum(each.size_bytes for each in taken),
            sha256=None,
            database=database,
            mode="write",
            created_at=now,
            format=FORMAT,
        )


_MAKING = (CreateTable, OlderWrite)


def _take(waiting: list[Waiting]) -> list[Waiting]:
    """Take those that make the next batch: one at least."""
    rows = size_bytes = count = 0
    for each in waiting:
        rows += each.write.rows_count
        size_bytes += each.size_bytes
        if count and (rows > MOST_ROWS or size_bytes > MOST_BYTES):
            break
        count += 1
    taken = waiting[:count]
    del waiting[:count]
    return taken


def _tell(taken: list[Waiting], refusal: Refusal) -> None:
    for each in taken:
        if not each.done.done():
            each.done.set_exception(refusal)
            each.done.exception()  # perhaps nobody waits any more
