"""SQLite files that mean harm, and odd ones that do not: refused, made harmless, or kept whole."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlite_utils

from headrace.errors import Refusal
from ingest.converters import Conversion, Converted, TableRows, sqlite_file

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = Path(__file__).parents[1] / "data" / "sqlite"
ROWS = "CREATE TABLE t (a TEXT); INSERT INTO t VALUES ('x'), ('y');"
MANY_ROWS = (
    f"{ROWS} BEGIN;"
    + "".join(f"INSERT INTO t VALUES ('{number:0400}');" for number in range(200))
    + "COMMIT;"
)
WRITABLE = "PRAGMA writable_schema = ON;"
PAGE = 4096


def make(path: Path, *scripts: str, edit: Callable[[bytearray], None] | None = None) -> Path:
    """Make a database by SQL, each script by a connection of its own, and edit its bytes."""
    for script in scripts:
        with closing(sqlite3.connect(path)) as db:
            db.execute(f"PRAGMA page_size = {PAGE}")
            db.execute("PRAGMA synchronous = OFF")
            db.executescript(script)
    if edit is not None:
        data = bytearray(path.read_bytes())
        edit(data)
        path.write_bytes(data)
    return path


def convert(source: Path) -> Converted:
    """Convert a file in this process."""
    output = source.with_name("out.db")
    return sqlite_file.convert(
        Conversion(input=source, output=output, format="sqlite", table="ignored")
    )


def refuse(source: Path) -> Refusal:
    """Give the refusal of a file."""
    with pytest.raises(Refusal) as caught:
        convert(source)
    return caught.value


def query(source: Path, sql: str) -> list[tuple[Any, ...]]:
    """Read from what was made of a file."""
    with closing(sqlite3.connect(source.with_name("out.db"))) as db:
        db.text_factory = lambda data: data.decode(errors="replace")
        return db.execute(sql).fetchall()


def number_at(data: bytearray, at: int) -> int:
    """Read a page number."""
    return int.from_bytes(data[at : at + 4], "big")


def huge_page_count(data: bytearray) -> None:
    """Say in the header that the database has 2^31 - 1 pages."""
    data[28:32] = (2**31 - 1).to_bytes(4, "big")


def cut(data: bytearray) -> None:
    """Keep the first page and a bit."""
    del data[5000:]


def future_version(data: bytearray) -> None:
    """Say that a version of SQLite wrote it that is not there yet."""
    data[18:20] = b"\x03\x03"


def freelist_cycle(data: bytearray) -> None:
    """Let the first page of the freelist follow itself."""
    first = number_at(data, 32)
    assert first
    data[(first - 1) * PAGE : (first - 1) * PAGE + 4] = first.to_bytes(4, "big")


def freelist_of_used_pages(data: bytearray) -> None:
    """Let the freelist hold the root of a table."""
    at = (number_at(data, 32) - 1) * PAGE + 8
    data[at : at + 4] = (2).to_bytes(4, "big")


def overlapping_pages(data: bytearray) -> None:
    """Let a tree have one page in two places."""
    assert data[PAGE] == 5  # an inner page
    cell = int.from_bytes(data[PAGE + 12 : PAGE + 14], "big")
    data[PAGE + 8 : PAGE + 12] = data[PAGE + cell : PAGE + cell + 4]


def tree_cycle(data: bytearray) -> None:
    """Let the root of a tree be its own child."""
    data[PAGE + 8 : PAGE + 12] = (2).to_bytes(4, "big")


def cells_outside(data: bytearray) -> None:
    """Let the cells of a page lie outside of it."""
    data[3 * PAGE : 3 * PAGE + 200] = b"\xff" * 200


def wal_mode(data: bytearray) -> None:
    """Say in the header that the database is in WAL mode."""
    data[18:20] = b"\x02\x02"


@pytest.mark.parametrize(
    ("edit", "scripts", "words"),
    [
        (huge_page_count, (MANY_ROWS,), "cut short"),
        (cut, (MANY_ROWS,), "cut short"),
        (future_version, (ROWS,), "newer SQLite"),
        (freelist_cycle, (MANY_ROWS, "DELETE FROM t"), "freelist"),
        (freelist_of_used_pages, (MANY_ROWS, "DELETE FROM t"), "2nd reference to page 2"),
        (overlapping_pages, (MANY_ROWS,), "damaged"),
        (tree_cycle, (MANY_ROWS,), "malformed"),
        (cells_outside, (MANY_ROWS,), "malformed"),
    ],
)
def test_damaged_pages_are_refused_by_what_is_wrong(
    tmp_path: Path, edit: Callable[[bytearray], None], scripts: tuple[str, ...], words: str
) -> None:
    """Pages that lie about each other never get into a staging database."""
    refusal = refuse(make(tmp_path / "in.db", *scripts, edit=edit))
    assert refusal.code == "invalid-file"
    assert words in refusal.detail


@pytest.mark.parametrize(
    "schema",
    [
        "CREATE TABLE u (a TEXT);" + WRITABLE
        + "UPDATE sqlite_schema SET rootpage = 2 WHERE name = 'u';",
        WRITABLE + "UPDATE sqlite_schema SET rootpage = 1;",
        WRITABLE + "UPDATE sqlite_schema SET sql = 'CREATE TABLE t (a INT) STRICT';",
        WRITABLE + "UPDATE sqlite_schema SET sql = 'CREATE TABLE \"t' || char(0) || 'x\" (a)';",
        WRITABLE + "UPDATE sqlite_schema SET sql = 'CREATE TABLE t (a CHECK ("
        + "(" * 5000 + "1" + ")" * 5000 + "))';",
        WRITABLE + "UPDATE sqlite_schema SET sql = CAST(x'"
        + b"CREATE TABLE t (a".hex() + "ff" + b" TEXT, a TEXT)".hex() + "' AS TEXT);",
    ],
    ids=["two-tables-one-root", "root-is-schema", "strict-lie", "nul", "nested", "no-text"],
)  # fmt: skip
def test_schema_that_lies_is_refused(tmp_path: Path, schema: str) -> None:
    """A schema that does not fit the pages, or that SQLite cannot read, is refused."""
    assert refuse(make(tmp_path / "in.db", ROWS, schema)).code == "invalid-file"


def test_table_named_as_sqlite_names_its_own_is_left_out(tmp_path: Path) -> None:
    """A name that SQLite keeps for itself does not come in from outside."""
    sql = "name = 'sqlite_x', tbl_name = 'sqlite_x', sql = 'CREATE TABLE sqlite_x (a TEXT)'"
    source = make(tmp_path / "in.db", ROWS, f"{WRITABLE} UPDATE sqlite_schema SET {sql};")
    assert refuse(source).code == "no-rows"


def test_schema_of_too_many_objects_is_refused(tmp_path: Path) -> None:
    """So many objects would make every later merge slow."""
    views = (
        "INSERT INTO sqlite_schema WITH RECURSIVE c(n) AS"
        " (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 5001)"
        " SELECT 'view', 'v' || n, 'v' || n, 0, 'CREATE VIEW v' || n || ' AS SELECT 1' FROM c;"
    )
    refusal = refuse(make(tmp_path / "in.db", WRITABLE + views))
    assert (refusal.code, refusal.extra["limit"]) == ("limit-exceeded", "objects")


def test_schema_of_too_many_bytes_is_refused(tmp_path: Path) -> None:
    """A schema that every connection of every reader would parse is bounded."""
    comment = "CREATE TABLE t (a TEXT /*' || hex(zeroblob(5000000)) || '*/)"
    source = make(
        tmp_path / "in.db", ROWS, f"{WRITABLE} UPDATE sqlite_schema SET sql = '{comment}'"
    )
    refusal = refuse(source)
    assert (refusal.code, refusal.extra["limit"]) == ("limit-exceeded", "schema")


@pytest.mark.parametrize(
    "body",
    [
        "SELECT load_extension('/tmp/evil.so')",
        "SELECT fts3_tokenizer('simple', x'4141414141414141')",
        "DELETE FROM t",
        "INSERT INTO found (a) VALUES (new.a); DELETE FROM t",
        "INSERT INTO found (a) VALUES (load_extension('x'))",
        "INSERT INTO t (a) VALUES (new.a)",
    ],
)
def test_trigger_is_never_run_and_reported(tmp_path: Path, body: str) -> None:
    """A trigger that does more than to keep a search up to date is named in a warning."""
    source = make(
        tmp_path / "in.db",
        ROWS + "CREATE VIRTUAL TABLE found USING fts5 (a);"
        f"CREATE TRIGGER evil AFTER INSERT ON t BEGIN {body}; END;",
    )
    (warning,) = convert(source).warnings
    assert warning.endswith("kept and not run here: 'evil'")
    assert query(source, "SELECT a FROM t") == [("x",), ("y",)]


@pytest.mark.parametrize(
    "sql",
    [
        """CREATE VIEW _headrace_merges AS SELECT * FROM t;
        CREATE TRIGGER evil INSTEAD OF DELETE ON _headrace_merges BEGIN SELECT 1; END;""",
        "CREATE INDEX _litestream_seq ON t (a);",
        "CREATE TRIGGER _litestream_lock AFTER INSERT ON t BEGIN SELECT 1; END;",
    ],
)
def test_names_of_internal_tables_are_left_free(tmp_path: Path, sql: str) -> None:
    """Nothing of a file stands where Litestream and the primary keep what is their own."""
    source = make(tmp_path / "in.db", ROWS + sql)
    (warning,) = convert(source).warnings
    assert "was left out: it is kept for internal use" in warning
    assert query(source, "SELECT name FROM sqlite_schema") == [("t",)]


def test_views_of_a_table_that_is_not_there_are_left_out(tmp_path: Path) -> None:
    """Such views may take for ever to be prepared as soon as somebody uploads that table."""
    views = "".join(
        f"CREATE VIEW v{number} AS SELECT 1 AS a FROM v{number - 1} AS x, v{number - 1} AS y;"
        for number in range(1, 60)
    )
    source = make(tmp_path / "in.db", f"{ROWS}{views}")
    assert len(convert(source).warnings) == 59
    assert query(source, "SELECT name FROM sqlite_schema") == [("t",)]


@pytest.mark.parametrize("module", ["fts5", "fts4"])
def test_search_with_its_triggers_is_no_news(tmp_path: Path, module: str) -> None:
    """What sqlite-utils or Datasette's tools made for search needs no warning, and works."""
    source = make(tmp_path / "in.db", "CREATE TABLE t (a TEXT); INSERT INTO t VALUES ('a moth')")
    with closing(sqlite3.connect(source)) as db:
        sqlite_utils.Database(db).table("t").enable_fts(["a"], module.upper(), create_triggers=True)
    if module == "fts4":  # as sqlite.org/fts3.html writes it; sqlite-utils' are those of FTS5
        make(
            source,
            "DROP TRIGGER t_ad; DROP TRIGGER t_au;"
            "CREATE TRIGGER t_bd BEFORE DELETE ON t BEGIN"
            " DELETE FROM t_fts WHERE docid = old.rowid; END;",
        )
    assert convert(source).warnings == ()
    assert query(source, "SELECT rowid FROM t_fts WHERE t_fts MATCH 'moth'") == [(1,)]


def test_views_without_end_are_kept_and_never_run(tmp_path: Path) -> None:
    """A view that never ends costs nothing until a reader asks for it, and is stopped there."""
    source = make(
        tmp_path / "in.db",
        ROWS + "CREATE VIEW v AS WITH RECURSIVE c(n) AS"
        " (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c;"
        "CREATE VIEW w AS SELECT count(*) FROM v;",
    )
    assert convert(source).warnings == ()


def test_views_and_virtual_tables_that_cannot_be_read_are_reported(tmp_path: Path) -> None:
    """What lacks a module, a function, or goes round in a circle is named."""
    source = make(
        tmp_path / "in.db",
        ROWS + "CREATE VIEW a AS SELECT * FROM b; CREATE VIEW b AS SELECT * FROM a;"
        "CREATE VIEW c AS SELECT ST_Area(a) FROM t;" + WRITABLE + "INSERT INTO sqlite_schema VALUES"
        " ('table', 'd', 'd', 0, 'CREATE VIRTUAL TABLE d USING csv (filename = ''/etc/passwd'')');",
    )
    warnings = convert(source).warnings
    assert [warning.partition(" cannot")[0] for warning in warnings] == [
        "view 'a'", "view 'b'", "view 'c'", "virtual table 'd' was left out: it",
    ]  # fmt: skip
    assert query(source, "SELECT name FROM sqlite_schema WHERE type = 'table'") == [("t",)]
    assert query(source, "PRAGMA integrity_check") == [("ok",)]


def test_table_that_no_row_can_be_read_of_is_refused(tmp_path: Path) -> None:
    """A generated column that fails would make every page of its table fail."""
    source = make(
        tmp_path / "in.db",
        ROWS + "CREATE TABLE u (a INT); INSERT INTO u VALUES (-9223372036854775808)",
        WRITABLE + "UPDATE sqlite_schema SET sql = 'CREATE TABLE u (a INT, b AS (abs(a)))'"
        " WHERE name = 'u'",
    )
    refusal = refuse(source)
    assert refusal.code == "invalid-file"
    assert "'u' cannot be read" in refusal.detail


def test_row_that_a_generated_column_fails_at_is_refused(tmp_path: Path) -> None:
    """Every row of such a table is read once: one alone would make the page that it is on fail."""
    source = make(
        tmp_path / "in.db",
        "CREATE TABLE u (a INT); INSERT INTO u VALUES (1), (2), (3000000000);",
        WRITABLE + "UPDATE sqlite_schema SET sql ="
        " 'CREATE TABLE u (a INT, b AS (zeroblob(a)))' WHERE name = 'u'",
    )
    refusal = refuse(source)
    assert refusal.code == "invalid-file"
    assert "'u' cannot be read: string or blob too big" in refusal.detail


@pytest.mark.parametrize("value", ["zeroblob(70000000)", "printf('%.*c', 70000000, 'x')"])
def test_value_that_no_reader_could_show_is_refused(tmp_path: Path, value: str) -> None:
    """Readers ask for a row of each table before they serve it: one value must not keep them."""
    rows = "".join(f", c{number}" for number in range(60))
    source = make(
        tmp_path / "in.db",
        f"CREATE TABLE t (a{rows}); INSERT INTO t (a) VALUES (1); INSERT INTO t (c59)"
        f" VALUES ({value}); CREATE INDEX i ON t (c59)",
    )
    refusal = refuse(source)
    assert (refusal.code, refusal.extra) == ("limit-exceeded", {"limit": "value"})
    assert refusal.detail == "the table 't' has a value of more than 64 MiB"


def test_table_without_a_name_gets_one(tmp_path: Path) -> None:
    """A table whose name is empty has no URL in Datasette, which readers would wait for."""
    source = make(tmp_path / "in.db", 'CREATE TABLE "" (a); INSERT INTO "" VALUES (1)')
    converted = convert(source)
    assert converted.tables == (TableRows(name="table_1", rows=1),)
    assert converted.warnings == ("table '' was renamed to 'table_1'",)


def test_function_of_json_in_a_schema_is_kept_or_told(tmp_path: Path) -> None:
    """A column by a function of JSON is kept where SQLite lets a schema use it, else it is named.

    SQLite does from 3.41 on.
    """
    source = make(tmp_path / "in.db", "CREATE TABLE t (a TEXT, b AS (json_extract(a, '$.x')))")
    if sqlite3.sqlite_version_info >= (3, 41):
        assert [table.name for table in convert(source).tables] == ["t"]
        assert query(source, "SELECT name FROM pragma_table_xinfo('t')") == [("a",), ("b",)]
    else:
        refusal = refuse(source)
        assert refusal.code == "invalid-file"
        assert "json_extract" in refusal.detail
        assert "plain column" in str(refusal.hint)


def test_search_and_rtree_tables_come_through(tmp_path: Path) -> None:
    """Virtual tables that are known here are kept with what they hold."""
    modules = {"f3": "fts3 (a)", "f4": "fts4 (a)", "f5": "fts5 (a)"}
    made = "".join(
        f"CREATE VIRTUAL TABLE {name} USING {module}; INSERT INTO {name} VALUES ('a moth');"
        for name, module in modules.items()
    )
    made += "CREATE VIRTUAL TABLE r USING rtree (id, low, high); INSERT INTO r VALUES (7, 1, 2);"
    source = make(tmp_path / "in.db", ROWS + made)
    converted = convert(source)
    assert [table.name for table in converted.tables] == ["t"]
    assert converted.warnings == ()
    for name in modules:
        assert query(source, f"SELECT count(*) FROM {name} WHERE {name} MATCH 'moth'") == [(1,)]
    assert query(source, "SELECT id FROM r WHERE low < 2") == [(7,)]


@pytest.mark.parametrize("unique", ["", "UNIQUE "])
def test_index_that_does_not_fit_its_rows_is_made_again(tmp_path: Path, unique: str) -> None:
    """An index that says other values than its table would hide rows from whoever looks by it."""
    source = make(tmp_path / "in.db", f"{ROWS}CREATE {unique}INDEX i ON t (a)")
    _swap_values_in_table(source)
    assert convert(source).warnings == ()
    assert query(source, "PRAGMA integrity_check") == [("ok",)]
    assert query(source, "SELECT a FROM t WHERE a = 'w'") == [("w",)]


def test_unique_index_that_rows_break_is_refused(tmp_path: Path) -> None:
    """A rule that the rows do not keep is no rule: the file was damaged."""
    source = make(tmp_path / "in.db", f"{ROWS}CREATE UNIQUE INDEX i ON t (a)")
    _swap_values_in_table(source, new=b"y")
    refusal = refuse(source)
    assert refusal.code == "invalid-file"
    assert "UNIQUE constraint failed: t.a" in refusal.detail


def _swap_values_in_table(path: Path, *, new: bytes = b"w") -> None:
    """Write another value in place of 'x', into the table alone: a row, not an index entry."""
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 't'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    data = bytearray(path.read_bytes())
    at = data.rindex(b"x", (page - 1) * size, page * size)
    data[at : at + 1] = new
    path.write_bytes(data)


def test_search_that_is_damaged_is_made_again(tmp_path: Path) -> None:
    """What a search keeps inside is not believed: if it does not fit, it is built from the rows."""
    source = make(
        tmp_path / "in.db",
        ROWS + "CREATE VIRTUAL TABLE f USING fts4 (a); INSERT INTO f VALUES ('a moth');"
        "UPDATE f_segdir SET root = x'00ff00ff00ff00ff';",
    )
    (warning,) = convert(source).warnings
    assert "'f' did not fit its rows" in warning
    assert query(source, "SELECT count(*) FROM f WHERE f MATCH 'moth'") == [(1,)]


@pytest.mark.parametrize(
    "damaged",
    [
        "CREATE VIRTUAL TABLE f USING fts5 (a); UPDATE f_data SET block = x'00ff00ff00ff';",
        (
            "CREATE VIRTUAL TABLE f USING rtree (id, low, high); INSERT INTO f VALUES (7, 1, 2);"
            "UPDATE f_node SET data = substr(data, 1, 3) || x'ff' || substr(data, 5);"
        ),
    ],
)
def test_virtual_table_that_is_damaged_for_good_is_refused(tmp_path: Path, damaged: str) -> None:
    """Shadow tables that would mislead their module are not handed to readers."""
    assert refuse(make(tmp_path / "in.db", ROWS + damaged)).code == "invalid-file"


def test_utf16_becomes_utf8_with_everything_in_it(tmp_path: Path) -> None:
    """A UTF-16 database can be appended to others afterwards; nothing of it is lost."""
    source = make(
        tmp_path / "in.db",
        "PRAGMA encoding = 'UTF-16be'; PRAGMA user_version = 7; PRAGMA application_id = 9;"
        "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT, b BLOB, c AS (a || '!'));"
        "INSERT INTO t (id, a, b) VALUES (5, 'ж 🚀', x'00ff'), (9, NULL, NULL);"
        "DELETE FROM t WHERE id = 9;"
        "CREATE TABLE plain (rowid TEXT); INSERT INTO plain (_rowid_, rowid) VALUES (42, 'x');"
        "CREATE TABLE w (k TEXT PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO w VALUES ('é', 1.5);"
        "CREATE INDEX i ON t (a); CREATE VIEW v AS SELECT a FROM t;"
        "CREATE VIRTUAL TABLE f USING fts5 (a, content = 't', content_rowid = 'id');"
        "INSERT INTO f (f) VALUES ('rebuild');"
        "CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO f (rowid, a)"
        " VALUES (new.id, new.a); END; ANALYZE;",
    )
    converted = convert(source)
    assert converted.warnings == ("the database held UTF-16be text, and holds UTF-8 now",)
    assert {table.name: table.rows for table in converted.tables} == {"t": 1, "plain": 1, "w": 1}
    assert query(source, "PRAGMA encoding") == [("UTF-8",)]
    assert query(source, "SELECT * FROM t") == [(5, "ж 🚀", b"\x00\xff", "ж 🚀!")]
    assert query(source, "SELECT _rowid_, rowid FROM plain") == [(42, "x")]
    assert query(source, "SELECT * FROM w") == [("é", 1.5)]
    assert query(source, "SELECT seq FROM sqlite_sequence") == [(9,)]
    assert query(source, "SELECT rowid FROM f('ж')") == [(5,)]
    assert query(source, "PRAGMA integrity_check") == [("ok",)]
    kinds = "SELECT type, name FROM sqlite_schema WHERE name IN ('i', 'v', 'r') ORDER BY name"
    assert query(source, kinds) == [("index", "i"), ("trigger", "r"), ("view", "v")]
    assert query(source, "PRAGMA user_version") == [(7,)]
    assert query(source, "PRAGMA application_id") == [(9,)]


def test_odd_but_honest_tables_are_kept(tmp_path: Path) -> None:
    """Generated columns, no rowids, STRICT, and SQLite's most columns come through."""
    wide = ", ".join(f"c{number}" for number in range(2000))
    source = make(
        tmp_path / "in.db",
        "CREATE TABLE g (a INT, b AS (a + 1), c AS (a + 2) STORED); INSERT INTO g (a) VALUES (1);"
        "CREATE TABLE w (a TEXT PRIMARY KEY, b) WITHOUT ROWID; INSERT INTO w VALUES ('x', 1);"
        "CREATE TABLE s (a INT, b ANY) STRICT; INSERT INTO s VALUES (1, 'x');"
        f"CREATE TABLE wide ({wide}); INSERT INTO wide (c1999) VALUES (1);"
        "PRAGMA application_id = 1196444487;",
    )
    assert {table.name: table.rows for table in convert(source).tables} == {
        "g": 1, "w": 1, "s": 1, "wide": 1,
    }  # fmt: skip
    assert query(source, "SELECT * FROM g") == [(1, 2, 3)]
    assert query(source, "SELECT strict FROM pragma_table_list('s')") == [(1,)]
    assert query(source, "PRAGMA application_id") == [(1196444487,)]


def test_text_that_is_no_utf8_is_kept_as_it_is(tmp_path: Path) -> None:
    """SQLite does not check texts: their bytes are kept, and a reader shows what it can."""
    source = make(
        tmp_path / "in.db", "CREATE TABLE t (a); INSERT INTO t VALUES (CAST(x'ff41' AS TEXT))"
    )
    convert(source)
    assert query(source, "SELECT typeof(a), hex(a) FROM t") == [("text", "FF41")]


def test_brackets_in_columns_are_renamed(tmp_path: Path) -> None:
    """Datasette cannot show a column with a bracket in its name; HTML in a name is only text."""
    source = make(
        tmp_path / "in.db",
        'CREATE TABLE "<b>t" ("a]b", "c[d", "<i>"); CREATE INDEX i ON "<b>t" ("a]b");',
    )
    assert len(convert(source).warnings) == 2
    names = [name for (name,) in query(source, "SELECT name FROM pragma_table_info('<b>t')")]
    assert names == ["a)b", "c(d", "<i>"]


def test_geopackage_of_a_package_comes_through(tmp_path: Path) -> None:
    """A GeoPackage keeps its tables, its R-Tree and its triggers, which are reported."""
    source = tmp_path / "in.gpkg"
    source.write_bytes((DATA / "test_gpkg_nulls.gpkg").read_bytes())
    converted = convert(source)
    rows = {table.name: table.rows for table in converted.tables}
    assert rows["test_gpkg_nulls"] == 4
    assert rows["gpkg_contents"] == 1
    assert any("triggers" in warning for warning in converted.warnings)
    assert query(source, "PRAGMA application_id") == [(0x47504B47,)]
    assert len(query(source, "SELECT * FROM test_gpkg_nulls")) == 4


def test_wal_mode_without_its_wal_is_explained(tmp_path: Path) -> None:
    """Who sent a file in WAL mode is told what may be missing: in a warning, or in the refusal."""
    assert "WAL mode" in convert(make(tmp_path / "in.db", ROWS, edit=wal_mode)).warnings[0]

    def cut_and_wal(data: bytearray) -> None:
        cut(data)
        wal_mode(data)

    for name, script, edit in (
        ("empty.db", "PRAGMA user_version = 1", wal_mode),
        ("cut.db", MANY_ROWS, cut_and_wal),
    ):
        (tmp_path / name).with_name("out.db").unlink(missing_ok=True)
        refusal = refuse(make(tmp_path / name, script, edit=edit))
        assert "WAL mode" in str(refusal.hint)
