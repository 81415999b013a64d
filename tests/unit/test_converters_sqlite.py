from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import Refusal
from ingest.converters import Conversion, Converted, TableRows, sqlite_file

SCHEMA = """
CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT, price REAL);
CREATE INDEX orders_name ON orders (name);
CREATE VIEW dear AS SELECT * FROM orders WHERE price > 5;
CREATE TRIGGER priced AFTER INSERT ON orders WHEN new.price IS NULL
BEGIN UPDATE orders SET price = 0 WHERE id = new.id; END;
INSERT INTO orders VALUES (1, 'a', 1.5), (7, 'b', 9.5);
CREATE TABLE "odd ""name" (x);
"""


def _create(path: Path, sql: str = SCHEMA, *, page_size: int = 4096) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA page_size = {page_size}")
        connection.executescript(sql)
    return path


def _convert(source: Path) -> Converted:
    output = source.with_name("out.db")
    return sqlite_file.convert(
        Conversion(input=source, output=output, format="sqlite", table="ignored")
    )


def _query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def _refuse(source: Path) -> Refusal:
    with pytest.raises(Refusal) as caught:
        _convert(source)
    return caught.value


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_sqlite_file_keeps_everything_and_its_page_size(tmp_path: Path, page_size: int) -> None:
    """Tables, indexes, views, triggers, rows and the page size are those of the uploaded file."""
    source = _create(tmp_path / "in.db", page_size=page_size)
    converted = _convert(source)
    assert converted == Converted(
        tables=(TableRows(name="orders", rows=2), TableRows(name='odd "name', rows=0)),
        warnings=("the database has triggers, which are kept and not run here: 'priced'",),
    )
    schema = "SELECT type, name, sql FROM sqlite_schema ORDER BY name"
    assert _query(tmp_path / "out.db", schema) == _query(source, schema)
    assert _query(tmp_path / "out.db", "SELECT * FROM dear") == [(7, "b", 9.5)]
    assert _query(tmp_path / "out.db", "PRAGMA page_size") == [(page_size,)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.db", "out.db"]


def test_sqlite_file_without_primary_key_keeps_its_rowids(tmp_path: Path) -> None:
    """Rows keep their rowid, which full-text tables refer to."""
    source = _create(
        tmp_path / "in.db",
        "CREATE TABLE t (a); INSERT INTO t VALUES ('x'), ('y'), ('z');"
        "DELETE FROM t WHERE a = 'x';"
        "CREATE VIRTUAL TABLE search USING fts5 (a, content = 't');"
        "INSERT INTO search (search) VALUES ('rebuild');",
    )
    assert [table.name for table in _convert(source).tables] == ["t"]
    assert _query(tmp_path / "out.db", "SELECT rowid, a FROM t") == [(2, "y"), (3, "z")]
    assert _query(tmp_path / "out.db", "SELECT rowid FROM search('z')") == [(3,)]


def test_sqlite_file_of_wal_mode_without_its_wal_is_taken_as_it_is(tmp_path: Path) -> None:
    """A file in WAL mode holds what was checkpointed; the copy is in no special mode."""
    live = _create(tmp_path / "live.db", SCHEMA + "PRAGMA journal_mode = WAL;")
    with closing(sqlite3.connect(live)) as connection:
        connection.execute("INSERT INTO orders VALUES (9, 'in the wal', 1)")
        connection.commit()
        source = Path(shutil.copy(live, tmp_path / "in.db"))
    assert _convert(source).tables[0] == TableRows(name="orders", rows=2)
    assert (tmp_path / "out.db").read_bytes()[18:20] == b"\x01\x01"
    assert not list(tmp_path.glob("in.db-*"))


def test_sqlite_file_with_internal_tables_loses_them_with_a_warning(tmp_path: Path) -> None:
    """Tables that Litestream keeps for itself do not come in from outside."""
    source = _create(tmp_path / "in.db", SCHEMA + "CREATE TABLE _litestream_seq (id, seq);")
    converted = _convert(source)
    assert [table.name for table in converted.tables] == ["orders", 'odd "name']
    assert "_litestream_seq" in converted.warnings[0]
    assert "_litestream_seq" not in str(
        _query(tmp_path / "out.db", "SELECT name FROM sqlite_schema")
    )


def test_sqlite_file_with_unknown_virtual_table_says_so(tmp_path: Path) -> None:
    """A virtual table of a module that is not here is left out, and named in a warning."""
    source = _create(
        tmp_path / "in.db",
        SCHEMA + "PRAGMA writable_schema = ON;"
        "INSERT INTO sqlite_schema VALUES"
        " ('table', 'places', 'places', 0, 'CREATE VIRTUAL TABLE places USING spatial_index');",
    )
    converted = _convert(source)
    assert converted.tables[0] == TableRows(name="orders", rows=2)
    assert "places" in converted.warnings[0]


@pytest.mark.parametrize(
    "schema", ["", "CREATE TABLE _litestream_seq (id, seq);", "CREATE VIEW v AS SELECT 1;"]
)
def test_sqlite_file_without_tables_is_refused(tmp_path: Path, schema: str) -> None:
    """A database without a table of its own has nothing to show."""
    source = _create(tmp_path / "in.db", schema + "PRAGMA user_version = 1;")
    assert _refuse(source).code == "no-rows"


def test_sqlite_file_that_is_random_bytes_is_refused_as_encrypted(tmp_path: Path) -> None:
    """A file of whole pages of random bytes is told to be encrypted, not broken."""
    source = tmp_path / "in.db"
    source.write_bytes(random.Random(1).randbytes(3 * 4096))
    assert _refuse(source).code == "encrypted-file"


def test_sqlite_file_with_another_header_is_refused_as_broken(tmp_path: Path) -> None:
    """A database whose header is damaged is told to be broken."""
    source = _create(tmp_path / "in.db")
    source.write_bytes(b"XXXX" + source.read_bytes()[4:])
    assert _refuse(source).code == "invalid-file"


@pytest.mark.parametrize("damage", ["cut", "zeros", "noise", "schema"])
def test_sqlite_file_that_is_damaged_is_refused(tmp_path: Path, damage: str) -> None:
    """A database that fails SQLite's own check never becomes a staging database."""
    rows = "CREATE TABLE t (a); CREATE INDEX i ON t (a);" + "".join(
        f"INSERT INTO t VALUES ('{number:0200}');" for number in range(300)
    )
    source = _create(tmp_path / "in.db", rows)
    data = bytearray(source.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "schema":
        at = data.index(b"CREATE TABLE t")
        data[at : at + 14] = b"CREATE TABLE (("
    else:
        noise = bytes(3 * 4096) if damage == "zeros" else random.Random(2).randbytes(3 * 4096)
        data[4096 * 4 : 4096 * 7] = noise
    source.write_bytes(data)
    assert _refuse(source).code == "invalid-file"


@pytest.mark.parametrize("seed", range(30))
def test_sqlite_file_with_random_damage_is_refused_or_whole(tmp_path: Path, seed: int) -> None:
    """Whatever bytes are changed, the outcome is a refusal or a database that is sound."""
    rng = random.Random(seed)
    data = bytearray(_create(tmp_path / "in.db", page_size=512).read_bytes())
    for _ in range(rng.randrange(1, 20)):
        data[rng.randrange(16, len(data))] = rng.randrange(256)
    (tmp_path / "in.db").write_bytes(data)
    try:
        _convert(tmp_path / "in.db")
    except Refusal as refusal:
        assert refusal.code in ("invalid-file", "no-rows", "encrypted-file")  # noqa: PT017
    else:
        assert _query(tmp_path / "out.db", "PRAGMA quick_check") == [("ok",)]
