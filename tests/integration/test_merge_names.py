"""A table cannot be called as something else of the live database is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace.errors import Refusal
from tests.integration.merge_kit import Live, counts

if TYPE_CHECKING:
    from pathlib import Path

TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)"
ROW = "INSERT INTO t VALUES (1, 'red fox')"


@pytest.fixture
def live(tmp_path: Path) -> Live:
    """Give a live database with a view, an index and a search."""
    live = Live(tmp_path)
    live.begin(
        TABLE,
        ROW,
        "CREATE VIEW dear AS SELECT * FROM t",
        "CREATE INDEX by_body ON t (body)",
        "CREATE VIRTUAL TABLE found USING fts5 (body, content = 't')",
    )
    return live


@pytest.mark.parametrize("mode", ["replace", "append", "upsert", "create"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Dear", "a view"),
        ("by_body", "an index"),
        ("found", "a virtual table"),
        ("found_data", "a part of a virtual table"),
        ("found_content", "a part of a virtual table"),
    ],
)
def test_merge_into_a_name_that_is_no_tables_is_refused(
    live: Live, mode: str, name: str, kind: str
) -> None:
    """Rows for a view, an index or a search are refused by what has the name; nothing changes."""
    before = live.query("SELECT name, sql FROM sqlite_schema")
    with pytest.raises(Refusal) as caught:
        live.merge(mode, f"CREATE TABLE {name} (id INTEGER PRIMARY KEY)", key=("id",))
    assert caught.value.code == "table-exists"
    assert caught.value.detail.startswith(f"the database has {kind} of the name {name!r}")
    assert live.query("SELECT name, sql FROM sqlite_schema") == before


def test_merge_of_a_name_that_only_sounds_like_a_part_of_a_search_is_a_table(live: Live) -> None:
    """A table whose name begins as a search's does is one like any other."""
    table = live.merge_rows("append", "CREATE TABLE found_rows (x)", [(1,)], table="found_rows")
    assert counts(table) == (1, 0, 0, 0)


def test_upsert_of_a_key_that_is_empty_text_is_refused(tmp_path: Path) -> None:
    """An empty text is NULL in a column of numbers, so no key."""
    live = Live(tmp_path)
    live.begin("CREATE TABLE t (a INTEGER, b INTEGER, c TEXT, PRIMARY KEY (a, b))")
    with pytest.raises(Refusal, match="a row has no a, b") as caught:
        live.merge_rows("upsert", "CREATE TABLE t (a TEXT, b INTEGER, c TEXT)", [("", 2, "x")])
    assert caught.value.code == "cannot-append"
    assert live.query("SELECT * FROM t") == []


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        (
            "n INTEGER, body INTEGER, id INTEGER",
            "of its columns, 'n' is new, 'body' was TEXT and is INTEGER",
        ),
        ("id INTEGER, body INTEGER", "of its columns, 'body' was TEXT and is INTEGER"),
        ("body TEXT, id INTEGER", "its columns are in another order"),
    ],
)
def test_replace_that_writes_a_table_anew_says_what_differs(
    tmp_path: Path, columns: str, why: str
) -> None:
    """What is new or otherwise is named."""
    live = Live(tmp_path)
    live.begin("CREATE TABLE t (id INTEGER, body TEXT)", "INSERT INTO t VALUES (1, 'red fox')")
    merged = live.merge("replace", f"CREATE TABLE t ({columns})", "INSERT INTO t (id) VALUES (1)")
    assert merged.warnings[0] == f"the table 't' was written anew: {why}"


def test_append_of_a_key_that_is_there_says_how_to_change_rows(live: Live) -> None:
    """Whoever sends rows anew is told of the mode that takes them."""
    with pytest.raises(Refusal) as caught:
        live.merge_rows("append", "CREATE TABLE t (id INTEGER, body TEXT)", [(1, "blue")])
    assert caught.value.code == "cannot-append"
    assert "mode=upsert" in str(caught.value.hint)
