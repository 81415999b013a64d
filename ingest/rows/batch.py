"""Many requests in one transaction; each in a savepoint, so that one that fails undoes itself only.

The transaction is left open: what it did has to be journalled before it is committed.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from sqlite_utils.db import AlterError, InvalidColumns, NotFoundError, PrimaryKeyRequired

from headrace.errors import RowsError
from headrace.row_answers import error_document
from ingest.disk import refusal_of_full
from ingest.merge.database import connect, limit_values, record, refusal_of_limit
from ingest.merge.triggers import put_back, set_aside
from ingest.rows.changes import Applied, count_after
from ingest.rows.insert import insert_rows
from ingest.rows.one_row import delete_row, update_row
from ingest.rows.schema import Schema
from ingest.rows.tables import create_table, drop_table, write_older
from ingest.rows.writes import (
    Answer,
    CreateTable,
    DeleteRow,
    DropTable,
    InsertRows,
    OlderWrite,
    UpdateRow,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from headrace.receipt import TableOutcome
    from ingest.rows.writes import RowWrite

log = structlog.get_logger()

_APPLY: dict[type, Callable[[sqlite3.Connection, Schema, Any], Applied]] = {
    InsertRows: insert_rows,
    UpdateRow: update_row,
    DeleteRow: delete_row,
    CreateTable: create_table,
    DropTable: drop_table,
    OlderWrite: write_older,
}
# What Datasette answers with the words of the exception: they are about the rows.
_REFUSED = (
    *(sqlite3.Error, sqlite3.Warning, MemoryError, OverflowError, ValueError, TypeError),
    *(AlterError, InvalidColumns, NotFoundError, PrimaryKeyRequired),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch that is applied, and not committed.

    Attributes:
        answers: One for each request.
        written: Whether there is anything to commit.
        tables: Rows of every table.
        outcomes: What was done to each that was touched.
    """

    answers: tuple[Answer, ...]
    written: bool
    tables: Mapping[str, int]
    outcomes: tuple[TableOutcome, ...]


def write_batch(
    path: Path,
    writes: Sequence[RowWrite],
    before: Mapping[str, int],
    journal: Callable[[Batch], str | None],
) -> Batch:
    """Apply requests to a database, in their order; journal what they did, and commit it.

    All of it in one call, since each way from one thread to another takes a millisecond or more
    where the interpreter is busy.

    Args:
        path: The database.
        writes: The requests.
        before: Rows of every table.
        journal: Writes down what is to be committed, and gives the id to commit beside it; None:
            it is noted later. It is not called if there is nothing to commit.

    Raises:
        Refusal: ``disk-full``: nothing of it is there.
    """
    with closing(apply_batch(path, writes, before)) as opened:
        if opened.batch.written:
            opened.commit(journal(opened.batch))
        return opened.batch


def apply_batch(path: Path, writes: Sequence[RowWrite], before: Mapping[str, int]) -> OpenBatch:
    """Apply requests to a database, in their order; commit or close what is given back.

    Args:
        path: The database.
        writes: The requests.
        before: Rows of every table.

    Raises:
        Refusal: ``disk-full``.
    """
    db = connect(path)
    try:
        return OpenBatch(db, _apply_all(db, writes, before))
    except BaseException as exc:
        db.close()
        if (full := refusal_of_full(exc)) is not None:
            raise full from exc
        raise


class OpenBatch:
    """A transaction that waits for its commit; closed without one, it is undone.

    Attributes:
        batch: What it holds.
    """

    def __init__(self, db: sqlite3.Connection, batch: Batch) -> None:
        self._db = db
        self.batch = batch

    def commit(self, receipt_id: str | None) -> None:
        """Commit it, with the receipt's id beside the rows; durable on return.

        Raises:
            Refusal: ``disk-full``: nothing of it is there.
        """
        try:
            if receipt_id is not None:
                record(self._db, receipt_id)
            self._db.execute("COMMIT")
        except sqlite3.Error as exc:
            if (full := refusal_of_full(exc)) is not None:
                raise full from exc
            raise

    def close(self) -> None:
        """Let go of it; undo what is not committed."""
        with suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        self._db.close()


def _apply_all(
    db: sqlite3.Connection, writes: Sequence[RowWrite], before: Mapping[str, int]
) -> Batch:
    fatal: dict[int, Applied] = {}  # requests that undid the whole transaction
    while True:
        db.execute("BEGIN IMMEDIATE")
        limit_values(db, "main")
        aside = set_aside(db)
        applied: list[Applied] = []
        schema = Schema(db)
        for index, write in enumerate(writes):
            applied.append(fatal.get(index) or _apply(db, schema, write))
            if not db.in_transaction:  # such as ON CONFLICT ROLLBACK: all others once more
                fatal[index] = applied[-1]
                break
        else:
            break
    changes = [each for one in applied for each in one.changes]
    if written := {each.table for each in changes if each.written}:
        put_back(db, aside, written)
    tables, outcomes = count_after(db, before, changes)
    return Batch(
        answers=tuple(each.answer for each in applied),
        written=bool(written),
        tables=tables,
        outcomes=outcomes,
    )


def _apply(db: sqlite3.Connection, schema: Schema, write: RowWrite) -> Applied:
    db.execute("SAVEPOINT request")
    try:
        applied = _APPLY[type(write)](db, schema, write)
    except RowsError as exc:
        refused = _refused(exc.status, *exc.errors)
    except _REFUSED as exc:
        if refusal_of_full(exc) is not None:
            raise
        limit = refusal_of_limit(exc)
        refused = _refused(400, limit.detail if limit else str(exc))
    except Exception:
        log.exception("row write failed")
        refused = _refused(500, "the failure is in the server's log")
    else:
        db.execute("RELEASE request")
        return applied
    if db.in_transaction:
        db.execute("ROLLBACK TO request")
        db.execute("RELEASE request")
    schema.forget()
    return refused


def _refused(status: int, *errors: str) -> Applied:
    return Applied(answer=Answer(status=status, document=error_document(errors, status)))
