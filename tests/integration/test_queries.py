"""Canned queries and units, tried in a process of their own."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from ingest import queries
from ingest.queries import try_apart

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

GOOD = [
    "SELECT id FROM t WHERE name = :name",
    "-- first\n/* then */ WITH n AS (SELECT 1 AS a) SELECT a FROM n, t",
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c LIMIT 3",
    "SELECT value FROM json_each(:list)",
    "SELECT name FROM pragma_table_info('t')",
]
BAD = [
    ("SELECT colour FROM t", "no such column"),
    ("SELECT 1; SELECT 2", "one statement"),
    ("DELETE FROM t", "not one SELECT"),
    ("WITH n AS (SELECT 1) DELETE FROM t", "not one SELECT"),
    ("ATTACH 'x' AS y", "not one SELECT"),
    ("PRAGMA schema_version", "not one SELECT"),
    ("QUERY PLAN SELECT 1", "not one SELECT"),
    ("SELECT * FROM t WHERE id = ?", ""),
    ("SELECT :_cookie_ds_actor", "cookies"),
    ("SELECT $_header_authorization", "cookies"),
    ("SELECT", "incomplete"),
    ("SELECT '\0'", ""),
]


def _make(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)")
    return path


async def test_queries_are_told_apart(tmp_path: Path) -> None:
    """One SELECT over what is there is good; all else is named with what is wrong with it."""
    asked = [*GOOD, *(sql for sql, _ in BAD)]
    faults, _ = await try_apart(asked, [], [_make(tmp_path / "a b?.db")], os.environ)
    assert faults[: len(GOOD)] == [None] * len(GOOD)
    for (sql, why), fault in zip(BAD, faults[len(GOOD) :], strict=True):
        assert fault, sql
        assert why in fault, sql


async def test_units_are_those_that_datasette_can_show(tmp_path: Path) -> None:
    """A unit that would make pages fail is named."""
    asked = ["kg", "km/h", "m**2", "%", "blorps", "degC"]
    _, faults = await try_apart([], asked, [], os.environ)
    assert [fault is None for fault in faults] == [True] * 4 + [False] * 2


async def test_query_that_takes_years_to_prepare_ends_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sends a query that doubles at every step gets an answer, and those before too."""
    monkeypatch.setattr(queries, "TIMEOUT_S", 0.7)
    steps = ["a0 AS (SELECT 1 AS x)"]
    steps += [f"a{n} AS (SELECT 1 AS x FROM a{n - 1} p, a{n - 1} q)" for n in range(1, 60)]
    endless = f"WITH {', '.join(steps)} SELECT x FROM a59"
    faults, _ = await try_apart(["SELECT 1", endless], [], [_make(tmp_path / "t.db")], os.environ)
    assert faults[0] is None
    assert faults[1] is not None
    assert "takes too long" in faults[1]
