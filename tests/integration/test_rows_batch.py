"""Batches of rows: each request in a savepoint, all in one transaction."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from ingest.merge import count_tables, find_last_merge
from ingest.rows.batch import Batch, apply_batch, write_batch
from ingest.rows.writes import DeleteRow, InsertRows, UpdateRow

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.rows.writes import RowWrite


def make(path: Path, *statements: str) -> Path:
    """Make a database."""
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()
    return path


def insert(*ids: int, table: str = "t", **options: bool) -> InsertRows:
    """Give a request that inserts rows."""
    return InsertRows(table=table, rows=[{"id": each} for each in ids], **options)


def commit(path: Path, *writes: RowWrite) -> Batch:
    """Apply a batch, and commit it with a receipt's id."""
    return write_batch(path, writes, count_tables(path), lambda _batch: "the-receipt")


def ids(path: Path, table: str = "t") -> list[Any]:
    """Give what a table holds."""
    with closing(sqlite3.connect(path)) as db:
        return [row[0] for row in db.execute(f"SELECT id FROM {table} ORDER BY id")]


def test_batch_with_requests_that_fail_keeps_all_others(tmp_path: Path) -> None:
    """A request that fails in the middle leaves nothing of itself, and takes nobody with it."""
    path = make(tmp_path / "db", "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    batch = commit(
        path, insert(1), insert(2, 1), insert(3), insert(3), DeleteRow(table="t", pks=("9",))
    )
    assert [each.status for each in batch.answers] == [201, 400, 201, 400, 404]
    assert ids(path) == [1, 3]
    assert batch.tables == count_tables(path)
    assert find_last_merge(path) == ("the-receipt", None)


def test_batch_whose_transaction_is_rolled_back_keeps_all_others(tmp_path: Path) -> None:
    """A table that undoes the whole transaction undoes only the request that breaks its rule."""
    path = make(tmp_path / "db", "CREATE TABLE t (id INTEGER PRIMARY KEY ON CONFLICT ROLLBACK)")
    batch = commit(path, insert(1), insert(1), insert(2))
    assert [each.status for each in batch.answers] == [201, 400, 201]
    assert batch.answers[1].document["errors"] == ["UNIQUE constraint failed: t.id"]
    assert ids(path) == [1, 2]


def test_batch_that_is_not_committed_leaves_nothing(tmp_path: Path) -> None:
    """What is closed before its commit never was."""
    path = make(tmp_path / "db", "CREATE TABLE t (id INTEGER PRIMARY KEY)")
    with closing(apply_batch(path, [insert(1)], {"t": 0})) as opened:
        assert opened.batch.written
    assert ids(path) == []


def test_batch_that_cannot_be_journalled_is_not_committed(tmp_path: Path) -> None:
    """Rows are there only if their receipt is."""
    path = make(tmp_path / "db", "CREATE TABLE t (id INTEGER PRIMARY KEY)")

    def fail(_batch: Batch) -> str:
        raise sqlite3.OperationalError("the journal's disk is gone")

    with pytest.raises(sqlite3.OperationalError):
        write_batch(path, [insert(1)], {"t": 0}, fail)
    assert ids(path) == []


def test_batch_of_refused_or_ignored_rows_writes_nothing(tmp_path: Path) -> None:
    """There is no receipt and no generation for a batch that changes nothing."""
    path = make(
        tmp_path / "db", "CREATE TABLE t (id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)"
    )
    batch = commit(path, insert(1), insert(1, ignore=True))
    assert [each.status for each in batch.answers] == [400, 201]
    assert not batch.written
    assert find_last_merge(path) is None


def test_counts_after_any_write_are_those_of_the_tables(tmp_path: Path) -> None:
    """Readers show the numbers of the generation: they hold where rows replace others too."""
    path = make(
        tmp_path / "db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, u UNIQUE)",
        "CREATE TABLE r (id INTEGER PRIMARY KEY ON CONFLICT REPLACE)",
        "CREATE TABLE log (id INTEGER)",
        "CREATE TABLE w (id TEXT PRIMARY KEY) WITHOUT ROWID",
        "CREATE TRIGGER l AFTER INSERT ON w BEGIN INSERT INTO log VALUES (1), (2); END",
        "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
    )
    both = [{"id": 1, "u": "b"}]
    batch = commit(
        path,
        InsertRows(table="t", rows=both, replace=True),
        insert(3, 4, table="t", upsert=True),
        insert(4, table="t", upsert=True),
        insert(7, 8, table="w", returning=True),
        UpdateRow(table="w", pks=("7",), update={"id": "9"}, returning=True),
        DeleteRow(table="t", pks=("3",)),
        insert(1, 1, 2, table="r"),
    )
    assert {each.status for each in batch.answers} == {200, 201}
    assert batch.answers[3].document["rows"] == [{"id": "7"}, {"id": "8"}]
    assert batch.answers[4].document["rows"] == [{"id": "9"}]
    assert batch.tables == count_tables(path) == {"t": 2, "log": 0, "w": 2, "r": 2}


@pytest.mark.parametrize(
    "table", ["_litestream_seq", "_headrace_merges", "sqlite_sequence", "v", "f"]
)
def test_internal_and_virtual_tables_take_no_rows(tmp_path: Path, table: str) -> None:
    """What is not an ordinary table of people's is not written to."""
    path = make(
        tmp_path / "db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT)",
        "CREATE TABLE _litestream_seq (id)",
        "CREATE TABLE _headrace_merges (id)",
        "CREATE VIEW v AS SELECT * FROM t",
        "CREATE VIRTUAL TABLE f USING fts5 (id)",
    )
    batch = commit(path, insert(1, table=table))
    assert batch.answers[0].status in {400, 404}
    assert not batch.written
