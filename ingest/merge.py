"""merge: a staging database goes into the primary's database in one transaction.

Runs in a thread: all the work is SQLite's own C code, outside of the interpreter's lock. A merge
also writes the receipt's id into ``_headrace_merges``, in the same transaction, so that after a
crash it is known whether it happened.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.durable import fsync_path
from headrace.errors import Refusal
from headrace.names import INTERNAL_TABLES, quote_identifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUSY_TIMEOUT_S = 30.0  # Litestream holds the write lock for moments, at checkpoints
CACHE_KIB = 64 * 1024

_NUMERIC_TYPES = ("INT", "REAL", "FLOA", "DOUB", "NUM", "DEC", "BOOL", "DATE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What a merge did.

    Attributes:
        tables: Rows of each table that was written, as they stand after the merge.
        removed: Tables that are gone.
        warnings: What was skipped or filled in.
    """

    tables: dict[str, int]
    removed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def adopt(staging: Path, target: Path, receipt_id: str) -> None:
    """Make a staging database the first state of a new lineage; durable on return.

    The file is moved, not copied: it is in WAL mode, as Litestream needs it, and complete.
    """
    with closing(_connect(staging)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        with _transaction(db):
            _record(db, receipt_id)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    fsync_path(staging)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging.rename(target)
    fsync_path(target)
    fsync_path(target.parent)


def merge(
    primary: Path, staging: Path, *, mode: str, receipt_id: str, before: dict[str, int]
) -> Merged:
    """Merge every table of a staging database into a live one, in one transaction.

    Args:
        primary: The live database.
        staging: The staging database.
        mode: ``replace`` (a table takes the place of the one of its name), ``append`` (rows are
            added, by column name) or ``create`` (there must be no such table).
        receipt_id: The upload's.
        before: Rows of each table before the merge, so that nothing needs counting.

    Raises:
        Refusal: ``table-exists``, ``cannot-append`` or ``disk-full``; nothing is changed.
    """
    warnings: list[str] = []
    tables: dict[str, int] = {}
    with closing(_connect(primary)) as db:
        _attach(db, staging)
        with _transaction(db):
            for table, sql in _ordinary_tables(db, warnings):
                existing = _find_table(db, table)
                if existing is None:
                    tables[table] = _create(db, table, sql)
                elif mode == "replace":
                    db.execute(f"DROP TABLE main.{quote_identifier(existing)}")
                    tables[table] = _create(db, table, sql)
                elif mode == "append":
                    rows = _append(db, table, existing, warnings)
                    tables[existing] = before.get(existing, 0) + rows
                else:
                    raise Refusal("table-exists", f"the table {existing!r} exists already")
            _record(db, receipt_id)
    return Merged(tables=tables, warnings=tuple(warnings))


def drop_table(primary: Path, table: str) -> Merged:
    """Remove one table in one transaction.

    Raises:
        Refusal: ``not-found``.
    """
    with closing(_connect(primary)) as db, _transaction(db):
        existing = _find_table(db, table)
        if existing is None or existing in INTERNAL_TABLES:
            raise Refusal("not-found", f"there is no table {table!r}")
        db.execute(f"DROP TABLE main.{quote_identifier(existing)}")
    return Merged(tables={}, removed=(existing,))


def find_last_receipt(primary: Path) -> str | None:
    """Give the id of the last upload that was merged into a database."""
    with closing(_connect(primary)) as db:
        try:
            row = db.execute("SELECT receipt FROM _headrace_merges").fetchone()
        except sqlite3.OperationalError:  # no such table: nothing was ever merged
            return None
    return row and str(row[0])


def count_tables(primary: Path) -> dict[str, int]:
    """Count the rows of every table that people see."""
    with closing(_connect(primary)) as db:
        query = (
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' "
            "AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        )
        names = [row[0] for row in db.execute(query) if row[0] not in INTERNAL_TABLES]
        return {
            name: db.execute(f"SELECT count(*) FROM {quote_identifier(name)}").fetchone()[0]  # noqa: S608
            for name in names
        }


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    db.execute("PRAGMA wal_autocheckpoint = 0")  # Litestream checkpoints
    return db


def _attach(db: sqlite3.Connection, staging: Path) -> None:
    """Attach the staging database.

    Raises:
        Refusal: ``cannot-append``: one is UTF-8 and the other UTF-16, which SQLite keeps apart
            (sqlite.org/pragma.html, encoding).
    """
    try:
        db.execute("ATTACH ? AS staging", (str(staging),))
    except sqlite3.OperationalError as exc:
        if "text encoding" not in str(exc):
            raise
        raise Refusal(
            "cannot-append",
            "the file and the database have different text encodings (UTF-8 and UTF-16)",
            hint="send a SQLite file of the same encoding, or replace the whole database",
        ) from exc


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
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
        if isinstance(exc, sqlite3.Error) and exc.sqlite_errorname == "SQLITE_FULL":
            raise Refusal("disk-full", "the rows do not fit on the server's disk") from exc
        raise


def _record(db: sqlite3.Connection, receipt_id: str) -> None:
    """Note the upload; one row is enough, since a database has one merge under way at a time."""
    db.execute("CREATE TABLE IF NOT EXISTS main._headrace_merges (receipt TEXT NOT NULL)")
    db.execute("DELETE FROM main._headrace_merges")
    db.execute("INSERT INTO main._headrace_merges VALUES (?)", (receipt_id,))


def _ordinary_tables(db: sqlite3.Connection, warnings: list[str]) -> list[tuple[str, str]]:
    """List name and SQL of the staging tables that can be merged; warn of what is left out."""
    shadows = {
        row[0]
        for row in db.execute("SELECT name FROM pragma_table_list WHERE schema = 'staging' "
                              "AND type IN ('shadow', 'virtual')")
    }  # fmt: skip
    tables = []
    query = "SELECT type, name, sql FROM staging.sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
    for kind, name, sql in db.execute(query).fetchall():
        if name in shadows or kind in {"view", "trigger"}:
            warnings.append(f"left out the {kind} {name!r}: only ordinary tables are merged")
        elif kind == "table" and name not in INTERNAL_TABLES and not name.startswith("sqlite_"):
            tables.append((name, sql))
    return tables


def _find_table(db: sqlite3.Connection, table: str) -> str | None:
    """Give the table's name as it is written there; SQLite ignores the case of ASCII letters."""
    query = "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE"
    row = db.execute(query, (table,)).fetchone()
    return row and str(row[0])


def _create(db: sqlite3.Connection, table: str, sql: str) -> int:
    """Create a table as it is in staging, with its rows and indexes; give the rows."""
    db.execute(sql)
    name = quote_identifier(table)
    rows = db.execute(f"INSERT INTO main.{name} SELECT * FROM staging.{name}").rowcount  # noqa: S608
    indexes = (
        "SELECT sql FROM staging.sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql > ''"
    )
    for (index_sql,) in db.execute(indexes, (table,)).fetchall():
        db.execute(index_sql)
    return rows


def _append(db: sqlite3.Connection, table: str, existing: str, warnings: list[str]) -> int:
    """Add the staging rows to an existing table, by column name; give the rows added."""
    have = {name.lower(): (name, kind) for name, kind in _columns(db, "main", existing)}
    new = _columns(db, "staging", table)
    target = quote_identifier(existing)
    for name, kind in new:
        if name.lower() not in have:
            db.execute(f"ALTER TABLE main.{target} ADD COLUMN {quote_identifier(name)} {kind}")
            warnings.append(f"added the column {name!r}")
        else:
            _check_fits(db, table, name, have[name.lower()][1])
    missing = sorted(set(have) - {name.lower() for name, _kind in new})
    warnings.extend(f"the file has no column {have[name][0]!r}: NULL there" for name in missing)
    columns = ", ".join(quote_identifier(name) for name, _kind in new)
    source = quote_identifier(table)
    sql = f"INSERT INTO main.{target} ({columns}) SELECT {columns} FROM staging.{source}"  # noqa: S608
    try:
        return db.execute(sql).rowcount
    except sqlite3.IntegrityError as exc:
        raise Refusal("cannot-append", f"the rows break a rule of {existing!r}: {exc}") from exc


def _check_fits(db: sqlite3.Connection, table: str, column: str, kind: str) -> None:
    """Refuse text for a numeric column: SQLite would turn ``007`` into 7 in silence.

    Source: sqlite.org/datatype3.html, section 3 (type affinity).
    """
    if not any(part in kind.upper() for part in _NUMERIC_TYPES):
        return
    name = quote_identifier(column)
    query = (
        f"SELECT EXISTS (SELECT 1 FROM staging.{quote_identifier(table)} "  # noqa: S608
        f"WHERE typeof({name}) = 'text' AND {name} <> '')"
    )
    if db.execute(query).fetchone()[0]:
        raise Refusal(
            "cannot-append",
            f"the column {column!r} holds numbers ({kind}), and the file has text in it",
            hint="send the whole table with mode=replace",
        )


def _columns(db: sqlite3.Connection, schema: str, table: str) -> list[tuple[str, str]]:
    """List name and declared type of a table's own columns (generated ones are left out)."""
    query = "SELECT name, type FROM pragma_table_xinfo(?, ?) WHERE hidden = 0"
    return [(row[0], row[1]) for row in db.execute(query, (table, schema))]
