"""The live database: how it is opened, and changed in one transaction."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from headrace.errors import Refusal
from headrace.names import INTERNAL_TABLES, quote_identifier
from ingest.disk import refusal_of_full

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUSY_TIMEOUT_S = 30.0  # Litestream holds the write lock for moments, at checkpoints
CACHE_KIB = 64 * 1024


def find_last_merge(primary: Path) -> tuple[str, str | None] | None:
    """Give the id of the last upload that was merged into a database, and what the merge did."""
    with closing(connect(primary)) as db:
        try:
            row = db.execute("SELECT * FROM _headrace_merges").fetchone()
        except sqlite3.OperationalError:  # no such table: nothing was ever merged
            return None
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


def connect(path: Path) -> sqlite3.Connection:
    """Open a live database."""
    db = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    db.execute("PRAGMA wal_autocheckpoint = 0")  # Litestream checkpoints
    db.execute("PRAGMA secure_delete = OFF")  # else pages that become free are written, and shipped
    return db


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
        Refusal: ``disk-full``.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException as exc:
        if db.in_transaction:  # SQLite has rolled back by itself when the disk is full
            db.execute("ROLLBACK")
        if (full := refusal_of_full(exc)) is not None:
            raise full from exc
        raise


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
