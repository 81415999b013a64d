from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.converters import Conversion, sql_dump
from tests.unit.convert_kit import Loaded, refuse

if TYPE_CHECKING:
    from pathlib import Path


def _is_read_right(value: float) -> bool:
    """Say whether SQLite reads a number that it wrote itself; some extreme ones it does not."""
    with closing(sqlite3.connect(":memory:")) as connection:
        (text,) = connection.execute("SELECT quote(?)", (value,)).fetchone()
        return bool(connection.execute(f"SELECT {text}").fetchone() == (value,))


VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    # SQLite 3.40 reads 3.8645086598172533e-295, for one, as its neighbour.
    st.floats(allow_nan=False, allow_infinity=False).filter(_is_read_right),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    st.binary(max_size=20),
    st.sampled_from(["';", "--", "/*", "*/", '"', "[", "`", "\n", "';\n--'", "END;"]),
)

# As `sqlite3 x.db .dump` writes it.
DUMP = """PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE t(id integer primary key autoincrement, "we;ird" text, b blob);
INSERT INTO t VALUES(1,replace('a;''b\\n-- c','\\n',char(10)),X'00ff');
INSERT INTO t VALUES(2,NULL,NULL);
CREATE TABLE log(x);
PRAGMA writable_schema=ON;
INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)VALUES('table','f','f',0,'CREATE VIRTUAL TABLE f using fts5(x)');
CREATE TABLE IF NOT EXISTS 'f_data'(id INTEGER PRIMARY KEY, block BLOB);
INSERT INTO f_data VALUES(1,X'0102');
INSERT INTO f_data VALUES(10,X'000000000101010001010101');
INSERT INTO f_data VALUES(137438953473,X'00000018063068656c6c6f0102020105776f726c640102030404 0a');
CREATE TABLE IF NOT EXISTS 'f_idx'(segid, term, pgno, PRIMARY KEY(segid, term)) WITHOUT ROWID;
INSERT INTO f_idx VALUES(1,X'',2);
CREATE TABLE IF NOT EXISTS 'f_content'(id INTEGER PRIMARY KEY, c0);
INSERT INTO f_content VALUES(1,'hello world');
CREATE TABLE IF NOT EXISTS 'f_docsize'(id INTEGER PRIMARY KEY, sz BLOB);
INSERT INTO f_docsize VALUES(1,X'02');
CREATE TABLE IF NOT EXISTS 'f_config'(k PRIMARY KEY, v) WITHOUT ROWID;
INSERT INTO f_config VALUES('version',4);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('t',2);
CREATE VIEW v as select * from t;
CREATE TRIGGER tr after insert on t begin insert into log values(';'); delete from log where x='q'; end;
CREATE INDEX i on t("we;ird");
PRAGMA writable_schema=OFF;
COMMIT;
""".replace("030404 0a", "03040a")  # noqa: E501 - as it is written


def test_sql_dump_makes_its_tables_as_they_were() -> None:
    """Tables, keys, views, triggers, indexes and full-text search are those of the dump."""
    loaded = Loaded(DUMP, "sql")
    assert loaded.tables["t"] == [(1, "a;'b\n-- c", b"\x00\xff"), (2, None, None)]
    assert loaded.types["t"] == {"id": "INTEGER", "we;ird": "TEXT", "b": "BLOB"}
    assert loaded.tables["log"] == []


@given(st.lists(st.tuples(VALUES, VALUES), max_size=10))
def test_sql_dump_of_any_table_is_read_back(rows: list[tuple[object, object]]) -> None:
    """What Python's sqlite3 writes as a dump has the same values, as far as SQLite reads them."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute('CREATE TABLE "t" (a, "b;" TEXT)')
        connection.executemany("INSERT INTO t VALUES (?, ?)", rows)
        stored = connection.execute("SELECT * FROM t").fetchall()
        dump = "\n".join(connection.iterdump())
    assert Loaded(dump, "sql").tables["t"] == stored


def test_sql_dump_of_python_keeps_its_searches(tmp_path: Path) -> None:
    """``iterdump`` writes the rows of a search twice: by its name, and in the tables it keeps."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(
            "CREATE TABLE t (a); INSERT INTO t VALUES ('a moth');"
            "CREATE VIRTUAL TABLE \"f 5\" USING fts5 (a, content = 't');"
            'INSERT INTO "f 5" (rowid, a) SELECT rowid, a FROM t;'
            "CREATE VIRTUAL TABLE f4 USING fts4 (a); INSERT INTO f4 VALUES ('a moth');"
            "CREATE VIRTUAL TABLE r USING rtree (id, low, high); INSERT INTO r VALUES (7, 1, 2);"
        )
        (tmp_path / "in").write_text("\n".join(connection.iterdump()))
    output = tmp_path / "out.db"
    converted = sql_dump.convert(
        Conversion(input=tmp_path / "in", output=output, format="sql", table="t")
    )
    assert converted.warnings == ()
    with closing(sqlite3.connect(output)) as made:
        for query in (
            """SELECT count(*) FROM "f 5" WHERE "f 5" MATCH 'moth'""",
            "SELECT count(*) FROM f4 WHERE f4 MATCH 'moth'",
            "SELECT count(*) FROM r WHERE low < 2",
        ):
            assert made.execute(query).fetchone() == (1,), query


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_sql_dump_is_the_same_however_it_is_cut(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """A statement may go over the end of what is read at once."""
    monkeypatch.setattr("ingest.converters.declared.CHUNK_BYTES", size)
    assert Loaded(DUMP, "sql").tables["t"][0][1] == "a;'b\n-- c"


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("ATTACH 'other.db' AS other;", "invalid-file"),
        ("DETACH main;", "invalid-file"),
        ("VACUUM INTO 'other.db';", "invalid-file"),
        ("SELECT 1;", "invalid-file"),
        ("EXPLAIN SELECT 1;", "invalid-file"),
        ("PRAGMA temp_store_directory='/';", "invalid-file"),
        ("PRAGMA trusted_schema=ON;", "invalid-file"),
        ("INSERT INTO t SELECT load_extension('x');", "invalid-file"),
        ("INSERT INTO t VALUES(fts3_tokenizer('simple'));", "invalid-file"),
        ("CREATE VIRTUAL TABLE x USING csv(filename='/etc/passwd');", "invalid-file"),
        ("CREATE TEMP TABLE x(a);", "invalid-file"),
        ("INSERT INTO sqlite_master VALUES('table','x','x',0,'y');", "invalid-file"),
        (
            (
                "INSERT INTO sqlite_schema(type,name,tbl_name,rootpage,sql)VALUES"
                "('table','x','x',0,'CREATE VIRTUAL TABLE x USING evil(y)');"
            ),
            "invalid-file",
        ),
        ("UPDATE sqlite_schema SET sql='x';", "invalid-file"),
        (
            (
                "INSERT INTO t WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c)"
                " SELECT x FROM c;"
            ),
            "limit-exceeded",
        ),
        ("INSERT INTO t VALUES(zeroblob(2000000000));", "limit-exceeded"),
        ("ROLLBACK; -- due to errors", "invalid-file"),
        ("INSERT INTO missing VALUES(1);", "invalid-file"),
        ("INSERT INTO t VALUES('not closed);", "invalid-file"),
        (".read /etc/passwd\n;", "invalid-file"),
    ],
    ids=range(20),
)
def test_sql_dump_with_what_no_dump_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str, code: str
) -> None:
    """A dump reaches no file, no extension, no schema but its own, and does not run for ever."""
    monkeypatch.chdir(tmp_path)
    refusal = refuse(f"BEGIN;\nCREATE TABLE t(a);\n\n-- here\n{statement}\nCOMMIT;\n", "sql")
    assert (refusal.code, refusal.line) == (code, 5)
    assert not list(tmp_path.iterdir())


def test_sql_dump_that_ends_early_is_refused() -> None:
    """A dump that was cut off makes no table of the half that is there."""
    assert "COMMIT" in refuse(DUMP.partition("CREATE VIEW")[0], "sql").detail
    assert refuse("-- nothing\n", "sql").code == "no-rows"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("-- MySQL dump 10.13\n/*!40101 SET NAMES utf8 */;\nCREATE TABLE `t` (a int);", "MySQL"),
        ("CREATE TABLE `t` (\n `a` int\n) ENGINE=InnoDB;", "MySQL"),
        ("CREATE TABLE `t` (`a` int) ENGINE=InnoDB;", "MySQL"),
        ("create table s (a);\ncreate table t (a int not null auto_increment);", "MySQL"),
        ("--\n-- PostgreSQL database dump\n--\nSET x = 0;", "PostgreSQL"),
        ("CREATE TABLE t (a int);\nCOPY public.t (a) FROM stdin;\n1\n\\.\n", "PostgreSQL"),
    ],
)
def test_sql_dump_of_another_database_is_refused_by_its_name(text: str, name: str) -> None:
    """A dump that cannot be read is told from one that is broken."""
    refusal = refuse(text, "sql")
    assert refusal.code == "unknown-format"
    assert name in refusal.detail
    assert refusal.hint


def test_sql_dump_whose_values_speak_of_other_databases_is_read() -> None:
    """Words within values decide nothing."""
    text = "CREATE TABLE t(a);INSERT INTO t VALUES(') ENGINE=InnoDB; -- MySQL dump');"
    assert len(Loaded(text, "sql").tables["t"]) == 1


def test_sql_dump_that_is_broken_and_speaks_of_other_databases_is_broken() -> None:
    """Only how a table is made says whose dump it is."""
    text = "CREATE TABLE t(a);INSERT INTO t VALUES(') ENGINE=InnoDB', AUTO_INCREMENT);"
    assert refuse(text, "sql").code == "invalid-file"


def test_sql_trigger_without_end_is_refused() -> None:
    """To look for the end of a trigger cannot take for ever."""
    trigger = "CREATE TABLE t(a); CREATE TRIGGER x AFTER INSERT ON t BEGIN "
    assert refuse(trigger + ";" * 200_000, "sql").extra == {"limit": "statement"}
    assert refuse(trigger + "END;" * 50_000, "sql").code in ("limit-exceeded", "invalid-file")


def test_sql_statement_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One statement cannot fill the memory."""
    monkeypatch.setattr(sql_dump, "MAX_STATEMENT_CHARACTERS", 100)
    assert refuse("CREATE TABLE t(a);" * 10, "sql").extra == {"limit": "statement"}


@pytest.mark.parametrize("encoding", ["windows-1252", None])
def test_sql_dump_of_a_legacy_encoding_is_read(encoding: str | None) -> None:
    """An encoding is believed, or found by what the bytes look like; that is said."""
    dump = "CREATE TABLE t (a);\nINSERT INTO t VALUES ('café, 5 €');\n"
    loaded = Loaded(dump.encode("cp1252"), "sql", encoding=encoding)
    assert loaded.tables["t"] == [("café, 5 €",)]
    assert loaded.converted.encoding == "windows-1252"
    assert any("by what its bytes look like" in said for said in loaded.converted.warnings) is (
        encoding is None
    )


def test_sql_dump_byte_that_does_not_fit_is_refused_with_its_offset() -> None:
    """One byte that is not UTF-8 among others that are is no question mark."""
    dump = "CREATE TABLE t (a);\nINSERT INTO t VALUES ('été, Noël');\n".encode()
    data = dump.replace("ë".encode(), b"\xeb")
    refusal = refuse(data, "sql")
    assert (refusal.line, refusal.extra) == (2, {"offset": data.index(b"\xeb")})
