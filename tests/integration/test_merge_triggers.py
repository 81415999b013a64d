"""Triggers and expressions of an uploaded database: kept, counted, bounded, and never let loose."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from headrace.errors import Refusal
from ingest.merge import count_tables, database, find_last_merge, triggers
from ingest.rows.batch import write_batch
from ingest.rows.writes import InsertRows
from tests.integration.merge_kit import Live, counts

if TYPE_CHECKING:
    from pathlib import Path

TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, a)"
LOG = "CREATE TABLE z (x)"
ENDLESS = (
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c WHERE x < 0"
)
EVIL = f"CREATE TRIGGER evil AFTER INSERT ON t BEGIN INSERT INTO z {ENDLESS}; END"
HEAD = "CREATE TRIGGER t_ai AFTER INSERT ON t"
FILL = "INSERT INTO f (rowid, a) VALUES (new.rowid, new.a)"
SAID = "triggers of 't' are kept, and were not run: 'evil'"


@pytest.fixture
def live(tmp_path: Path) -> Live:
    """Give a folder for a live database."""
    return Live(tmp_path)


def stored_triggers(live: Live) -> list[str]:
    """Give the SQL of the triggers that are there."""
    return [row[0] for row in live.query("SELECT sql FROM sqlite_schema WHERE type = 'trigger'")]


def write(live: Live, *rows: dict[str, object], table: str = "t") -> list[int]:
    """Write rows as the write API does; give the statuses."""
    writes = [InsertRows(table=table, rows=[row]) for row in rows]
    before = count_tables(live.path)
    return [each.status for each in write_batch(live.path, writes, before, lambda _: "it").answers]


@pytest.mark.parametrize("mode", ["append", "upsert", "replace"])
def test_trigger_without_end_is_kept_and_does_not_run_in_a_merge(live: Live, mode: str) -> None:
    """A trigger of somebody's is part of his database, and no order to the primary."""
    live.begin(TABLE, LOG, EVIL)
    merged = live.merge(mode, TABLE, "INSERT INTO t VALUES (1, 5)")
    assert counts(merged.tables[0]) == (1, 0, 0, 0)
    assert SAID in merged.warnings
    assert stored_triggers(live) == [EVIL]
    assert count_tables(live.path) == {"t": 1, "z": 0}


def test_trigger_without_end_is_kept_and_does_not_run_when_rows_are_written(live: Live) -> None:
    """The write API does not run triggers either."""
    live.begin(TABLE, LOG, EVIL)
    assert write(live, {"id": 1}, {"id": 2}) == [201, 201]
    assert stored_triggers(live) == [EVIL]
    assert count_tables(live.path) == {"t": 2, "z": 0}


def test_triggers_of_a_file_that_is_merged_do_not_run(live: Live) -> None:
    """Merges write to the file's own tables as well, such as ids of a lookup."""
    lookup = "CREATE TABLE zips (id INTEGER PRIMARY KEY, zip TEXT)"
    table = "CREATE TABLE t (n, zips_id INTEGER REFERENCES zips (id))"
    live.begin(lookup, table, "INSERT INTO zips VALUES (1, 'a')")
    plain = "CREATE TABLE t (n, zip TEXT)"
    evil = EVIL.replace("INSERT ON", "UPDATE ON")
    live.merge("append", plain, LOG, evil, "INSERT INTO t VALUES (1, 'a')")
    assert live.query("SELECT * FROM t") == [(1, 1)]


@pytest.mark.parametrize(
    "trigger",
    [
        # A search's own trigger, but for a condition.
        f"{HEAD} WHEN (SELECT count(*) FROM z) = 0 BEGIN {FILL}; END",
        # One that does more.
        f"{HEAD} BEGIN {FILL}; DELETE FROM z; END",
        f"{HEAD} BEGIN /* f */ DELETE FROM z; END",
    ],
)
def test_trigger_that_resembles_one_of_a_search_is_replaced(live: Live, trigger: str) -> None:
    """Only what is written here runs; the search is right all the same."""
    search = "CREATE VIRTUAL TABLE f USING fts5 (a, content='t')"
    live.begin(TABLE, LOG, "INSERT INTO z VALUES (1)", search, trigger)
    merged = live.merge("append", TABLE, "INSERT INTO t VALUES (1, 'moth')")
    assert any("'t_ai' was replaced" in warning for warning in merged.warnings)
    assert write(live, {"id": 2, "a": "moth"}) == [201]
    assert live.query("SELECT rowid FROM f WHERE f MATCH 'moth'") == [(1,), (2,)]
    assert count_tables(live.path)["z"] == 1
    assert len(stored_triggers(live)) == 3


def test_name_that_holds_statements_does_not_make_a_search_trigger(live: Live) -> None:
    """What is a column's name in the search's own trigger is not compared with statements."""
    name = "a) VALUES (1, 2); DELETE FROM z; INSERT INTO f (rowid, a"
    live.begin(
        f'CREATE TABLE t ("{name}")',
        LOG,
        "INSERT INTO z VALUES (1)",
        f"CREATE VIRTUAL TABLE f USING fts5 (\"{name}\", content='t')",
        f"CREATE TRIGGER t_ai AFTER INSERT ON t BEGIN INSERT INTO f (rowid, {name}) "
        "VALUES (new.rowid, 1); END",
    )
    live.merge("append", f'CREATE TABLE t ("{name}")', "INSERT INTO t VALUES ('moth')")
    assert count_tables(live.path)["z"] == 1
    assert live.query("SELECT rowid FROM f WHERE f MATCH 'moth'") == [(1,)]


def test_search_of_a_table_is_right_after_rows_were_written(live: Live) -> None:
    """The triggers that sqlite-utils writes go on working, by merges and by single rows."""
    live.begin(
        TABLE,
        "CREATE VIRTUAL TABLE f USING fts5 (a, content='t')",
        "CREATE TRIGGER [t_ai] AFTER INSERT ON [t] BEGIN\n  INSERT INTO [f] (rowid, [a]) "
        "VALUES (new.rowid, new.[a]);\nEND",
    )
    before = stored_triggers(live)
    assert write(live, {"id": 1, "a": "moth"}) == [201]
    merged = live.merge("append", TABLE, "INSERT INTO t VALUES (2, 'moth')")
    assert merged.warnings == ()
    assert stored_triggers(live) == before
    assert live.query("SELECT rowid FROM f WHERE f MATCH 'moth'") == [(1,), (2,)]


def test_old_kind_of_search_is_right_after_rows_were_written(live: Live) -> None:
    """FTS4 is filled again where its triggers do not run."""
    trigger = f"{HEAD} BEGIN {FILL}; END"
    live.begin(TABLE, 'CREATE VIRTUAL TABLE f USING fts4 (a, content="t")', trigger)
    assert write(live, {"id": 1, "a": "moth"}) == [201]
    live.merge("append", TABLE, "INSERT INTO t VALUES (2, 'moth')")
    assert live.query("SELECT docid FROM f WHERE f MATCH 'moth'") == [(1,), (2,)]
    assert stored_triggers(live) == [trigger]


def test_no_more_triggers_are_kept_than_can_be_put_back_in_time(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of triggers do not make each write slow: most of them are dropped, once."""
    monkeypatch.setattr(triggers, "MAX_KEPT", 2)
    more = [f"CREATE TRIGGER g{number} AFTER INSERT ON t BEGIN SELECT 1; END"
            for number in range(4)]  # fmt: skip
    live.begin(TABLE, *more)
    merged = live.merge("append", TABLE, "INSERT INTO t VALUES (1, 2)")
    assert "dropped 2 triggers: 2 are kept at most" in merged.warnings
    assert stored_triggers(live) == more[:2]


@pytest.mark.parametrize("mode", ["append", "upsert", "replace"])
def test_rows_that_a_table_replaces_are_counted(live: Live, mode: str) -> None:
    """SQLite does not say which rows a rule of the table removes for new ones."""
    table = "CREATE TABLE t (id INTEGER PRIMARY KEY, a UNIQUE ON CONFLICT REPLACE)"
    live.begin(table, "INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    rows = (
        "INSERT INTO t VALUES (3, 'x'), (2, 'y')"
        if mode == "replace"
        else "INSERT INTO t VALUES (3, 'x')"
    )
    merged = live.merge(mode, TABLE, rows)
    assert merged.tables[0].rows == count_tables(live.path)["t"] == 2
    assert counts(merged.tables[0]) == (1, 0, 1, 1)


@pytest.mark.parametrize(
    "check",
    ["length(hex(zeroblob(400000000))) > 0", "instr(a, 'y') = 0"],
)
def test_value_that_a_table_makes_too_large_is_refused(live: Live, check: str) -> None:
    """What a table works out has the limits of a value; a lower one where that is slow."""
    table = f"CREATE TABLE t (id INTEGER PRIMARY KEY, a, CHECK (id <> 5 OR {check}))"
    live.begin(table, "INSERT INTO t VALUES (1, 2)")
    with pytest.raises(Refusal) as caught:
        live.merge("append", TABLE, "INSERT INTO t VALUES (5, hex(zeroblob(600000)))")
    assert (caught.value.code, caught.value.extra["limit"]) == ("limit-exceeded", "value")
    assert live.query("SELECT id FROM t") == [(1,)]
    assert write(live, {"id": 5, "a": "x" * 1_200_000}, {"id": 6}) == [400, 201]


def test_memory_that_a_table_takes_is_bounded(live: Live) -> None:
    """Many values that are each not too large are not had at once."""
    large = ", ".join(["hex(zeroblob(20000000))"] * 100)
    table = f"CREATE TABLE t (id INTEGER PRIMARY KEY, a, CHECK (id <> 5 OR max({large}) <> a))"
    live.begin(table)
    script = (
        "import sys; from pathlib import Path; from ingest.merge import database\n"
        "database.HEAP_BYTES = 256 * 1024**2\n"  # of this process, for good
        "from ingest.merge import count_tables; from ingest.rows.batch import write_batch\n"
        "from ingest.rows.writes import InsertRows\n"
        "writes = [InsertRows(table='t', rows=[{'id': id}]) for id in (1, 5, 6)]\n"
        "batch = write_batch(Path(sys.argv[1]), writes, {'t': 0}, lambda _: 'it')\n"
        "print([each.status for each in batch.answers])"
    )
    command = [sys.executable, "-c", script, str(live.path)]
    assert subprocess.check_output(command, text=True).strip() == "[201, 400, 201]"


def test_time_that_a_table_takes_is_bounded(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A merge that works too long on its rows is undone, and says why."""
    live.begin(f"{TABLE[:-1]}, CHECK (id < 5 OR length(hex(randomblob(20000000))) > 0))")
    monkeypatch.setattr(database, "TIME_S", 2.0)
    rows = ", ".join(f"({number}, 1)" for number in range(1000))  # two minutes
    with pytest.raises(Refusal) as caught:
        live.merge("append", TABLE, f"INSERT INTO t VALUES {rows}")
    assert (caught.value.code, caught.value.extra["limit"]) == ("limit-exceeded", "merge")
    assert live.query("SELECT id FROM t") == []


@pytest.mark.parametrize(
    "checks", [["CHECK (lower(a) <> 'x')"] * 4_000, ["CHECK (instr(a, 'x') = 0)"] * 101]
)
def test_table_that_works_out_too_much_for_each_row_is_refused(
    live: Live, checks: list[str]
) -> None:
    """Nothing interrupts SQLite within a row, so what is done there is bounded before."""
    live.begin(TABLE)
    with pytest.raises(Refusal) as caught:
        live.merge("append", f"CREATE TABLE u (a, {', '.join(checks)})")
    assert caught.value.extra["limit"] == "work"


def test_view_of_the_name_of_the_merges_is_not_read(tmp_path: Path) -> None:
    """What was merged last is asked of a table alone: a view may have no end."""
    path = tmp_path / "db"
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"CREATE VIEW _headrace_merges AS {ENDLESS}")
    assert find_last_merge(path) is None
