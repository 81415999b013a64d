"""The journal: every receipt, with what is needed to go on after a crash.

One SQLite database in WAL mode, synchronous=FULL: what was saved survives a power cut.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.generation import format_time
from headrace.idempotency import KEPT_FOR, Claim
from headrace.receipt import Receipt
from headrace.wishes import Wishes
from ingest import audit_rows, token_store
from ingest.audit_rows import insert_audit
from ingest.buckets import record
from ingest.changes import Changes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from headrace.clock import SteadyClock
    from ingest.audit_rows import AuditRow

Done = TypeVar("Done")

SERVER_ERROR = 500  # and above: HTTP statuses of what is not the client's fault

BATCHES_KEPT_FOR = timedelta(hours=24)
FORGET_AT_ONCE = 20  # receipts: more than come, and nobody waits for long

_FIND_OLD_BATCH = """
SELECT 1 FROM receipts WHERE instr(receipt, '"format": "rows"') > 0 AND id < ? LIMIT 1
"""
_FORGET_BATCHES = """
DELETE FROM receipts WHERE id IN (
    SELECT id FROM receipts WHERE instr(receipt, '"format": "rows"') > 0 AND id < ?
    AND state IN ('published', 'failed') ORDER BY id LIMIT ?)
"""

_SCHEMA = (
    token_store.SCHEMA
    + audit_rows.SCHEMA
    + record.SCHEMA
    + """
CREATE TABLE IF NOT EXISTS receipts (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    receipt TEXT NOT NULL,  -- JSON, as clients see it
    options TEXT NOT NULL   -- JSON of Options
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS live (  -- when a region first showed a generation
    region TEXT NOT NULL,
    generation INTEGER NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (region, generation)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (  -- what an Idempotency-Key stands for
    key TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    receipts TEXT NOT NULL,  -- JSON: ids
    at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS aliases (  -- receipts of requests that turned out to be another's
    id TEXT PRIMARY KEY,
    receipt TEXT NOT NULL  -- id of the receipt that is shown for it
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notes (  -- what else a successor has to know
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    note TEXT NOT NULL,  -- JSON
    number INTEGER NOT NULL,  -- grows with each note of its kind
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS receipts_rows ON receipts (id)
    WHERE instr(receipt, '"format": "rows"') > 0;
CREATE INDEX IF NOT EXISTS receipts_unfinished ON receipts (id)
    WHERE state NOT IN ('published', 'failed');
CREATE INDEX IF NOT EXISTS receipts_database ON receipts (json_extract(receipt, '$.database'));
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the client asked for, besides what the receipt says.

    Attributes:
        table: Name for the table that a file makes; None: made from the file's name.
        media_type: As the client sent it; None if it said nothing.
        wishes: How the file is read and shaped.
        table_given: Whether the client named the table.
        metadata: What the request says about the database; None if nothing.
        sent_by: Id of who sent it. It is nothing about the file: two that differ in it are equal.
        traceparent: The span of the request; None if it is not traced. The same is true of it.
    """

    table: str | None
    media_type: str | None
    wishes: Wishes = field(default_factory=Wishes)
    table_given: bool = False
    metadata: dict[str, Any] | None = None
    sent_by: str = field(default="root", compare=False)
    traceparent: str | None = field(default=None, compare=False)


class Journal:
    """The receipts of one primary.

    Args:
        path: Its database.
        clock: Says when an ``Idempotency-Key`` is too old.
    """

    def __init__(self, path: Path, clock: SteadyClock) -> None:
        self._clock = clock
        self.changes = Changes()
        # One thread owns the connection, so saves happen in the order they were asked for.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._db = self._thread.submit(_open, path).result()

    async def close(self) -> None:
        """Close the database after what was asked for is done."""
        await self._run(self._db.close)
        self._thread.shutdown()

    async def add(
        self,
        uploads: Iterable[tuple[Receipt, Options]],
        claim: Claim | None = None,
        aliases: Sequence[tuple[str, str]] = (),
        audit: Sequence[AuditRow] = (),
    ) -> None:
        """Write down the new receipts of one request, and its key: durably, all or none.

        Args:
            uploads: Receipts, each with what was asked for besides.
            claim: What the key stands for.
            aliases: Ids of receipts that nobody knows, each with that of the one to show for it.
            audit: What the audit log says of it.
        """
        rows = [
            (receipt.id, receipt.state.value, _dump(receipt.encode()), _dump_options(options))
            for receipt, options in uploads
        ]
        now = self._clock.now()

        def write(db: sqlite3.Connection) -> None:
            db.executemany("INSERT INTO receipts VALUES (?, ?, ?, ?)", rows)
            db.executemany("INSERT OR REPLACE INTO aliases VALUES (?, ?)", aliases)
            insert_audit(db, audit)
            if claim is not None:
                kept_since = format_time(now - KEPT_FOR)
                db.execute("DELETE FROM claims WHERE at < ?", (kept_since,))
                ids = json.dumps(claim.receipts)
                row = (claim.key, claim.fingerprint, ids, format_time(now))
                db.execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?)", row)

        await self.change(write)
        self.changes.note(*(row[0] for row in rows), *(sent for sent, _shown in aliases))

    async def change(self, write: Callable[[sqlite3.Connection], Done]) -> Done:
        """Run what writes several things, in one transaction: durably, all or none."""
        return await self._run(lambda: self._change(write))

    def _change(self, write: Callable[[sqlite3.Connection], Done]) -> Done:
        self._db.execute("BEGIN")
        try:
            done = write(self._db)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite has rolled back by itself on a full disk
                self._db.execute("ROLLBACK")
            raise
        return done

    async def look(self, read: Callable[[sqlite3.Connection], Done]) -> Done:
        """Run what only reads."""
        return await self._run(lambda: read(self._db))

    def add_now(self, receipt: Receipt, options: Options, audit: Iterable[AuditRow]) -> None:
        """Write down the receipt of a new batch of rows, durably, from a thread that may wait.

        There may be dozens a second, so those that are older than a day are forgotten.
        """
        row = (receipt.id, receipt.state.value, _dump(receipt.encode()), _dump_options(options))
        old = f"{int((self._clock.now() - BATCHES_KEPT_FOR).timestamp() * 1000):012x}"

        def write(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO receipts VALUES (?, ?, ?, ?)", row)
            insert_audit(db, audit)
            if db.execute(_FIND_OLD_BATCH, (old,)).fetchone() is not None:
                db.execute(_FORGET_BATCHES, (old, FORGET_AT_ONCE))

        self._thread.submit(self._change, write).result()

    async def find_claim(self, key: str) -> Claim | None:
        """Read what a key stands for, if it was used lately, and what to try again."""
        query = "SELECT fingerprint, receipts FROM claims WHERE key = ? AND at >= ?"
        since = format_time(self._clock.now() - KEPT_FOR)
        row = await self._run(lambda: self._db.execute(query, (key, since)).fetchone())
        if row is None:
            return None
        receipts = tuple(json.loads(row[1]))
        found = [await self.find(receipt_id) for receipt_id in receipts]
        failed = frozenset(
            each.id
            for each in found
            if each and each.error and each.error["status"] >= SERVER_ERROR
        )
        return Claim(key=key, fingerprint=row[0], receipts=receipts, failed=failed)

    async def save(self, receipt: Receipt) -> None:
        """Write down a receipt's new state, durably."""
        row = (receipt.state.value, _dump(receipt.encode()), receipt.id)
        await self._run(
            lambda: self._db.execute("UPDATE receipts SET state = ?, receipt = ? WHERE id = ?", row)
        )
        self.changes.note(receipt.id)

    async def find(self, receipt_id: str) -> Receipt | None:
        """Read one receipt, or the one that is shown for it."""
        query = (
            "SELECT receipt FROM receipts "
            "WHERE id = coalesce((SELECT receipt FROM aliases WHERE id = :id), :id)"
        )
        row = await self._run(lambda: self._db.execute(query, {"id": receipt_id}).fetchone())
        return row and _load(row[0])

    async def find_options(self, receipt_id: str) -> Options | None:
        """Read what the client asked for besides what the receipt says."""
        query = "SELECT options FROM receipts WHERE id = ?"
        row = await self._run(lambda: self._db.execute(query, (receipt_id,)).fetchone())
        return row and _load_options(row[0])

    async def read_newest(
        self, *, limit: int, before: str | None = None, databases: Collection[str] | None = None
    ) -> list[Receipt]:
        """Read the newest receipts, newest first.

        Args:
            limit: How many at most.
            before: A receipt id, to page on.
            databases: Only those of these; None: all.
        """
        query = "SELECT receipt FROM receipts WHERE id < ? {} ORDER BY id DESC LIMIT ?"
        names = [] if databases is None else sorted(databases)
        marks = ", ".join("?" * len(names))
        only = "" if databases is None else f"AND json_extract(receipt, '$.database') IN ({marks})"
        arguments = (before or "g", *names, limit)  # hex digits all sort before "g"
        rows = await self._run(lambda: self._db.execute(query.format(only), arguments).fetchall())
        return [_load(row[0]) for row in rows]

    async def read_unfinished(self) -> list[tuple[Receipt, Options]]:
        """Read the receipts that a stop or a crash left on their way, as their bytes arrived.

        Not by their ids: those of dropped files tell only the second in which these were written
        (``ingest/buckets/record.py``), and of two versions the later one has to win.
        """
        query = (
            "SELECT receipt, options FROM receipts WHERE state NOT IN ('published', 'failed') "
            "ORDER BY json_extract(receipt, '$.created_at'), id"
        )
        rows = await self._run(lambda: self._db.execute(query).fetchall())
        return [(_load(row[0]), _load_options(row[1])) for row in rows]

    async def note_live(self, region: str, generation: int, at: datetime) -> None:
        """Write down when a region showed a generation, and with it all before."""
        row = (region, generation, format_time(at))
        await self._run(
            lambda: self._db.execute("INSERT OR IGNORE INTO live VALUES (?, ?, ?)", row)
        )
        self.changes.note_all()

    async def read_regions(self) -> set[str]:
        """Read the names of all regions that ever showed something."""
        query = "SELECT DISTINCT region FROM live"
        return {row[0] for row in await self._run(lambda: self._db.execute(query).fetchall())}

    async def read_noted(
        self, regions: Iterable[str], *, limit: int
    ) -> dict[str, list[tuple[int, str]]]:
        """Read the newest notes of regions: a generation, and when it was shown; oldest first."""
        query = "SELECT generation, at FROM live WHERE region = ? ORDER BY generation DESC LIMIT ?"
        return await self._run(
            lambda: {
                region: self._db.execute(query, (region, limit)).fetchall()[::-1]
                for region in regions
            }
        )

    async def read_live(self, generation: int) -> dict[str, str]:
        """Read which regions show a generation, and since when."""
        # The first note at or above a generation: SQLite gives the other columns of min()'s row.
        query = "SELECT region, min(generation), at FROM live WHERE generation >= ? GROUP BY region"
        rows = await self._run(lambda: self._db.execute(query, (generation,)).fetchall())
        return {region: at for region, _generation, at in rows}

    async def put_note(self, kind: str, note_id: str, note: dict[str, Any], *, keep: int) -> None:
        """Write down a note, or what has become of it, durably.

        Args:
            kind: What it is about.
            note_id: Which of these.
            note: JSON.
            keep: How many of a kind are kept: the oldest go.
        """

        def write(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO notes SELECT ?1, ?2, ?3, coalesce(max(number), 0) + 1 FROM notes "
                "WHERE kind = ?1 ON CONFLICT DO UPDATE SET note = excluded.note",
                (kind, note_id, _dump(note)),
            )
            db.execute(
                "DELETE FROM notes WHERE kind = ?1 AND number <= (SELECT number FROM notes "
                "WHERE kind = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
                (kind, keep),
            )

        await self.change(write)

    async def find_note(self, kind: str, note_id: str) -> dict[str, Any] | None:
        """Read one note."""
        query = "SELECT note FROM notes WHERE kind = ? AND id = ?"
        row = await self._run(lambda: self._db.execute(query, (kind, note_id)).fetchone())
        note: dict[str, Any] | None = row and json.loads(row[0])
        return note

    async def read_notes(self, kind: str) -> list[dict[str, Any]]:
        """Read all notes of a kind, the oldest first."""
        query = "SELECT note FROM notes WHERE kind = ? ORDER BY number"
        rows = await self._run(lambda: self._db.execute(query, (kind,)).fetchall())
        return [json.loads(row[0]) for row in rows]

    async def delete_note(self, kind: str, note_id: str) -> None:
        """Forget one note."""
        query = "DELETE FROM notes WHERE kind = ? AND id = ?"
        await self._run(lambda: self._db.execute(query, (kind, note_id)))

    async def _run(self, work: Callable[[], Done]) -> Done:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    # Litestream checkpoints. A second one, by us, lets the WAL begin anew with frames in it that
    # Litestream has not read: they would be missing from the replica, without a word (seen with
    # 0.5.17, where both do it at 1000 pages).
    db.execute("PRAGMA wal_autocheckpoint = 0")
    db.executescript(_SCHEMA)
    return db


def _dump(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False)


def _dump_options(options: Options) -> str:
    return _dump(
        {
            "table": options.table,
            "media_type": options.media_type,
            "wishes": options.wishes.encode(),
            "table_given": options.table_given,
            "metadata": options.metadata,
            "sent_by": options.sent_by,
        }
    )


def _load_options(text: str) -> Options:
    values = json.loads(text)
    return Options(**{**values, "wishes": Wishes.decode(values.get("wishes", {}))})


def _load(text: str) -> Receipt:
    return Receipt.decode(json.loads(text))
