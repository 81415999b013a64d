"""What is special about Datasette 0.65: metadata in memory, units, and what its pages cost.

What depends on all databases is avoided, because Datasette itself pays it at each request. With
1,000 databases on two cores, 0.65.5 took 0.12 s for a small table's page and 24 s for the home
page; its causes were

- ``PRAGMA schema_version`` of every database at every request. A slot never changes while it is
  attached, so here it is read once after each dressing. Other databases are asked as before.
- a deep copy of all metadata for every table that is listed, where only one database's is read.

And the first page of a worker took 3 s of CPU time, since a schema goes to the internal
database in eight steps, each from one thread to another and back. Here those of all slots that are
new are read in one step and written in another: 0.5 s.

Source: datasette 0.65.5, ``datasette/app.py``, ``_refresh_schemas``, ``_table_permission_allows``;
``utils/internal_db.py``, whose tables they are.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from datasette.utils.internal_db import init_internal_db, populate_schema_tables

from serve.dressing import DressedDatasette
from serve.published import names_units
from serve.slot_database import SlotDatabase
from serve.units import load_units

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from datasette.database import Database
    from datasette.utils.sqlite import sqlite3

    from serve.change import Change

    Schema = dict[str, list[tuple[Any, ...]]]  # rows by internal table

_INTERNAL_TABLES = ("databases", "tables", "columns", "indexes", "foreign_keys")
# What is in them of one database, after its name.
_SCHEMA = {
    "tables": "SELECT name, rootpage, sql FROM sqlite_master WHERE type = 'table'",
    **{
        table: f"SELECT m.name, p.* FROM sqlite_master m, {pragma}(m.name) p WHERE m.type = 'table'"  # noqa: S608
        for table, pragma in (
            ("columns", "pragma_table_xinfo"),
            ("indexes", "pragma_index_list"),
            ("foreign_keys", "pragma_foreign_key_list"),
        )
    },
}


class Datasette0(DressedDatasette):
    """Datasette 0.65, dressed."""

    @property
    def described(self) -> Iterable[str]:
        """The names of the databases that something is said about."""
        sections: dict[str, Any] = self._metadata_local.get("databases") or {}
        return sections

    def dress(self, change: Change) -> None:
        """Change the databases, and have units ready where some are said."""
        super().dress(change)
        if any(names_units(each.cut.metadata) for each in change.databases.values()):
            load_units()

    def say(self, metadata: dict[str, Any]) -> None:
        """Show this metadata from now on."""
        self._metadata_local = metadata

    async def _refresh_schemas(self) -> None:
        """Keep the internal database up to date, for what can have changed."""
        internal = self.databases["_internal"]
        if not self.internal_db_created:
            await init_internal_db(internal)
            self.internal_db_created = True
        for name in list(self._gone):
            if not isinstance(self.databases.get(name), SlotDatabase):
                await internal.execute_write_fn(partial(_forget, name))
            self._gone.discard(name)
        slots = {name: self.databases.get(name) for name in self._unread}
        unread = [slot for slot in slots.values() if isinstance(slot, SlotDatabase)]
        if unread:
            schemas = await self._read_schemas(unread)
            await internal.execute_write_fn(partial(_write_schemas, schemas))
        for slot in unread:
            if self.databases.get(slot.name) is slot:
                self._unread.discard(slot.name)
        for name, database in self.databases.items():
            if not isinstance(database, SlotDatabase):
                await _refresh_schema(internal, name, database)

    async def _read_schemas(self, slots: list[SlotDatabase]) -> list[Schema]:
        def read() -> list[Schema]:
            return [slot.execute_here(partial(_read_schema, slot)) for slot in slots]

        if self.executor is None:
            return read()
        return await asyncio.get_running_loop().run_in_executor(self.executor, read)

    def _metadata_sources(self, key: str, database: str | None, table: str | None) -> Iterator[Any]:
        """Give all metadata; for the tables of one database only what is said about it."""
        *plugins, local = super()._metadata_sources(key, database, table)
        yield from plugins
        if key == "tables" and database is not None:
            sections = local.get("databases") or {}
            section = {database: sections[database]} if database in sections else {}
            local = {**local, "databases": section}
        yield local


def _read_schema(slot: SlotDatabase, conn: sqlite3.Connection) -> Schema:
    """Give the rows of a slot in each internal table."""
    (version,) = conn.execute("PRAGMA schema_version").fetchone()
    schema = {
        table: [(slot.name, *row) for row in conn.execute(query)]
        for table, query in _SCHEMA.items()
    }
    return {"databases": [(slot.name, str(slot.path), False, version)], **schema}


def _write_schemas(schemas: list[Schema], conn: sqlite3.Connection) -> None:
    """Put schemas in the place of those that databases of their names had."""
    with conn:
        for schema in schemas:
            for table, rows in schema.items():
                conn.execute(
                    f"DELETE FROM {table} WHERE database_name = ?",  # noqa: S608
                    [schema["databases"][0][0]],
                )
                if rows:
                    values = ", ".join("?" * len(rows[0]))
                    conn.executemany(f"INSERT INTO {table} VALUES ({values})", rows)  # noqa: S608


async def _refresh_schema(internal: Database, name: str, database: Database) -> None:
    version = (await database.execute("PRAGMA schema_version")).first()[0]
    known = await internal.execute(
        "SELECT schema_version FROM databases WHERE database_name = ?", [name]
    )
    if known.rows and known.rows[0][0] == version:
        return
    await internal.execute_write(
        "INSERT OR REPLACE INTO databases (database_name, path, is_memory, schema_version) "
        "VALUES (?, ?, ?, ?)",
        [name, str(database.path), database.is_memory, version],
    )
    await populate_schema_tables(internal, database)


def _forget(name: str, conn: sqlite3.Connection) -> None:
    with conn:
        for table in _INTERNAL_TABLES:
            conn.execute(f"DELETE FROM {table} WHERE database_name = ?", [name])  # noqa: S608
