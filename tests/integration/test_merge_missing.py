"""Columns that a file does not have: they stay, and hold NULL, with a warning, in every mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace.errors import Refusal
from ingest.merge.retype import definitions
from tests.integration.merge_kit import Live, counts

if TYPE_CHECKING:
    from pathlib import Path

PEOPLE = "CREATE TABLE t (id INTEGER, name TEXT, born INTEGER)"
NO_NAME = "the file has no column 'name': NULL there"


@pytest.fixture
def live(tmp_path: Path) -> Live:
    """Give a live database that has nothing in it yet."""
    return Live(tmp_path)


def begin(live: Live, *more: str, table: str = PEOPLE) -> None:
    """Make a live table of two people."""
    live.begin(table, "INSERT INTO t VALUES (1, 'Ada', 1815), (2, 'Grace', 1906)", *more)


@pytest.mark.parametrize("mode", ["replace", "append", "upsert"])
def test_column_that_the_file_lacks_is_null_with_a_warning(live: Live, mode: str) -> None:
    """All modes keep the column; the file's rows have NULL there, if they are new."""
    begin(live)
    rows = "INSERT INTO t VALUES (3, 1912)"
    merged = live.merge(mode, "CREATE TABLE t (id INTEGER, born INTEGER)", rows, key=["id"])
    of_upsert = NO_NAME.replace("there", "in new rows, the others keep theirs")
    assert merged.warnings == (of_upsert if mode == "upsert" else NO_NAME,)
    kept = [] if mode == "replace" else [(1, "Ada", 1815), (2, "Grace", 1906)]
    assert live.query("SELECT id, name, born FROM t") == [*kept, (3, None, 1912)]


@pytest.mark.parametrize("key", ["INTEGER PRIMARY KEY", "INTEGER"])
def test_replace_without_a_column_is_a_difference_and_nothing_the_second_time(
    live: Live, key: str
) -> None:
    """Only rows that had a value there are changed; the same file again writes nothing."""
    begin(live, "UPDATE t SET name = NULL WHERE id = 2", table=PEOPLE.replace("INTEGER", key, 1))
    file = (
        "CREATE TABLE t (id INTEGER, born INTEGER)",
        "INSERT INTO t VALUES (1, 1815), (2, 1906)",
    )
    first = live.merge("replace", *file)
    assert counts(first.tables[0]) == (0, 1, 0, 1)
    again = live.merge("replace", *file)
    assert (again.written, again.warnings) == (False, (NO_NAME,))
    assert live.query("SELECT * FROM t") == [(1, None, 1815), (2, None, 1906)]


def test_replace_fills_the_column_again_when_the_file_has_it_again(live: Live) -> None:
    """A file that was cut short once costs the values, not the column."""
    begin(live)
    live.merge("replace", "CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (1), (2)")
    rows = "INSERT INTO t VALUES (1, 'Ada', 1815), (2, 'Grace', 1906)"
    merged = live.merge("replace", PEOPLE, rows)
    assert (counts(merged.tables[0]), merged.warnings) == ((0, 2, 0, 0), ())
    assert live.query("SELECT * FROM t") == [(1, "Ada", 1815), (2, "Grace", 1906)]


def test_replace_with_a_column_renamed_keeps_both(live: Live) -> None:
    """New ones are added, missing ones are NULL, in one upload; what is there is compared."""
    begin(live)
    file = (
        "CREATE TABLE t (id INTEGER, born INTEGER, called TEXT)",
        "INSERT INTO t VALUES (1, 1815, 'Ada'), (2, 1906, 'Grace')",
    )
    merged = live.merge("replace", *file)
    assert set(merged.warnings) == {NO_NAME, "added the column 'called' to 't'"}
    assert counts(merged.tables[0]) == (0, 2, 0, 0)
    assert live.query("SELECT name, called FROM t") == [(None, "Ada"), (None, "Grace")]
    assert not live.merge("replace", *file).written


@pytest.mark.parametrize(
    ("table", "file"),
    [
        (PEOPLE, "CREATE TABLE t (born TEXT, id INTEGER)"),
        (PEOPLE.replace("TEXT", "TEXT NOT NULL"), "CREATE TABLE t (born INTEGER, id INTEGER)"),
        (PEOPLE.replace("TEXT", "TEXT UNIQUE"), "CREATE TABLE t (born INTEGER, id INTEGER)"),
        (PEOPLE.replace("TEXT", "TEXT PRIMARY KEY"), "CREATE TABLE t (id INTEGER, born INTEGER)"),
        (PEOPLE + " STRICT", "CREATE TABLE t (born TEXT, id INTEGER) STRICT"),
    ],
)
def test_table_that_is_written_anew_keeps_the_column(live: Live, table: str, file: str) -> None:
    """Also where nothing can be compared, or the column must not be NULL: then it may be."""
    begin(live, table=table)
    rows = "INSERT INTO t (id, born) VALUES (1, 1815)"
    merged = live.merge("replace", file, rows)
    assert NO_NAME in merged.warnings
    assert any("was written anew" in each for each in merged.warnings)
    assert live.query("SELECT id, name FROM t") == [(1, None)]
    assert not live.merge("replace", file, rows).written


def test_key_of_integers_that_the_file_lacks_is_null_and_no_key_any_more(live: Live) -> None:
    """SQLite would number the rows by itself: the table is written anew instead."""
    begin(live, table=PEOPLE.replace("INTEGER", "INTEGER PRIMARY KEY", 1))
    merged = live.merge("replace", "CREATE TABLE t (name TEXT)", "INSERT INTO t VALUES ('Ada')")
    assert any("written anew: a row has no id" in each for each in merged.warnings)
    assert live.query("SELECT * FROM t") == [("Ada", None, None)]


def test_column_with_a_default_gets_that(live: Live) -> None:
    """What the table's owner has declared for rows that say nothing holds for a file that does."""
    table = "CREATE TABLE t (id INTEGER, state TEXT NOT NULL DEFAULT 'new, (1)')"
    live.begin(table, "INSERT INTO t VALUES (1, 'old')")
    for mode in ("replace", "append"):
        merged = live.merge(mode, "CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (1)")
        assert merged.warnings == ("the file has no column 'state': its default there",)
    assert live.query("SELECT * FROM t") == [(1, "new, (1)")] * 2


def test_index_search_view_and_generated_column_survive(live: Live) -> None:
    """What rests on the missing column is still there, also where the table is written anew."""
    begin(
        live,
        "CREATE INDEX t_name ON t (name)",
        'CREATE VIRTUAL TABLE "t_fts" USING FTS5 ("name", content="t")',
        "CREATE VIEW named AS SELECT id, name, loud FROM t",
        table=PEOPLE[:-1] + ", loud TEXT AS (upper(name)))",
    )
    file = ("CREATE TABLE t (id TEXT, born INTEGER)", "INSERT INTO t VALUES ('01', 1815)")
    live.merge("replace", *file)
    assert live.query("SELECT * FROM named") == [("01", None, None)]
    assert live.query("SELECT name FROM pragma_index_list('t')") == [("t_name",)]
    live.merge("append", PEOPLE, "INSERT INTO t VALUES (2, 'Grace', 1906)")
    assert live.query("SELECT rowid FROM t_fts WHERE t_fts MATCH 'grace'") == [(2,)]
    assert live.query("SELECT loud FROM named WHERE name = 'Grace'") == [("GRACE",)]


def test_generated_column_that_cannot_be_added_again_is_dropped_and_said(live: Live) -> None:
    """SQLite adds no stored one to a table that is there."""
    begin(live, table=PEOPLE[:-1] + ", loud TEXT AS (upper(name)) STORED)")
    merged = live.merge("replace", "CREATE TABLE t (id TEXT)", "INSERT INTO t VALUES ('01')")
    assert "dropped the generated column 'loud': it cannot be added again" in merged.warnings


@pytest.mark.parametrize("kind", ["INTEGER", "TEXT"])
def test_lookup_survives_a_file_with_and_without_the_column(live: Live, kind: str) -> None:
    """References are found by value or are NULL, whether the rows are compared or written anew."""
    live.begin(
        "CREATE TABLE cities (id INTEGER PRIMARY KEY, city TEXT)",
        "CREATE TABLE t (id INTEGER, cities_id INTEGER REFERENCES cities (id))",
        "INSERT INTO cities VALUES (1, 'Paris')",
        "INSERT INTO t VALUES (1, 1)",
    )
    file = f"CREATE TABLE t (id {kind}, city TEXT)"
    live.merge("replace", f"CREATE TABLE t (id {kind})", "INSERT INTO t VALUES (1)")
    assert live.query("SELECT cities_id FROM t") == [(None,)]
    for _ in range(2):
        live.merge("replace", file, "INSERT INTO t VALUES (1, 'Rome'), (2, 'Paris')")
    assert live.query("SELECT cities_id FROM t") == [(2,), (1,)]
    assert not live.query("SELECT 1 FROM pragma_table_info('t') WHERE name = 'city'")
    references = live.query('SELECT "from", "table" FROM pragma_foreign_key_list(\'t\')')
    assert references == [("cities_id", "cities")]


@pytest.mark.parametrize("unwanted", [None, ["NAME"]])
def test_column_that_the_upload_wants_no_more_is_gone(
    live: Live, unwanted: list[str] | None
) -> None:
    """Whoever says which columns there shall be, or moves one elsewhere, gets what he says."""
    begin(live)
    file = ("CREATE TABLE t (id INTEGER, born INTEGER)", "INSERT INTO t VALUES (1, 1815)")
    merged = live.merge("replace", *file, unwanted=unwanted)
    assert merged.warnings == ("the table 't' was written anew: of its columns, 'name' is gone",)
    assert live.query("SELECT * FROM t") == [(1, 1815)]
    assert not live.merge("replace", *file).written


EMPTIED = "2 rows were removed from 't': the file has none"


def test_replace_by_a_file_without_rows_says_that_it_empties_the_table(live: Live) -> None:
    """It is done, since a table may have no rows; said once, when there were any."""
    begin(live)
    merged = live.merge("replace", PEOPLE)
    assert (counts(merged.tables[0]), merged.warnings) == ((0, 0, 2, 0), (EMPTIED,))
    assert live.merge("replace", PEOPLE).warnings == ()


def test_replace_that_writes_a_table_anew_without_rows_says_that_it_empties_it(live: Live) -> None:
    """Where the table is made anew, rows are removed as well."""
    begin(live)
    assert EMPTIED in live.merge("replace", PEOPLE.replace("born INTEGER", "born TEXT")).warnings


def test_replace_without_rows_that_were_put_aside_has_no_warning(live: Live) -> None:
    """A file in which no row is bad is no reason to worry."""
    rejects = "CREATE TABLE t_rejects (line INTEGER, raw TEXT, reason TEXT)"
    begin(live, rejects, "INSERT INTO t_rejects VALUES (3, 'x', 'ragged')")
    merged = live.merge("replace", PEOPLE, "INSERT INTO t VALUES (1, 'Ada', 1815)", rejects)
    assert (counts(merged.tables[1]), merged.warnings) == ((0, 0, 1, 0), ())


@pytest.mark.parametrize("mode", ["replace", "append"])
@pytest.mark.parametrize("unwanted", [None, ()])
def test_file_without_a_column_of_the_table_is_said_to_be_another(
    live: Live, mode: str, unwanted: tuple[str, ...] | None
) -> None:
    """What a server says instead of a file goes into the table, and nobody need find out late."""
    begin(live)
    file = ("CREATE TABLE t (error TEXT)", "INSERT INTO t VALUES ('rate limited')")
    said = "the file has no column of 't': is it another file?"
    merged = live.merge(mode, *file, unwanted=unwanted)
    assert merged.warnings.count(said) == 1
    assert said not in live.merge(mode, *file).warnings


def test_upsert_without_a_column_of_the_table_is_refused(live: Live) -> None:
    """There is no key then; a table that is new has one."""
    begin(live)
    with pytest.raises(Refusal) as refused:
        live.merge("upsert", "CREATE TABLE t (error TEXT)", key=["id"])
    assert refused.value.code == "invalid-option"


def test_file_whose_only_column_is_looked_up_is_no_other(live: Live) -> None:
    """A column that the table holds the ids of is a column of the table."""
    live.begin(
        "CREATE TABLE city (id INTEGER PRIMARY KEY, city TEXT)",
        "CREATE TABLE t (city_id INTEGER REFERENCES city(id))",
        "INSERT INTO city VALUES (1, 'Bern')",
        "INSERT INTO t VALUES (1)",
    )
    merged = live.merge("append", "CREATE TABLE t (city TEXT)", "INSERT INTO t VALUES ('Bern')")
    assert merged.warnings == ()


def test_columns_that_are_too_many_together_refuse_the_file(live: Live) -> None:
    """SQLite takes 2,000: nothing is changed, and the way out is said."""
    live.begin(f"CREATE TABLE t ({', '.join(f'a{n} INTEGER' for n in range(1200))})")
    columns = ", ".join(f"b{number} INTEGER" for number in range(1200))
    with pytest.raises(Refusal) as refused:
        live.merge("replace", f"CREATE TABLE t ({columns})")
    assert refused.value.code == "cannot-append"
    assert "?columns=" in (refused.value.hint or "")
    assert live.query("SELECT count(*) FROM pragma_table_info('t')") == [(1200,)]


def test_definitions_are_those_of_the_columns() -> None:
    """Commas and brackets within them, comments and constraints of the table do not matter."""
    sql = (
        'CREATE TABLE "t, (x" (id INTEGER PRIMARY KEY, "pri ce" DECIMAL(10,2)/*,*/DEFAULT (1), '
        "[check] -- hi, you\n TEXT, `d` AS (id + (1)) , CHECK (id > 0), UNIQUE (id, d)) STRICT"
    )
    found = definitions(sql)
    assert [found[name] for name in ("id", "pri ce", "check", "d")] == [
        "id INTEGER PRIMARY KEY",
        '"pri ce" DECIMAL(10,2) DEFAULT (1)',
        "[check]   TEXT",
        "`d` AS (id + (1))",
    ]
