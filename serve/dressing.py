"""A Datasette that is given its databases while it runs: dressed, and dressed again.

A fresh worker is dressed once, a spare again at the switch it is used for; both go through
``dress``, so both end equal. What depends on all databases is avoided, because Datasette itself
pays it at each request. With 1,000 databases on two cores, 0.65.5 took 0.12 s for a small table's
page and 24 s for the home page; its causes were

- ``PRAGMA schema_version`` of every database at every request. A slot never changes while it is
  attached, so here it is read once after each dressing. Other databases are asked as before.
- a deep copy of all metadata for every table that is listed, where only one database's is read.

Source: datasette 0.65.5, ``datasette/app.py``, ``_refresh_schemas``, ``_table_permission_allows``.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from datasette.app import Datasette
from datasette.utils import parse_metadata
from datasette.utils.internal_db import init_internal_db, populate_schema_tables

from serve.metadata import assemble_metadata, describe_database
from serve.provenance import Provenance
from serve.published import names_units, showable
from serve.slot_database import SlotConnections, SlotDatabase
from serve.templates import TEMPLATES
from serve.units import load_units

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from datasette.database import Database
    from datasette.utils.sqlite import sqlite3

    from serve.change import Change

METADATA_FILES = ("metadata.json", "metadata.yaml", "metadata.yml")  # as Datasette orders them
_INTERNAL_TABLES = ("databases", "tables", "columns", "indexes", "foreign_keys")


class DressedDatasette(Datasette):  # type: ignore[misc] # Datasette has no types
    """Serves the slots it is dressed in, and whatever the user's directory adds.

    Databases in the user's directory are served as Datasette would; one that has the name of a
    published database gives way to it.
    """

    databases: Mapping[str, Database]
    inspect_data: dict[str, Any] | None
    internal_db_created: bool

    def __init__(self, datasette_dir: Path | None, secret: str, read_in: str | None = None) -> None:
        self._user_metadata = read_user_metadata(datasette_dir)
        self._connections = SlotConnections()
        self._slots: dict[str, SlotDatabase] = {}
        self._sections: dict[str, dict[str, Any]] = {}
        self._inspected: dict[str, Any] = {}
        self._unread: set[str] = set()  # their schemas are not in the internal database
        self._gone: set[str] = set()  # their schemas are still in it
        super().__init__(files=[], config_dir=datasette_dir, secret=secret)
        self.jinja_env.bytecode_cache = TEMPLATES
        self._own = {name: db for name, db in self.databases.items() if name != "_memory"}
        self._own_inspected = self.inspect_data or {}
        self.provenance = Provenance(read_in=read_in)

    @property
    def published(self) -> tuple[str, ...]:
        """The names of the databases that Headrace has published, in their order."""
        return tuple(self._slots)

    def dress(self, change: Change) -> None:
        """Change the databases; at a cost that grows with the change.

        Raises:
            WorkerError: The user's metadata has another shape than Datasette's.
        """
        slots, sections = self._slots.copy(), self._sections.copy()
        inspected, cuts = self._inspected.copy(), dict(self.provenance.cuts)
        user_sections = assemble_metadata(self._user_metadata, change, {})["databases"]
        for name in change.removed:
            for each in (slots, sections, inspected, cuts):
                each.pop(name, None)
        for name, database in change.databases.items():
            slots[name] = SlotDatabase(self, name, database.slot, self._connections)
            columns = database.inspected.get("columns", {})
            said = showable(database.cut.metadata, database.cut.tables, columns)
            user_section = user_sections.get(name) or {}
            sections[name] = describe_database(user_section, name, database.cut, said)
            inspected[name], cuts[name] = database.inspected, database.cut
            if names_units(said):
                load_units()
        if change.order is not None:
            slots = {name: slots[name] for name in change.order}
            sections = {name: sections[name] for name in change.order}
        self._metadata_local = assemble_metadata(self._user_metadata, change, sections)
        self.inspect_data = {**self._own_inspected, **inspected}
        self._sections, self._inspected = sections, inspected
        self.provenance = replace(
            self.provenance, generation=change.number, published_at=change.created_at, cuts=cuts
        )
        self._unread |= change.databases.keys()
        self._gone |= set(change.removed)
        self._attach(slots)

    def let_go(self) -> None:
        """Hold no slot open, and end what still reads one."""
        self._attach(
            {
                name: SlotDatabase(self, name, slot.path, self._connections)
                for name, slot in self._slots.items()
            }
        )

    def _attach(self, slots: dict[str, SlotDatabase]) -> None:
        before, self._slots = self._slots, slots
        own = {name: db for name, db in self._own.items() if name not in slots}
        self.databases = OrderedDict(own | slots)
        for name, slot in before.items():
            if slots.get(name) is not slot:
                slot.close()

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


def read_user_metadata(folder: Path | None) -> Any:
    """Read the metadata of a configuration directory, ``{}`` without one."""
    for name in METADATA_FILES:
        if folder is not None and (folder / name).exists():
            return parse_metadata((folder / name).read_text())
    return {}


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
