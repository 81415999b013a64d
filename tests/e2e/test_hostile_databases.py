"""Uploaded databases that are made to do harm later, when rows are merged into them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.primary_kit import Primary, primaries

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024**2
MAX_BYTES = 400 * MIB  # of memory that the primary may ever have held

TABLES = "CREATE TABLE t (id INTEGER PRIMARY KEY, a); CREATE TABLE z (x);"
ENDLESS = f"""{TABLES} CREATE TRIGGER evil AFTER INSERT ON t BEGIN INSERT INTO z
    WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c WHERE x < 0;
    END;"""
UNCOUNTED = f"""{TABLES} INSERT INTO t VALUES (1, 1); CREATE TRIGGER evil AFTER INSERT ON t
    BEGIN INSERT INTO z VALUES (new.a); DELETE FROM t WHERE id = 1; END;"""
LARGE = """CREATE TABLE z (x);
    CREATE TABLE t (id, a, CHECK (a <> 5 OR length(hex(zeroblob(400000000))) > 0));"""


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Primary]:
    """Give one primary for all of them."""
    primary = Primary(tmp_path_factory.mktemp("hostile"), "node").start()
    with primaries(primary):
        yield primary.wait_until_up()


def made(tmp_path: Path, sql: str) -> bytes:
    """Give a SQLite file."""
    path = tmp_path / "made.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(sql)
    return path.read_bytes()


def test_triggers_without_end_keep_nobody_waiting_also_after_a_restart(
    primary: Primary, tmp_path: Path
) -> None:
    """They are in several databases, and do not run: uploads to all databases go on."""
    endless = made(tmp_path, ENDLESS)
    for number in range(4):
        database = f"endless{number}"
        primary.upload(endless, "s.db", database=database)
        primary.upload(b"id,a\n1,5\n", "t.csv", database=database, table="t", mode="append")
    primary.upload(b"a\n1\n", "o.csv", database="innocent")
    waiting = [
        primary.post(
            f"id,a\n{number},5\n".encode(),
            "t.csv",
            prefer="respond-async",
            database="endless0",
            table="t",
            mode="append",
        ).json()["id"]
        for number in range(10, 14)
    ]
    primary.kill()
    primary.start().wait_until_up()
    primary.upload(b"a\n2\n", "o.csv", database="innocent")
    for receipt_id in waiting:
        primary.wait_until_published(receipt_id)


def test_rows_that_triggers_would_write_are_neither_written_nor_counted(
    primary: Primary, tmp_path: Path
) -> None:
    """The receipt says what is in the database."""
    primary.upload(made(tmp_path, UNCOUNTED), "s.db", database="uncounted")
    receipt = primary.upload(
        b"id,a\n2,5\n3,6\n", "t.csv", database="uncounted", table="t", mode="append"
    )
    assert any("'evil'" in warning for warning in receipt["warnings"])
    (path,) = (primary.data / "dbs" / "uncounted").glob("?" * 16)
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        assert db.execute("SELECT id FROM t").fetchall() == [(1,), (2,), (3,)]
        assert db.execute("SELECT count(*) FROM z").fetchone() == (0,)
    assert (receipt["tables"][0]["added"], receipt["tables"][0]["unchanged"]) == (2, 1)


def test_memory_that_a_check_wants_is_refused(primary: Primary, tmp_path: Path) -> None:
    """The primary is not made to hold gigabytes, and goes on."""
    primary.upload(made(tmp_path, LARGE), "s.db", database="large")
    refused = primary.post(
        b"id,a\n1,5\n", "t.csv", database="large", table="t", mode="append"
    ).json()
    assert (refused["code"], refused["limit"]) == ("limit-exceeded", "value")
    status = Path(f"/proc/{primary.process.pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert int(fields["VmHWM"].split()[0]) * 1024 < MAX_BYTES
    primary.upload(b"id,a\n1,6\n", "t.csv", database="large", table="t", mode="append")
