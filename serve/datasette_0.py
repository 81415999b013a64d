"""What is special about Datasette 0.65: metadata in memory, units, and what its pages cost.

What depends on all databases is avoided, because Datasette itself pays it at each request. With
1,000 databases on two cores, 0.65.5 took 0.12 s for a small table's page and 24 s for the home
page; its causes were

- ``PRAGMA schema_version`` of every database at every request. A slot never changes while it is
  attached, so here it is read once after each dressing. Other databases are asked as before.
- a deep copy of all metadata for every table that is listed, where only one database's is read.

Source: datasette 0.65.5, ``datasette/app.py``, ``_refresh_schemas``, ``_table_permission_allows``.
"""

from __future__ import annotations

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

_INTERNAL_TABLES = ("databases", "tables", "columns", "indexes", "foreign_keys")


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
        for name, database in self.databases.items():
            is_slot = isinstance(database, SlotDatabase)
            if is_slot and name not in self._unread:
                continue
            await _refresh_schema(internal, name, database, anew=is_slot)
            if self.databases.get(name) is database:
                self._unread.discard(name)

    def _metadata_sources(self, key: str, database: str | None, table: str | None) -> Iterator[Any]:
        """Give all metadata; for the tables of one database only what is said about it."""
        *plugins, local = super()._metadata_sources(key, database, table)
        yield from plugins
        if key == "tables" and database is not None:
            sections = local.get("databases") or {}
            section = {database: sections[database]} if database in sections else {}
            local = {**local, "databases": section}
        yield local


async def _refresh_schema(internal: Database, name: str, database: Database, *, anew: bool) -> None:
    version = (await database.execute("PRAGMA schema_version")).first()[0]
    known = await internal.execute(
        "SELECT schema_version FROM databases WHERE database_name = ?", [name]
    )
    if not anew and known.rows and known.rows[0][0] == version:
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
