"""The live database: how it is opened, and changed in one transaction.

What somebody uploaded is in there: checks, generated columns, indexes over expressions are worked
out in this process whenever a row is written. So each connection has limits, of time too.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from collections import defaultdict
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

from headrace.errors import Refusal
from headrace.names import INTERNAL_TABLES, quote_identifier
from ingest.converters.staging import MAX_ROW_BYTES
from ingest.disk import refusal_of_full

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUSY_TIMEOUT_S = 30.0  # Litestream holds the write lock for moments, at checkpoints
CACHE_KIB = 64 * 1024
# Of all connections of the process together: for each merge two caches, besides large values.
HEAP_BYTES = 512 * 1024**2 + max(2, os.cpu_count() or 1) * 2 * CACHE_KIB * 1024

TIME_S = 60.0  # that a connection may work; far more than it needs, so that a slow disk may be slow
BYTES_A_SECOND = 1024**2  # of the databases: what it may need more
INTERRUPT_EVERY_S = 1.0  # when it is over: each statement that runs then

_MOST_BYTES = 2 * MAX_ROW_BYTES  # of a value, and of a row with what is worked out beside it
_MOST_SQL = 64 * 1024  # characters of a table and its indexes, where that is to be worked out
_WORK_BYTES = 32 * 1024**3  # their number times the size of a value: half a minute for a row
# Functions whose time grows with the square of their values: half a minute for one of 1 MiB.
_SLOW = re.compile(r"\b(?:instr|replace|[lr]?trim|like|glob|json_patch)\b", re.IGNORECASE)
_MOST_SLOW = 100
_SLOW_BYTES = 1024**2
# What has to be there for a table, or an index, to work anything out.
_WORKED_OUT = {
    "table": re.compile(r"\b(?:CHECK|AS|DEFAULT)\b", re.IGNORECASE),
    "index": re.compile(r"\bWHERE\b|\(.*\(", re.IGNORECASE | re.DOTALL),
}
_MOST_PATTERN_BYTES = 1000  # of LIKE and GLOB


def find_last_merge(primary: Path) -> tuple[str, str | None] | None:
    """Give the id of the last upload that was merged into a database, and what the merge did."""
    with closing(connect(primary)) as db:
        query = "SELECT 1 FROM sqlite_schema WHERE name = '_headrace_merges' AND type = 'table'"
        if db.execute(query).fetchone() is None:  # nothing was ever merged
            return None
        row = db.execute("SELECT * FROM _headrace_merges").fetchone()
    return row and (str(row[0]), row[1] if len(row) > 1 else None)


def find_tables(primary: Path) -> set[str]:
    """Give the names of the tables that people see."""
    with closing(connect(primary)) as db:
        return set(_list_tables(db))


def count_tables(primary: Path) -> dict[str, int]:
    """Count the rows of every table that people see."""
    with closing(connect(primary)) as db:
        return {
            name: db.execute(f"SELECT count(*) FROM {quote_identifier(name)}").fetchone()[0]  # noqa: S608
            for name in _list_tables(db)
        }


class LiveConnection(sqlite3.Connection):
    """A connection that works within a time; then each statement of it is interrupted."""

    def close(self) -> None:
        """Close it."""
        _DEADLINES.end(self)
        super().close()


class _Deadlines:
    """Interrupts the connections whose time is over, from a thread of its own.

    That costs nothing while they work: a progress handler would need the interpreter's lock every
    time, and is called by the number of steps, of which one may take a second.
    """

    def __init__(self) -> None:
        self._ends_s: dict[LiveConnection, float] = {}
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self, db: LiveConnection, seconds: float) -> None:
        """Let a connection work for so long; it must be closed."""
        self._ends_s[db] = time.monotonic() + seconds
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, name="deadlines", daemon=True)
                self._thread.start()

    def end(self, db: LiveConnection) -> None:
        """Forget a connection."""
        self._ends_s.pop(db, None)

    def _watch(self) -> None:
        while True:
            time.sleep(INTERRUPT_EVERY_S)
            now_s = time.monotonic()
            for db, end_s in self._ends_s.copy().items():
                if end_s < now_s:
                    with suppress(sqlite3.ProgrammingError):  # it was closed just now
                        db.interrupt()


_DEADLINES = _Deadlines()


def connect(path: Path, *attached: Path) -> LiveConnection:
    """Open a live database; it must be closed.

    Args:
        path: Its file.
        attached: Files that it will be merged with: the larger they are, the longer it may work.
    """
    db = sqlite3.connect(
        path,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        factory=LiveConnection,
    )
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_BYTES)
    db.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, _MOST_PATTERN_BYTES)
    db.execute(f"PRAGMA hard_heap_limit = {HEAP_BYTES}")
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    db.execute("PRAGMA wal_autocheckpoint = 0")  # Litestream checkpoints
    db.execute("PRAGMA secure_delete = OFF")  # else pages that become free are written, and shipped
    sizes_bytes = sum(each.stat().st_size for each in (path, *attached))
    _DEADLINES.begin(db, TIME_S + sizes_bytes / BYTES_A_SECOND)
    return db


def limit_values(db: sqlite3.Connection, *schemas: str) -> None:
    """Let values be less large, the more a table's own SQL does with each; before rows are written.

    Nothing can interrupt SQLite within a row (vdbe.c: it looks where a program jumps back).

    Raises:
        Refusal: ``limit-exceeded``: that is too much.
    """
    for schema in schemas:
        stored = db.execute(
            f"SELECT type, tbl_name, sql FROM {schema}.sqlite_schema "  # noqa: S608
            "WHERE type IN ('table', 'index') AND sql IS NOT NULL"
        ).fetchall()
        texts: defaultdict[str, str] = defaultdict(str)
        for _kind, name, sql in stored:
            texts[name] += f"{sql} "
        for name in {name for kind, name, sql in stored if _WORKED_OUT[kind].search(sql)}:
            text = texts[name]
            slow = len(_SLOW.findall(text))
            if len(text) > _MOST_SQL or slow > _MOST_SLOW:
                raise _refuse(
                    {"limit": "work"}, f"the table {name!r} works out too much for each row"
                )
            most_bytes = min(_MOST_BYTES, _WORK_BYTES // len(text))
            if slow:
                most_bytes = min(most_bytes, int(_SLOW_BYTES / slow**0.5))
            if most_bytes < db.getlimit(sqlite3.SQLITE_LIMIT_LENGTH):
                db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, most_bytes)


def attach(db: sqlite3.Connection, staging: Path) -> None:
    """Attach the staging database.

    Raises:
        Refusal: ``cannot-append``: one is UTF-8 and the other UTF-16, which SQLite keeps apart
            (sqlite.org/pragma.html, encoding).
    """
    try:
        db.execute("ATTACH ? AS staging", (str(staging),))
        # The staging database is thrown away; but a statement that fails is undone in it.
        db.execute("PRAGMA staging.synchronous = OFF")
        db.execute("PRAGMA staging.secure_delete = OFF")
        db.execute(f"PRAGMA staging.cache_size = -{CACHE_KIB}")
    except sqlite3.OperationalError as exc:
        if "text encoding" not in str(exc):
            raise
        raise Refusal(
            "cannot-append",
            "the file and the database have different text encodings (UTF-8 and UTF-16)",
            hint="send a SQLite file of the same encoding, or replace the whole database",
        ) from exc


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Hold the write lock while the block runs; commit, or roll everything back.

    Raises:
        Refusal: ``disk-full``; ``limit-exceeded``: what the database itself works out for each row
            takes too much.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException as exc:
        if db.in_transaction:  # SQLite has rolled back by itself when the disk is full
            db.execute("ROLLBACK")
        if (refusal := refusal_of_full(exc) or refusal_of_limit(exc)) is not None:
            raise refusal from exc
        raise


def refusal_of_limit(exc: BaseException) -> Refusal | None:
    """Give the refusal that a failure means, if it is that of a limit of a connection."""
    if isinstance(exc, MemoryError):
        return _refuse({"limit": "memory"}, "it takes too much memory to write the rows")
    code = getattr(exc, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_TOOBIG:
        return _refuse({"limit": "value"}, "a value is too large to be written")
    if code == sqlite3.SQLITE_INTERRUPT:
        return _refuse({"limit": "merge"}, "it takes too long to write the rows")
    return None


def _refuse(extra: dict[str, str], detail: str) -> Refusal:
    return Refusal(
        "limit-exceeded",
        detail,
        hint="look at what the tables work out for each row: CHECK, generated columns, indexes "
        "over expressions",
        extra=extra,
    )


def record(db: sqlite3.Connection, receipt_id: str, outcome: str | None = None) -> None:
    """Note the upload; one row is enough, since a database has one merge under way at a time."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS main._headrace_merges (receipt TEXT NOT NULL, outcome TEXT)"
    )
    columns = db.execute("SELECT count(*) FROM pragma_table_info('_headrace_merges', 'main')")
    if columns.fetchone()[0] == 1:  # made by an earlier version
        db.execute("ALTER TABLE main._headrace_merges ADD COLUMN outcome TEXT")
    db.execute("DELETE FROM main._headrace_merges")
    db.execute("INSERT INTO main._headrace_merges VALUES (?, ?)", (receipt_id, outcome))


def _list_tables(db: sqlite3.Connection) -> list[str]:
    query = (
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' "
        "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    )
    return [row[0] for row in db.execute(query) if row[0] not in INTERNAL_TABLES]
