"""Datasette 0.65's internal database, which is filled here in another way than its own."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from datasette.app import Datasette

from headrace.generation import Cut, State
from serve.change import NOTHING, Holding, find_change
from serve.describe import Descriptions
from serve.dressing import make_datasette

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

TABLES = ("databases", "tables", "columns", "indexes", "foreign_keys")
SCHEMA = """
CREATE TABLE shop (id INTEGER PRIMARY KEY, name TEXT NOT NULL DEFAULT 'x', loud AS (upper(name)));
CREATE TABLE "odd ]""name" (a, b REFERENCES shop(id) ON DELETE CASCADE, PRIMARY KEY (a, b))
  WITHOUT ROWID;
CREATE INDEX some ON "odd ]""name" (b) WHERE b > 1;
CREATE UNIQUE INDEX one ON shop (name, id);
CREATE VIRTUAL TABLE found USING fts5 (body);
CREATE VIEW seen AS SELECT * FROM shop;
"""


async def dressed(folder: Path, files: dict[str, Path]) -> Any:
    """Give a Datasette of ours that is dressed in some files, and was asked for nothing yet."""
    cuts = {
        name: Cut(
            lineage="0" * 16,
            txid=1,
            page_size=4096,
            pages=1,
            tables={},
            updated_at=datetime(2026, 11, 22, tzinfo=UTC),
            source=None,
        )
        for name in files
    }
    holding = Holding(state=State(number=1, databases=cuts), slots=files)
    described = await Descriptions().describe(holding.state, files)
    datasette = make_datasette(None, "secret", folder / "internal.db", None)
    datasette.dress(find_change(NOTHING, holding, described))
    return datasette


async def read_internal(datasette: Any, name: str) -> dict[str, list[tuple[Any, ...]]]:
    """Give what the internal database says of a database."""
    internal = datasette.databases["_internal"]
    found = {}
    for table in TABLES:
        query = f"SELECT * FROM {table} WHERE database_name = ?"
        found[table] = sorted(map(tuple, await internal.execute(query, [name])), key=repr)
    return found


def make(path: Path, script: str) -> Path:
    """Make a SQLite file."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(script)
    return path


async def test_schema_of_a_slot_is_what_datasette_itself_would_read(tmp_path: Path) -> None:
    """Plugins that read the internal database find no difference."""
    script = SCHEMA.replace("]", "")  # with that, Datasette 0.65 itself fails
    path = make(tmp_path / "shop.db", script)
    own = Datasette([], immutables=[str(path)])
    await own.refresh_schemas()
    ours = await dressed(tmp_path, {"shop": path})
    await ours.refresh_schemas()

    found = await read_internal(ours, "shop")
    assert found == await read_internal(own, "shop")
    assert all(found.values())


async def test_schemas_of_many_slots_are_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a fresh worker's first page takes hardly grows with the databases."""
    files = {f"d{n}": make(tmp_path / f"{n}.db", SCHEMA) for n in range(5)}
    datasette = await dressed(tmp_path, files)
    internal = datasette.databases["_internal"]
    writes = 0
    write = internal.execute_write_fn

    async def count(*arguments: Any, **options: Any) -> Any:
        nonlocal writes
        writes += 1
        return await write(*arguments, **options)

    monkeypatch.setattr(internal, "execute_write_fn", count)
    await datasette.refresh_schemas()

    of_its_own = 2  # it makes the tables, and has its own schema in them
    assert writes <= of_its_own + 8
    for name in files:
        assert all((await read_internal(datasette, name)).values())
    writes = 0
    await datasette.refresh_schemas()
    assert writes == 0
