"""What the journal says of dropped files: a secret that ids follow from, and what came of which.

The secret makes that nobody can guess the id of a receipt, by which it is shown, from the name and
the size of a file. It is lost with the journal, and then so are the receipts.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.receipt import Receipt

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Mapping

    from ingest.buckets.place import Found

SCHEMA = """
CREATE TABLE IF NOT EXISTS bucket_secret (
    secret TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS bucket_files (  -- of places whose deletions are mirrored
    place TEXT NOT NULL,
    name TEXT NOT NULL,
    receipt TEXT,            -- id; NULL: what came of it was deleted with it
    round INTEGER NOT NULL,  -- how often that happened: it may come back as it was
    PRIMARY KEY (place, name)
) STRICT, WITHOUT ROWID;
"""

_LAST_MS = 16**12 - 1
_IN_ONE_QUERY = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the journal says of one file of a place whose deletions are mirrored.

    Attributes:
        receipt_id: What came of it; None: nothing is left of that.
        round: How often it was deleted.
    """

    receipt_id: str | None
    round: int


def find_or_make_secret(db: sqlite3.Connection) -> str:
    """Read the journal's secret; make one if there is none."""
    row = db.execute("SELECT secret FROM bucket_secret").fetchone()
    if row is None:
        row = (secrets.token_hex(32),)
        db.execute("INSERT INTO bucket_secret VALUES (?)", row)
    return str(row[0])


def event_key(secret: str) -> str:
    """Give what allows to tell of events, and nothing else."""
    return hmac.digest(secret.encode(), b"events", "sha256").hex()[:40]


def receipt_id_of(secret: str, place: str, found: Found, *, round_: int = 0) -> str:
    """Give the id of a file's receipt: 32 hex digits that sort by its date.

    In a bucket that is a whole second: versions of one second are listed in any order.
    """
    milliseconds = int(found.modified_at.timestamp() * 1000)
    what = [place, found.name, found.size_bytes, found.etag, milliseconds, round_]
    text = json.dumps(what).encode("ascii")
    digest = hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
    return f"{min(max(milliseconds, 0), _LAST_MS):012x}{digest[:20]}"


def find_taken(db: sqlite3.Connection, ids: Iterable[str]) -> set[str]:
    """Give those of some ids that have a receipt."""
    return {row[0] for row in _select(db, "id", ids)}


def find_receipts(db: sqlite3.Connection, ids: Iterable[str]) -> dict[str, Receipt]:
    """Read those of some receipts that there are."""
    rows = _select(db, "id, receipt", ids)
    return {row[0]: Receipt.decode(json.loads(row[1])) for row in rows}


def read_known(db: sqlite3.Connection, place: str) -> dict[str, Known]:
    """Read what is known of the files of a place, by their names."""
    query = "SELECT name, receipt, round FROM bucket_files WHERE place = ?"
    return {row[0]: Known(receipt_id=row[1], round=row[2]) for row in db.execute(query, (place,))}


def write_known(db: sqlite3.Connection, place: str, files: Mapping[str, Known]) -> None:
    """Write down what came of files of a place."""
    rows = [(place, name, each.receipt_id, each.round) for name, each in files.items()]
    db.executemany("INSERT OR REPLACE INTO bucket_files VALUES (?, ?, ?, ?)", rows)


def _select(db: sqlite3.Connection, columns: str, ids: Iterable[str]) -> Iterator[tuple[str, ...]]:
    left = list(ids)
    for start in range(0, len(left), _IN_ONE_QUERY):
        some = left[start : start + _IN_ONE_QUERY]
        marks = ", ".join("?" * len(some))
        query = f"SELECT {columns} FROM receipts WHERE id IN ({marks})"  # noqa: S608 - both ours
        yield from db.execute(query, some)
