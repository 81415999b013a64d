"""Staging databases are shaped as their uploaders wish."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from headrace.errors import Refusal
from headrace.wishes import read_wishes
from ingest.converters import Conversion, Converted, TableRows, load_converter
from ingest.converters.shape import shape

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PEOPLE = [
    {"id": 3, "name": "Ada", "city": "London", "born": 1815, "note": "wrote notes"},
    {"id": 1, "name": "Grace", "city": "New York", "born": 1906, "note": "found a moth"},
    {"id": 2, "name": "Joan", "city": "London", "born": 1917, "note": None},
]


class Staging:
    """A staging database, and what a shaping made of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "staging.db"

    def load(self, document: Any, **options: str) -> Converted:
        """Convert a JSON document, and shape it."""
        source = self.path.with_name("in.json")
        source.write_text(json.dumps(document))
        self.path.unlink(missing_ok=True)
        conversion = Conversion(input=source, output=self.path, format="json", table="people")
        return shape(self.path, load_converter("json")(conversion), read_wishes(options))

    def execute(self, sql: str, **options: str) -> Converted:
        """Take a database as SQL makes it, and shape it."""
        with closing(sqlite3.connect(self.path)) as db:
            db.executescript(sql)
            names = [name for (name,) in db.execute("SELECT name FROM sqlite_schema")]
        tables = tuple(TableRows(name=name, rows=0) for name in names)
        return shape(self.path, Converted(tables=tables), read_wishes(options))

    def refuse(self, load: Callable[..., Converted], *arguments: Any, **options: str) -> Refusal:
        """Give the refusal of a shaping."""
        with pytest.raises(Refusal) as caught:
            load(*arguments, **options)
        return caught.value

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Read from it, or write to it."""
        with closing(sqlite3.connect(self.path)) as db:
            found = db.execute(sql).fetchall()
            db.commit()
            return found

    def types(self, table: str = "people") -> dict[str, str]:
        """Give the declared types of a table."""
        return dict(self.query(f"SELECT name, type FROM pragma_table_info('{table}')"))


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    """Give a staging database that is not there yet."""
    return Staging(tmp_path)


def test_nothing_asked_opens_nothing(tmp_path: Path) -> None:
    """A file without wishes is not even looked at again."""
    converted = Converted(tables=(TableRows(name="t", rows=1),))
    assert shape(tmp_path / "missing.db", converted, read_wishes({})) is converted


def test_columns_are_picked_ordered_and_renamed(staging: Staging) -> None:
    """Only the columns asked for stay, in that order, under those names."""
    converted = staging.load(PEOPLE, columns="born:year,NAME:who,id")
    assert converted.tables == (TableRows(name="people", rows=3, unwanted=None),)
    assert staging.types() == {"year": "INTEGER", "who": "TEXT", "id": "INTEGER"}
    assert staging.query("SELECT * FROM people")[0] == (1815, "Ada", 3)


def test_columns_can_swap_their_names(staging: Staging) -> None:
    """A new name may be another column's old one."""
    staging.load(PEOPLE, columns="id:born,born:id", pk="id", index="born")
    assert staging.query("SELECT id, born FROM people ORDER BY id") == [
        (1815, 3),
        (1906, 1),
        (1917, 2),
    ]


def test_types_go_by_old_and_new_names(staging: Staging) -> None:
    """A column that is renamed can be typed by either name."""
    staging.load(PEOPLE, columns="id:number,born", types="number:text,born:real")
    assert staging.types() == {"number": "TEXT", "born": "REAL"}


@pytest.mark.parametrize("columns", ["id:x,born:X", "id:a[b]", '{"id": "a\\u0000b"}'])
def test_columns_of_impossible_names_are_refused(staging: Staging, columns: str) -> None:
    """A name that is taken or cannot be kept is refused, and not changed."""
    assert staging.refuse(staging.load, PEOPLE, columns=columns).code == "invalid-option"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("columns", "id,nix"),
        ("types", "nix:text"),
        ("pk", "nix"),
        ("index", "id,nix+id"),
        ("fts", "name,nix"),
        ("extract", "nix:others"),
    ],
)
def test_column_that_is_not_there_is_refused_with_those_that_are(
    staging: Staging, option: str, value: str
) -> None:
    """A typing error in a column's name says which columns there are."""
    refusal = staging.refuse(staging.load, PEOPLE, **{option: value})
    assert refusal.code == "invalid-option"
    assert refusal.detail.startswith(f"{option} cannot be used: 'people' has no column 'nix'")
    assert refusal.extra["columns"] == {"people": list(PEOPLE[0])}


def test_types_are_cast_without_loss(staging: Staging) -> None:
    """Each value is the same as before, as the type that was asked for; '' is NULL as a number."""
    rows: list[dict[str, Any]] = [
        {"zip": 1234, "price": 5, "count": "7", "exact": 0.1 + 0.2, "whole": 4.0, "raw": "é"},
        {"zip": 9, "price": 2.5, "count": "", "exact": 1e300, "whole": 2.0, "raw": None},
    ]
    wanted = "zip:text,price:real,count:integer,exact:text,whole:integer,raw:blob"
    staging.load(rows, types=wanted)
    assert set(staging.types().values()) == {"TEXT", "REAL", "INTEGER", "BLOB"}
    assert staging.query("SELECT * FROM people") == [
        ("1234", 5.0, 7, "0.30000000000000004", 4, "é".encode()),
        ("9", 2.5, None, "1e+300", 2, None),
    ]
    assert staging.query("SELECT DISTINCT typeof(price), typeof(whole) FROM people") == [
        ("real", "integer")
    ]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("01234", "integer"),
        ("1e5", "real"),
        ("x" * 99, "integer"),
        (1.5, "integer"),
        (2**53 + 1, "real"),
        (7, "blob"),
        (1e300, "integer"),
    ],
)
def test_type_that_would_lose_something_is_refused_with_row_and_value(
    staging: Staging, value: Any, wanted: str
) -> None:
    """The first values that do not fit are named with their rows, by their start."""
    refusal = staging.refuse(staging.load, [{"a": None}, {"a": value}], types=f"a:{wanted}")
    assert refusal.code == "wrong-type"
    assert f"{value!r}"[:20] in refusal.detail
    assert "in row 2" in refusal.detail
    assert len(refusal.detail) < 120


def test_empty_text_that_is_to_stay_is_no_number(staging: Staging) -> None:
    """Who wants '' to stay '' cannot have it in a numeric column."""
    refusal = staging.refuse(staging.load, [{"a": ""}], types="a:integer", empty="text")
    assert refusal.code == "wrong-type"


def test_strict_makes_strict_tables(staging: Staging) -> None:
    """A STRICT table takes no text for an integer, ever."""
    staging.load(PEOPLE, strict="1", extract="city:cities")
    assert staging.query(
        "SELECT name, strict FROM pragma_table_list WHERE name IN ('people', 'cities')"
        " ORDER BY name"
    ) == [("cities", 1), ("people", 1)]
    with pytest.raises(sqlite3.IntegrityError):
        staging.query("INSERT INTO people (born) VALUES ('soon')")


def test_strict_table_of_values_that_do_not_fit_is_refused(staging: Staging) -> None:
    """A value that a STRICT table cannot hold is named."""
    refusal = staging.refuse(
        staging.execute, "CREATE TABLE t (a INT); INSERT INTO t VALUES (1), ('x')", strict="1"
    )
    assert (refusal.code, "'x' in row 2" in refusal.detail) == ("wrong-type", True)


def test_strict_table_without_types_takes_anything(staging: Staging) -> None:
    """A column without a type keeps each value as it is."""
    staging.execute("CREATE TABLE t (a); INSERT INTO t VALUES (1), ('x'), ('01')", strict="1")
    assert staging.types("t") == {"a": "ANY"}
    assert staging.query("SELECT a FROM t") == [(1,), ("x",), ("01",)]


def test_pk_of_one_integer_is_the_rowid(staging: Staging) -> None:
    """An integer key costs no index: it is how the table is stored."""
    staging.load(PEOPLE, pk="ID")
    assert staging.query("SELECT rowid, name FROM people") == [
        (1, "Grace"),
        (2, "Joan"),
        (3, "Ada"),
    ]
    assert staging.query("SELECT name FROM pragma_table_info('people') WHERE pk") == [("id",)]


def test_pk_of_several_columns_keeps_their_order(staging: Staging) -> None:
    """A key over several columns is in the order that was asked for; renamed columns count."""
    staging.load(PEOPLE, pk="where,name", columns="name,city:where")
    assert staging.query("SELECT name FROM pragma_table_info('people') WHERE pk ORDER BY pk") == [
        ("where",),
        ("name",),
    ]


def test_pk_that_is_there_already_changes_nothing(staging: Staging) -> None:
    """A table that has the key is left as it is, whatever else it has."""
    sql = "CREATE TABLE t (id INTEGER PRIMARY KEY, d DATETIME) "
    staging.execute(sql, pk="id")
    assert staging.query("SELECT sql FROM sqlite_schema") == [(sql.strip(),)]


@pytest.mark.parametrize("pk", ["city", "city,born"])
def test_pk_that_rows_share_is_refused_with_the_first_of_them(staging: Staging, pk: str) -> None:
    """Rows with one key are named by value and number."""
    rows = [{**row, "born": 1900} for row in PEOPLE] * 2
    refusal = staging.refuse(staging.load, rows, pk=pk)
    assert refusal.code == "duplicate-key"
    assert "'London'" in refusal.detail
    assert "in rows 1 and 6" in refusal.detail
    assert "'New York'" in refusal.detail


def test_pk_that_a_row_lacks_is_refused(staging: Staging) -> None:
    """A row without a key is named, and gets none made up."""
    refusal = staging.refuse(staging.load, [{"id": 1}, {"id": None}, {"id": 3}], pk="id")
    assert refusal.code == "duplicate-key"
    assert refusal.detail.endswith("'id': row 2")


def test_index_is_made_over_one_and_several_columns(staging: Staging) -> None:
    """Each index has its columns in order."""
    staging.load(PEOPLE, index="born,city+name")
    names = [name for (name,) in staging.query("SELECT name FROM sqlite_schema WHERE type='index'")]
    found = [
        [name for (name,) in staging.query(f"SELECT name FROM pragma_index_info('{index}')")]
        for index in names
    ]
    assert found == [["born"], ["city", "name"]]


def test_fts_finds_rows_and_follows_later_changes(staging: Staging) -> None:
    """Triggers keep the search up to date when rows are added, changed and removed."""
    staging.load(PEOPLE, fts="name,note", pk="id")
    search = "SELECT rowid FROM people_fts WHERE people_fts MATCH '{}' ORDER BY rowid"
    assert staging.query(search.format("moth")) == [(1,)]
    staging.query("INSERT INTO people (id, name, note) VALUES (9, 'Hedy', 'a moth as well')")
    staging.query("UPDATE people SET note = 'no insect' WHERE id = 1")
    staging.query("DELETE FROM people WHERE id = 3")
    assert staging.query(search.format("moth")) == [(9,)]
    assert staging.query(search.format("Ada")) == []
    assert staging.query("INSERT INTO people_fts (people_fts) VALUES ('integrity-check')") == []


def test_fts_with_a_text_key_points_to_the_right_rows(staging: Staging) -> None:
    """Rows are found by their number in the file that readers get, whatever their key is."""
    staging.load(PEOPLE, fts="note", pk="name", extract="city:cities", columns="name,city,note")
    query = "SELECT name FROM people WHERE rowid IN (SELECT rowid FROM people_fts('moth'))"
    assert staging.query(query) == [("Grace",)]


@pytest.mark.parametrize(
    ("sql", "options"),
    [
        ("CREATE TABLE t (rank TEXT)", {"fts": "rank"}),
        ("CREATE TABLE t (a TEXT PRIMARY KEY) WITHOUT ROWID", {"fts": "a"}),
        ("CREATE TABLE t (a TEXT); CREATE TABLE t_fts (b)", {"fts": "a"}),
        ("CREATE TABLE t (a TEXT); CREATE TABLE u (b)", {"extract": "a:u"}),
        ("CREATE TABLE t (a TEXT)", {"extract": "a:t"}),
        ("CREATE TABLE t (a TEXT)", {"extract": "a:sqlite_x"}),
        ("CREATE TABLE t (a TEXT)", {"extract": "a:x[y]"}),
        ("CREATE TABLE t (a TEXT, u_id TEXT)", {"extract": "a:u"}),
        ("CREATE TABLE t (a TEXT PRIMARY KEY)", {"extract": "a:u"}),
        ("CREATE TABLE t (a TEXT, b INT)", {"extract": "a:u,b:u"}),
        ("CREATE TABLE t (a TEXT)", {"extract": "a:u", "fts": "a"}),
        ("CREATE TABLE t (a TEXT, b DATETIME)", {"pk": "a"}),
        ("CREATE TABLE t (a TEXT COLLATE NOCASE)", {"strict": "1"}),
        ("CREATE TABLE t (a INT, b AS (a + 1))", {"pk": "a"}),
        ("CREATE TABLE t (a INT PRIMARY KEY, b) WITHOUT ROWID", {"types": "b:text"}),
        ("CREATE TABLE t (a INT, b INT); CREATE INDEX i ON t (b)", {"columns": "a"}),
        ("CREATE TABLE t (a INT, b INT CHECK (b > a))", {"columns": "b"}),
    ],
)
def test_shape_that_cannot_be_had_is_refused(
    staging: Staging, sql: str, options: dict[str, str]
) -> None:
    """What would lose something of a table, or take a name that is taken, is refused."""
    refusal = staging.refuse(staging.execute, sql, **options)
    assert refusal.code == "invalid-option"


def test_rebuild_of_a_table_with_triggers_is_refused(staging: Staging) -> None:
    """A table's triggers would be lost, so it stays as it is."""
    with closing(sqlite3.connect(staging.path)) as db:
        db.executescript(
            "CREATE TABLE t (a INT);"
            "CREATE TRIGGER r AFTER UPDATE ON t BEGIN DELETE FROM t; END;"
            "INSERT INTO t VALUES (1);"
        )
    converted = Converted(tables=(TableRows(name="t", rows=1),))
    with pytest.raises(Refusal, match="triggers"):
        shape(staging.path, converted, read_wishes({"types": "a:text"}))
    assert staging.query("SELECT a FROM t") == [(1,)]


def test_extract_moves_values_to_a_lookup_table(staging: Staging) -> None:
    """Each value is there once, rows refer to it by a foreign key, NULL stays NULL."""
    rows = [*PEOPLE, {**PEOPLE[0], "id": 4, "city": None}]
    converted = staging.load(rows, extract="city:cities,born", index="city", pk="id")
    assert converted.tables[1:] == (
        TableRows(name="cities", rows=2),
        TableRows(name="born", rows=3),
    )
    assert list(staging.types()) == ["id", "name", "cities_id", "born_id", "note"]
    with closing(sqlite3.connect(staging.path)) as db:
        keys = db.execute("PRAGMA foreign_key_list(people)").fetchall()
        assert {(key[2], key[3], key[4]) for key in keys} == {
            ("cities", "cities_id", "id"),
            ("born", "born_id", "id"),
        }
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    assert staging.query(
        "SELECT people.id, city FROM people LEFT JOIN cities ON cities.id = cities_id"
        " ORDER BY people.id"
    ) == [(1, "New York"), (2, "London"), (3, "London"), (4, None)]
    assert staging.query("SELECT name FROM pragma_index_info('idx_people_cities_id')") == [
        ("cities_id",)
    ]


def test_extract_of_two_columns_to_one_lookup_shares_it(staging: Staging) -> None:
    """Columns of the same things can refer to one table."""
    rows = [{"home": "Ur", "work": "Rome"}, {"home": "Rome", "work": "Rome"}]
    converted = staging.load(rows, extract="home:places,work:places")
    people = TableRows(name="people", rows=2, unwanted=("home", "work"))
    assert converted.tables == (people, TableRows(name="places", rows=2))
    assert staging.query(
        "SELECT h.value, w.value FROM people JOIN places h ON h.id = home_id"
        " JOIN places w ON w.id = work_id ORDER BY people.rowid"
    ) == [("Ur", "Rome"), ("Rome", "Rome")]


def test_wishes_go_to_the_tables_that_have_the_columns(staging: Staging) -> None:
    """Each wish is for the tables that it fits, and one that fits none is refused."""
    tables = {"people": PEOPLE, "towns": [{"city": "London", "size": 9}], "other": [{"x": 1}]}
    converted = staging.load(tables, pk="id", fts="name", extract="city:cities", types="size:text")
    assert [table.name for table in converted.tables] == ["people", "towns", "other", "cities"]
    assert staging.types("towns") == {"cities_id": "INTEGER", "size": "TEXT"}
    assert staging.query("SELECT name FROM pragma_table_info('people') WHERE pk") == [("id",)]
    refusal = staging.refuse(staging.load, tables, index="name+size")
    assert refusal.detail == "index cannot be used: no table has 'name', 'size'"
    assert refusal.extra["columns"]["other"] == ["x"]


def test_rows_that_were_put_aside_stay_as_they_are(staging: Staging) -> None:
    """The table of rejected rows is not the uploader's to shape."""
    tables = {"people": [{"line": 1}], "people_rejects": [{"line": 1}, {"line": 1}]}
    staging.load(tables, pk="line")
    assert staging.query("SELECT name FROM pragma_table_info('people_rejects') WHERE pk") == []


def test_shaped_database_holds_no_free_pages(staging: Staging) -> None:
    """What a rebuilt table leaves behind is not replicated."""
    staging.load([{"id": number, "text": "x" * 200} for number in range(2000)], pk="id")
    assert staging.query("PRAGMA freelist_count") == [(0,)]
    assert staging.query("PRAGMA integrity_check") == [("ok",)]
