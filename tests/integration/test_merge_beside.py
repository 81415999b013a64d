"""What belongs to a table survives merges: indexes, full-text search, lookups, types, triggers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace.errors import Refusal
from ingest.merge.retype import retype
from tests.integration.merge_kit import Live, counts

if TYPE_CHECKING:
    from pathlib import Path

SEARCH = 'CREATE VIRTUAL TABLE "t_fts" USING FTS5 ("body", content="t")'
FILL_SEARCH = "INSERT INTO t_fts (t_fts) VALUES ('rebuild')"
AFTER_INSERT = (
    "CREATE TRIGGER t_ai AFTER INSERT ON t BEGIN "
    "INSERT INTO t_fts (rowid, body) VALUES (new.rowid, new.body); END"
)
TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT, n INTEGER)"
CITIES = (
    "CREATE TABLE cities (id INTEGER PRIMARY KEY, city TEXT)",
    "CREATE UNIQUE INDEX idx_cities_city ON cities (city)",
    "CREATE TABLE t (id INTEGER PRIMARY KEY, cities_id INTEGER REFERENCES cities (id))",
)


@pytest.fixture
def live(tmp_path: Path) -> Live:
    """Give a live database that has nothing in it yet."""
    return Live(tmp_path)


def found(live: Live, word: str) -> list[int]:
    """Search."""
    hits = live.query(f"SELECT rowid FROM t_fts WHERE t_fts MATCH '{word}' ORDER BY rowid")
    return [row[0] for row in hits]


@pytest.fixture
def searchable(live: Live) -> Live:
    """Give a live database that came with a search over it and an index."""
    live.begin("CREATE TABLE other (x)")
    rows = "INSERT INTO t VALUES (1, 'red fox', 1), (2, 'blue whale', 2), (3, 'red kite', 3)"
    index = "CREATE INDEX t_n ON t (n)"
    live.merge("create", TABLE, rows, index, SEARCH, FILL_SEARCH, AFTER_INSERT)
    return live


def test_search_of_a_new_table_comes_along(searchable: Live) -> None:
    """A table that is created in a live database brings its search, its triggers and its index."""
    assert found(searchable, "red") == [1, 3]
    names = {row[0] for row in searchable.query("SELECT name FROM sqlite_schema")}
    assert {"t_fts", "t_ai", "t_ad", "t_au", "t_n"} <= names


@pytest.mark.parametrize("mode", ["replace", "upsert"])
def test_search_follows_every_merge(searchable: Live, mode: str) -> None:
    """The search finds what was added and changed, and no more what is gone."""
    rows = "INSERT INTO t VALUES (1, 'green fox', 1), (2, 'blue whale', 2), (4, 'red deer', 4)"
    merged = searchable.merge(mode, TABLE, rows)
    removed = 1 if mode == "replace" else 0
    assert counts(merged.tables[0]) == (1, 1, removed, 2 - removed)
    assert found(searchable, "red") == ([4] if mode == "replace" else [3, 4])
    assert found(searchable, "green") == [1]
    searchable.merge("append", TABLE, "INSERT INTO t VALUES (9, 'red ant', 9)")
    assert 9 in found(searchable, "red")


def test_search_and_indexes_survive_a_table_that_is_written_anew(searchable: Live) -> None:
    """Another type makes the table anew; search and index are there, and are kept right."""
    made = "CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT, n TEXT)"
    searchable.merge("replace", made, "INSERT INTO t VALUES (7, 'pink fox', 'x')")
    assert found(searchable, "fox") == [7]
    searchable.merge("replace", made, "INSERT INTO t VALUES (7, 'grey wolf', 'x')")
    assert (found(searchable, "fox"), found(searchable, "wolf")) == ([], [7])
    assert searchable.query("SELECT name FROM pragma_index_list('t')") == [("t_n",)]


def test_search_whose_column_is_gone_is_dropped_and_said(searchable: Live) -> None:
    """An upload that says which columns it wants, and not the one that is searched in, ends it."""
    table = "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)"
    merged = searchable.merge("replace", table, unwanted=None)
    assert any("full-text index 't_fts'" in warning for warning in merged.warnings)
    searchable.merge("append", "CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (1)")
    assert searchable.query("SELECT id FROM t") == [(1,)]


def test_search_without_triggers_is_filled_again(live: Live) -> None:
    """A database that came with a search that nothing keeps right is kept right by merges."""
    live.begin(TABLE, SEARCH)
    live.merge("append", TABLE, "INSERT INTO t VALUES (1, 'red fox', 1)")
    assert found(live, "red") == [1]


@pytest.mark.parametrize("other", [True, False])
def test_search_with_triggers_of_another_hand_is_kept_right(live: Live, other: bool) -> None:
    """Triggers that are not trusted to run are replaced by ours, or kept and not run."""
    live.begin(
        TABLE,
        SEARCH,
        "CREATE TABLE log (n)",
        "CREATE TRIGGER mine AFTER INSERT ON t BEGIN "
        "INSERT INTO t_fts (rowid, body) SELECT new.id, new.body; END",
        "CREATE TRIGGER its AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.id); END",
        *([] if other else ["DROP TRIGGER its"]),
    )
    for number in (1, 2):
        live.merge("append", TABLE, f"INSERT INTO t VALUES ({number}, 'red fox', 1)")
    assert found(live, "red") == [1, 2]
    assert live.query("SELECT n FROM log") == []
    names = {row[0] for row in live.query("SELECT name FROM sqlite_schema WHERE type = 'trigger'")}
    assert names == {"t_ai", "t_ad", "t_au"} | ({"its"} if other else set())


def test_upload_of_the_same_search_and_index_writes_nothing(searchable: Live) -> None:
    """The same file with the same wishes is nothing new."""
    rows = "INSERT INTO t VALUES (1, 'red fox', 1), (2, 'blue whale', 2), (3, 'red kite', 3)"
    index = "CREATE INDEX t_n ON t (n)"
    before = searchable.path.with_name(searchable.path.name + "-wal")
    size = before.stat().st_size if before.exists() else 0
    merged = searchable.merge("replace", TABLE, rows, index, SEARCH, FILL_SEARCH, AFTER_INSERT)
    assert not merged.written
    assert (before.stat().st_size if before.exists() else 0) == size


def test_upload_without_the_key_that_the_table_has_writes_nothing_new(live: Live) -> None:
    """The key stays, and nothing that the comparison needs is left behind."""
    live.begin(TABLE, "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2)")
    plain = "CREATE TABLE t (id INTEGER, body TEXT, n INTEGER)"
    assert not live.merge("replace", plain, "INSERT INTO t VALUES (2, 'b', 2), (1, 'a', 1)").written
    assert live.merge_rows("upsert", plain, [(1, "c", 1)]).changed == 1
    assert live.query("SELECT name FROM pragma_index_list('t')") == []


def test_lookup_ids_are_those_of_the_live_table(live: Live) -> None:
    """A file numbers its values by itself; they are found by value, and ids that are there stay."""
    live.begin(
        *CITIES,
        "INSERT INTO cities VALUES (1, 'Paris'), (2, 'Rome')",
        "INSERT INTO t VALUES (1, 1), (2, 2), (3, NULL)",
    )
    merged = live.merge(
        "replace",
        *CITIES,
        "INSERT INTO cities VALUES (1, 'Oslo'), (2, 'Rome'), (3, 'Paris')",
        "INSERT INTO t VALUES (1, 3), (2, 1), (3, NULL), (4, 2)",
    )
    assert live.query("SELECT * FROM cities") == [(1, "Paris"), (2, "Rome"), (3, "Oslo")]
    assert live.query("SELECT * FROM t") == [(1, 1), (2, 3), (3, None), (4, 2)]
    assert {each.name: counts(each) for each in merged.tables} == {
        "cities": (1, 0, 0, 2),
        "t": (1, 1, 0, 2),
    }


@pytest.mark.parametrize("mode", ["replace", "upsert"])
def test_lookups_survive_an_upload_that_does_not_ask_for_them(live: Live, mode: str) -> None:
    """The plain column of a later file is looked up as before."""
    live.begin(
        *CITIES,
        "INSERT INTO cities VALUES (1, 'Paris'), (2, 'Rome')",
        "INSERT INTO t VALUES (1, 1), (2, 2)",
    )
    merged = live.merge(
        mode,
        "CREATE TABLE t (id INTEGER, city TEXT)",
        "INSERT INTO t VALUES (1, 'Paris'), (2, 'Oslo')",
    )
    assert counts(merged.tables[0]) == (0, 1, 0, 1)
    joined = "SELECT t.id, city FROM t JOIN cities ON cities.id = cities_id ORDER BY t.id"
    assert live.query(joined) == [(1, "Paris"), (2, "Oslo")]


@pytest.mark.parametrize("mode", ["append", "upsert", "replace"])
@pytest.mark.parametrize(
    ("known", "of_file", "kept"),
    [
        ("TEXT", "INTEGER", {1: "01234", 2: "94110", 3: "10001"}),
        ("INTEGER", "TEXT", {1: "1234", 2: "94110", 3: "01234"}),
        ("INTEGER", "REAL", {1: 1234, 2: 94110, 3: 2.5}),
        ("REAL", "INTEGER", {1: 1234.0, 2: 94110.0, 3: 10001.0}),
    ],
)
def test_lookups_survive_a_file_with_values_of_another_type(
    live: Live, mode: str, known: str, of_file: str, kept: dict[int, object]
) -> None:
    """They are found as the lookup table has them, which is widened if it has to be."""
    old, new = ("01234", "10001") if known == "TEXT" else ("1234", str(kept[3]))
    live.begin(
        f"CREATE TABLE zips (id INTEGER PRIMARY KEY, zip {known})",
        "CREATE UNIQUE INDEX idx_zips_zip ON zips (zip)",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, zips_id INTEGER REFERENCES zips (id))",
        f"INSERT INTO zips VALUES (1, '{old}'), (2, '94110')",
        "INSERT INTO t VALUES (1, 1), (2, 2)",
    )
    ids = (3, 4) if mode != "replace" else (1, 2)
    merged = live.merge(
        mode,
        f"CREATE TABLE t (id INTEGER, zip {of_file})",
        f"INSERT INTO t VALUES ({ids[0]}, '94110'), ({ids[1]}, '{new}')",
    )
    assert dict(live.query("SELECT * FROM zips")) == kept
    assert live.query("SELECT * FROM t")[-2:] == [(ids[0], 2), (ids[1], 3)]
    widened = [each for each in merged.warnings if "'zip' of 'zips' was INTEGER" in each]
    assert len(widened) == (known == "INTEGER" and of_file == "TEXT")
    assert live.query("SELECT name FROM pragma_index_list('zips')") == [("idx_zips_zip",)]


def test_widening_keeps_values_indexes_and_the_search(searchable: Live) -> None:
    """A column that becomes text keeps every value as its text, and what belongs to the table."""
    merged = searchable.merge(
        "append",
        "CREATE TABLE t (id INTEGER, body TEXT, n TEXT)",
        "INSERT INTO t VALUES (4, 'red hat', '007')",
    )
    assert any("'n' was INTEGER and is TEXT now" in warning for warning in merged.warnings)
    assert searchable.query("SELECT n FROM t ORDER BY id") == [("1",), ("2",), ("3",), ("007",)]
    assert found(searchable, "red") == [1, 3, 4]
    assert searchable.query("SELECT name FROM pragma_index_list('t')") == [("t_n",)]
    assert searchable.query("PRAGMA integrity_check") == [("ok",)]


def test_widening_says_what_became_of_numbers_whose_text_is_not_known(live: Live) -> None:
    """An integer is the text that it came from; of a real, zeros at the end may be missing."""
    live.begin("CREATE TABLE t (a INTEGER, b REAL)", "INSERT INTO t VALUES (1, 1), (2, 1.50)")
    merged = live.merge(
        "append", "CREATE TABLE t (a TEXT, b TEXT)", "INSERT INTO t VALUES ('x', 'y')"
    )
    assert live.query("SELECT * FROM t") == [("1", "1.0"), ("2", "1.5"), ("x", "y")]
    of_integers, of_reals = merged.warnings
    assert of_integers.endswith("'a' was INTEGER and is TEXT now: the file has other values")
    assert of_reals.endswith("; its old values are the shortest texts of numbers, 1.5 and 2.0")


def test_widening_a_key_keeps_rows_and_order(live: Live) -> None:
    """A key of integers becomes one of texts when a file has others."""
    live.begin(TABLE, "INSERT INTO t VALUES (1, 'a', 0), (2, 'b', 0)")
    live.merge("upsert", "CREATE TABLE t (id TEXT, body TEXT)", "INSERT INTO t VALUES ('02', 'c')")
    live.merge("upsert", "CREATE TABLE t (id TEXT, body TEXT)", "INSERT INTO t VALUES ('2', 'd')")
    assert live.query("SELECT id, body, n FROM t") == [
        ("1", "a", 0),
        ("2", "d", 0),
        ("02", "c", None),
    ]


@pytest.mark.parametrize("strict", ["", " STRICT"])
@pytest.mark.parametrize(
    ("columns", "key"),
    [
        ("id INTEGER, v TEXT /* ) */ , n INTEGER -- )\n", "(id)"),
        ("n TEXT, new TEXT, id INTEGER, v INTEGER, CHECK (id > 0)", "(n, id)"),
        ("ID TEXT, v INTEGER", "(id)"),
    ],
)
def test_table_that_is_written_anew_keeps_its_key_and_strictness(
    live: Live, columns: str, key: str, strict: str
) -> None:
    """A file says nothing of them, and the next upsert needs the key."""
    live.begin(
        f"CREATE TABLE t (id INTEGER, v INTEGER, n INTEGER, PRIMARY KEY {key}){strict}",
        "INSERT INTO t VALUES (1, 2, 3)",
    )
    row = "INSERT INTO t (id, v, new, n) VALUES ('7', '8', 'x', '9')"
    row = row if "new" in columns else "INSERT INTO t (id, v) VALUES ('7', '8')"
    merged = live.merge("replace", f"CREATE TABLE t ({columns})", row)
    assert "written anew" in merged.warnings[-1]
    known = live.query("SELECT lower(group_concat(name)) FROM pragma_table_info('t') WHERE pk")
    assert set(known[0][0].split(",")) == set(key.strip("()").split(", "))
    assert live.query("SELECT strict FROM pragma_table_list('t')") == [(int(bool(strict)),)]
    assert not live.merge("replace", f"CREATE TABLE t ({columns})", row).written
    live.merge("upsert", f"CREATE TABLE t ({columns})", row.replace("'8'", "'10'"))
    assert live.query("SELECT CAST(id AS INTEGER), CAST(v AS INTEGER) FROM t") == [(7, 10)]


@pytest.mark.parametrize(
    ("file", "rows", "warning"),
    [
        ("id INTEGER, v TEXT", "(1, 'a'), (1, 'b')", "the table 't' has the key id no more: "),
        ("id INTEGER, v TEXT", "(1, 'a'), (NULL, 'b')", "the table 't' has the key id no more: "),
        ("id INTEGER, v", "(1, 'a'), (2, 3)", "the table 't' is STRICT no more: "),
        (
            "id INTEGER, v INTEGER, x TEXT, y INT",
            "(1, 'a', 2, 3)",
            "the table 't' is STRICT no more",
        ),
    ],
)
def test_key_or_strictness_that_the_rows_do_not_allow_is_gone_and_said(
    live: Live, file: str, rows: str, warning: str
) -> None:
    """The rows are all there; a warning says what is not."""
    live.begin(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER) STRICT", "INSERT INTO t VALUES (1, 2)"
    )
    merged = live.merge("replace", f"CREATE TABLE t ({file})", f"INSERT INTO t VALUES {rows}")
    assert [each for each in merged.warnings if each.startswith(warning)]
    assert len(live.query("SELECT * FROM t")) == rows.count("(")
    assert live.query("PRAGMA integrity_check") == [("ok",)]


def test_replace_with_a_column_more_adds_it(live: Live) -> None:
    """A new column at the end is added, and the rest of the table is compared."""
    live.begin("CREATE TABLE t (a TEXT)", "INSERT INTO t VALUES ('x'), ('y')")
    merged = live.merge(
        "replace",
        "CREATE TABLE t (a TEXT, b INTEGER)",
        "INSERT INTO t VALUES ('x', NULL), ('y', 2)",
    )
    assert counts(merged.tables[0]) == (0, 1, 0, 1)
    assert live.query("SELECT * FROM t") == [("x", None), ("y", 2)]


def test_replace_of_two_thousand_columns_is_a_difference(live: Live) -> None:
    """SQLite's own limits of expressions do not stand in the way."""
    sql = f"CREATE TABLE t ({', '.join(f'c{number} INTEGER' for number in range(2000))})"
    live.begin_with(sql, [tuple(range(2000)), tuple(range(2000))])
    merged = live.merge_rows("replace", sql, [tuple(range(2000)), (*range(1999), -1)])
    assert counts(merged) == (0, 1, 0, 1)


def test_upsert_by_a_key_that_the_table_does_not_have_gives_it_an_index(live: Live) -> None:
    """The request's key is enough; rows that it does not tell apart are refused."""
    live.begin("CREATE TABLE t (a TEXT, b TEXT)", "INSERT INTO t VALUES ('x', '1'), ('y', '2')")
    sql = "CREATE TABLE t (a TEXT, b TEXT)"
    merged = live.merge_rows("upsert", sql, [("x", "3"), ("z", "4")], key=["a"])
    assert counts(merged) == (1, 1, 0, 1)
    for rows in ([("x", "1"), ("x", "2")], [(None, "1")]):
        with pytest.raises(Refusal) as refused:
            live.merge_rows("upsert", sql, rows, key=["a"])
        assert refused.value.code == "cannot-append"
    assert live.query("SELECT * FROM t") == [("x", "3"), ("y", "2"), ("z", "4")]


def test_upsert_adds_rows_that_were_put_aside(live: Live) -> None:
    """Bad rows have no key: they are added to those of earlier files."""
    live.begin("CREATE TABLE other (x)")
    for number in (1, 2):
        live.merge(
            "upsert",
            TABLE,
            "CREATE TABLE t_rejects (line INTEGER, raw TEXT, reason TEXT)",
            f"INSERT INTO t VALUES (1, 'a', {number})",
            "INSERT INTO t_rejects VALUES (3, 'x', 'ragged')",
            key=["id"],
        )
    assert live.query("SELECT count(*) FROM t_rejects") == [(2,)]
    assert live.query("SELECT n FROM t") == [(2,)]


@pytest.mark.parametrize("mode", ["replace", "append", "upsert"])
def test_table_that_only_sounds_like_rejects_is_not_overwritten(live: Live, mode: str) -> None:
    """A table of somebody's own that has the name for bad rows stays; nothing is changed."""
    live.begin("CREATE TABLE T_Rejects (who TEXT)", "INSERT INTO T_Rejects VALUES ('me')", TABLE)
    with pytest.raises(Refusal) as refused:
        live.merge(
            mode,
            TABLE,
            "CREATE TABLE t_rejects (line INTEGER, raw TEXT, reason TEXT)",
            "INSERT INTO t VALUES (1, 'a', 1)",
            key=["id"],
        )
    assert refused.value.code == "table-exists"
    assert "'T_Rejects'" in refused.value.detail
    assert live.query("SELECT * FROM T_Rejects") == [("me",)]
    assert live.query("SELECT * FROM t") == []


def test_tables_of_a_file_that_sound_like_rejects_are_its_own(live: Live) -> None:
    """Where the file's table is none of bad rows either, it is merged as any other."""
    live.begin("CREATE TABLE t_rejects (who TEXT)", TABLE)
    live.merge("replace", TABLE, "CREATE TABLE t_rejects (whom TEXT)")
    assert live.query("SELECT whom FROM t_rejects") == []


def test_upsert_of_sqlite_merges_tables_by_their_own_keys(live: Live) -> None:
    """Tables without rowids, generated columns and collations are merged like any other."""
    tables = (
        "CREATE TABLE w (a TEXT, b INTEGER, v TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID",
        "CREATE TABLE g (id INTEGER PRIMARY KEY, n INTEGER, twice AS (n * 2))",
    )
    live.begin(
        *tables,
        "INSERT INTO w VALUES ('x', 1, 'p'), ('x', 2, 'q')",
        "INSERT INTO g (id, n) VALUES (1, 10)",
    )
    merged = live.merge(
        "upsert",
        *tables,
        "INSERT INTO w VALUES ('x', 2, 'r'), ('y', 1, 's')",
        "INSERT INTO g (id, n) VALUES (1, 11), (2, 12)",
    )
    assert [counts(each) for each in merged.tables] == [(1, 1, 0, 1), (1, 1, 0, 0)]
    assert live.query("SELECT * FROM w") == [("x", 1, "p"), ("x", 2, "r"), ("y", 1, "s")]
    assert live.query("SELECT * FROM g") == [(1, 11, 22), (2, 12, 24)]


def test_retype_changes_nothing_but_the_type() -> None:
    """Names that look like SQL, comments and constraints stay as they are."""
    sql = (
        'CREATE TABLE "t, (x" (id INTEGER PRIMARY KEY AUTOINCREMENT, "pri ce" DECIMAL(10,2) '
        "NOT NULL DEFAULT (1,2), `c` -- hi, INTEGER\n REAL, d, [e] INT CHECK (e > 0), UNIQUE (d))"
    )
    types = dict.fromkeys(("ID", "pri ce", "c", "d", "e"), "TEXT")
    assert retype(sql, types) == (
        'CREATE TABLE "t, (x" (id TEXT PRIMARY KEY , "pri ce" TEXT '
        "NOT NULL DEFAULT (1,2), `c` TEXT, d TEXT, [e] TEXT CHECK (e > 0), UNIQUE (d))"
    )
