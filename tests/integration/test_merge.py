"""Merging staging databases into live ones."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from headrace.errors import Refusal
from ingest.merge import Merged, adopt, count_tables, find_last_merge, merge

if TYPE_CHECKING:
    from pathlib import Path


def make_database(path: Path, *statements: str) -> Path:
    """Make a SQLite file."""
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()
    return path


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Ask a SQLite file."""
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def last_receipt(path: Path) -> str | None:
    """Give the id of the last upload."""
    last = find_last_merge(path)
    return last and last[0]


def rows_of(merged: Merged) -> dict[str, int]:
    """Give the rows of each table after a merge."""
    return {table.name: table.rows for table in merged.tables}


@pytest.fixture
def primary(tmp_path: Path) -> Path:
    """Give a live database with the table `t` of two rows, adopted."""
    staging = make_database(
        tmp_path / "first.db",
        "CREATE TABLE t (id INTEGER, name TEXT)",
        "INSERT INTO t VALUES (1, 'Ada'), (2, 'Grace')",
    )
    target = tmp_path / "dbs" / "sales" / "0123456789abcdef"
    adopt(staging, target, "receipt-1")
    return target


def test_adopt_moves_the_file_in_wal_mode(primary: Path, tmp_path: Path) -> None:
    """A new lineage is the staging file itself, ready for Litestream, with the receipt in it."""
    assert not (tmp_path / "first.db").exists()
    assert query(primary, "PRAGMA journal_mode") == [("wal",)]
    assert query(primary, "SELECT * FROM t") == [(1, "Ada"), (2, "Grace")]
    assert last_receipt(primary) == "receipt-1"


def test_adopt_beside_an_earlier_lineage_leaves_that_alone(primary: Path, tmp_path: Path) -> None:
    """Only the first lineage of a database brings its folder with it."""
    staging = make_database(tmp_path / "second.db", "CREATE TABLE u (x)")
    target = primary.with_name("fedcba9876543210")
    adopt(staging, target, "receipt-2")
    assert (last_receipt(primary), last_receipt(target)) == ("receipt-1", "receipt-2")
    assert list(tmp_path.iterdir()) == [tmp_path / "dbs"]


def test_merge_replace_takes_the_place_of_the_table(primary: Path, tmp_path: Path) -> None:
    """Rows are the new file's, with its columns and indexes; other tables stay."""
    make_database(primary, "CREATE TABLE other (x)", "INSERT INTO other VALUES (1)")
    staging = make_database(
        tmp_path / "s.db",
        "CREATE TABLE T (id INTEGER, born INTEGER)",
        "CREATE INDEX t_born ON T (born)",
        "INSERT INTO T VALUES (3, 1912)",
    )
    merged = merge(primary, staging, mode="replace", receipt_id="r2", before={"t": 2, "other": 1})
    assert rows_of(merged) == {"t": 1}
    assert query(primary, "SELECT id, born FROM t") == [(3, 1912)]
    assert query(primary, "SELECT * FROM other") == [(1,)]
    assert query(primary, "SELECT name FROM sqlite_master WHERE type = 'index'") == [("t_born",)]
    assert last_receipt(primary) == "r2"


def test_merge_append_adds_by_column_name(primary: Path, tmp_path: Path) -> None:
    """Columns may come in another order, be new, or be missing."""
    staging = make_database(
        tmp_path / "s.db",
        "CREATE TABLE t (born INTEGER, id INTEGER)",
        "INSERT INTO t VALUES (1912, 3)",
    )
    merged = merge(primary, staging, mode="append", receipt_id="r2", before={"t": 2})
    assert rows_of(merged) == {"t": 3}
    assert query(primary, "SELECT * FROM t") == [
        (1, "Ada", None),
        (2, "Grace", None),
        (3, None, 1912),
    ]
    assert merged.warnings == (
        "added the column 'born' to 't'",
        "the file has no column 'name': NULL there",
    )


@pytest.mark.parametrize(
    ("mode", "statement", "code"),
    [
        ("create", "INSERT INTO t VALUES (3, 'x')", "table-exists"),
        ("upsert", "INSERT INTO t VALUES (3, 'x')", "invalid-option"),
    ],
)
def test_merge_refused_changes_nothing(
    primary: Path, tmp_path: Path, mode: str, statement: str, code: str
) -> None:
    """A merge that cannot be whole is not done at all, also in tables that came before."""
    staging = make_database(
        tmp_path / "s.db",
        "CREATE TABLE a (x)",
        "CREATE TABLE t (id TEXT, name TEXT)",
        statement,
    )
    with pytest.raises(Refusal) as refused:
        merge(primary, staging, mode=mode, receipt_id="r2", before={"t": 2})
    assert refused.value.code == code
    assert count_tables(primary) == {"t": 2}
    assert last_receipt(primary) == "receipt-1"


def test_merge_of_uploaded_sqlite_leaves_out_what_cannot_be_merged(
    primary: Path, tmp_path: Path
) -> None:
    """Views, triggers and full-text tables of an appended SQLite file are left out, and said."""
    staging = make_database(
        tmp_path / "s.db",
        "CREATE TABLE extra (x)",
        "CREATE VIEW v AS SELECT * FROM extra",
        "CREATE VIRTUAL TABLE words USING fts5(text)",
        "CREATE TRIGGER g AFTER INSERT ON extra BEGIN DELETE FROM extra; END",
        "INSERT INTO extra VALUES (1)",
    )
    merged = merge(primary, staging, mode="append", receipt_id="r2", before={"t": 2})
    assert set(rows_of(merged)) == {"extra"}
    assert {"view 'v'", "table 'words'", "trigger 'g'"} <= {
        warning.removeprefix("left out the ").partition(":")[0] for warning in merged.warnings
    }


def test_merge_of_another_encoding_is_refused(primary: Path, tmp_path: Path) -> None:
    """SQLite cannot attach a UTF-16 database to a UTF-8 one: that is said, not a defect."""
    staging = make_database(
        tmp_path / "s.db", "PRAGMA encoding = 'UTF-16'", "CREATE TABLE extra (x)"
    )
    with pytest.raises(Refusal) as refused:
        merge(primary, staging, mode="append", receipt_id="r2", before={"t": 2})
    assert refused.value.code == "cannot-append"
