"""Rows of the audit log: SQL on the journal's connection, within whatever transaction is open."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from headrace.generation import format_time

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable
    from datetime import datetime

    from ingest.writer import Writer

ACCEPTED = "accepted"  # an upload; its receipt says how it went on
BEGUN = "begun"
OK = "ok"
MAX_DETAIL = 200  # characters
PRUNED_AT_ONCE = 10_000  # rows in one transaction

SCHEMA = """
CREATE TABLE IF NOT EXISTS audit (
    id INTEGER PRIMARY KEY,  -- in the order of writing
    at TEXT NOT NULL,
    who TEXT NOT NULL,
    name TEXT NOT NULL,
    address TEXT NOT NULL,
    what TEXT NOT NULL,
    database TEXT,
    receipt TEXT,
    detail TEXT,  -- what else it was about
    outcome TEXT NOT NULL,  -- accepted, begun, ok, or the code of a problem
    times INTEGER NOT NULL  -- how many the row stands for
) STRICT;
"""

COLUMNS = (
    "id", "at", "who", "name", "address", "what", "database", "receipt", "detail", "outcome",
    "times",
)  # fmt: skip
_INSERT = "INSERT INTO audit VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# An upload's outcome is that of its receipt by now.
_READ = """
SELECT audit.id, at, who, name, address, what, database, audit.receipt, detail,
       CASE WHEN outcome = 'accepted' AND receipts.id IS NOT NULL
            THEN coalesce(json_extract(receipts.receipt, '$.error.code'), receipts.state)
            ELSE outcome END,
       times
FROM audit LEFT JOIN receipts ON receipts.id = audit.receipt
WHERE audit.id < ? ORDER BY audit.id DESC LIMIT ?
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """One write, or several that are alike.

    Attributes:
        at: When.
        who: Id of the writer.
        name: His name then.
        address: Where he wrote from.
        what: ``upload``, ``delete-database``, …
        database: That it was about, if it was about one.
        receipt: Id of the receipt, if there is one.
        detail: What else it was about: a table, a generation, a token.
        outcome: ``accepted``, ``begun``, ``ok``, or the code of the problem.
        times: How many the row stands for.
    """

    at: datetime
    who: str
    name: str
    address: str
    what: str
    database: str | None = None
    receipt: str | None = None
    detail: str | None = None
    outcome: str = OK
    times: int = 1

    @classmethod
    def of(cls, writer: Writer, what: str, at: datetime, **members: Any) -> AuditRow:
        """Give the row of something that a writer does."""
        return cls(
            at=at,
            who=writer.id,
            name=writer.name,
            address=writer.address,
            what=what,
            **members,
        )


def count_alike(rows: Iterable[AuditRow], receipt: str) -> list[AuditRow]:
    """Give one row for those of one batch that say the same, with the batch's receipt."""
    found: dict[tuple[str | None, ...], AuditRow] = {}
    times: Counter[tuple[str | None, ...]] = Counter()
    for row in rows:
        alike = (row.who, row.address, row.what, row.detail)
        found.setdefault(alike, row)
        times[alike] += row.times
    return [replace(row, receipt=receipt, times=times[alike]) for alike, row in found.items()]


def insert_audit(db: sqlite3.Connection, rows: Iterable[AuditRow]) -> None:
    """Add rows, in the transaction that is open: they are kept if what they are about is."""
    db.executemany(_INSERT, [_values(row) for row in rows])


def insert_begun(db: sqlite3.Connection, row: AuditRow) -> int:
    """Add the row of something that is about to be done; give its id."""
    return int(db.execute(_INSERT, _values(row)).lastrowid or 0)


def set_outcome(db: sqlite3.Connection, row_id: int, outcome: str) -> None:
    """Write down how it ended."""
    db.execute("UPDATE audit SET outcome = ? WHERE id = ?", (outcome, row_id))


def read_audit(db: sqlite3.Connection, *, before: int, limit: int) -> list[dict[str, Any]]:
    """Read rows, newest first, each by the names of ``COLUMNS``."""
    found = db.execute(_READ, (before, limit)).fetchall()
    return [dict(zip(COLUMNS, row, strict=True)) for row in found]


def prune_audit(db: sqlite3.Connection, until: datetime) -> int:
    """Delete the oldest rows if they are older than that; give how many, of a bounded number."""
    sql = (
        "DELETE FROM audit WHERE id <= (SELECT max(id) FROM "
        "(SELECT id, at FROM audit ORDER BY id LIMIT ?) WHERE at < ?)"
    )
    return db.execute(sql, (PRUNED_AT_ONCE, format_time(until))).rowcount


def _values(row: AuditRow) -> tuple[Any, ...]:
    return (
        format_time(row.at), row.who, row.name, row.address, row.what,
        row.database, row.receipt, row.detail and row.detail[:MAX_DETAIL], row.outcome, row.times,
    )  # fmt: skip
