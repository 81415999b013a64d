"""What is special about Datasette 1.0: metadata in the internal database, and configuration apart.

What is said about a database stands in two places there: titles and descriptions in tables of the
internal database, and what changes a page or gives a right (sorting, facets, queries, permissions)
in the configuration. Here both are made of one section in the form of 0.65, which is how it is
published, and how a ``metadata.json`` of before has it.

Source: datasette 1.0a41, ``app.py``, ``apply_metadata_json`` and ``_refresh_schemas``;
``utils/__init__.py``, ``move_plugins_and_allow`` and ``move_table_config``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from datasette.utils import move_plugins_and_allow, move_table_config
from datasette.utils.internal_db import init_internal_db

from headrace.names import INTERNAL_TABLES
from serve.dressing import DressedDatasette
from serve.published import prefer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from datasette.utils.sqlite import sqlite3

    Row = tuple[str, ...]  # of one of the tables below; its length says which

_TABLES = {
    2: ("metadata_instance", ("key", "value")),
    3: ("metadata_databases", ("database_name", "key", "value")),
    4: ("metadata_resources", ("database_name", "resource_name", "key", "value")),
    5: ("metadata_columns", ("database_name", "resource_name", "column_name", "key", "value")),
}
# Datasette itself moves only `plugins` and `allow`.
_CONFIGURATION = frozenset({"allow_sql", "permissions", "queries"})


class Datasette1(DressedDatasette):
    """Datasette 1.0, dressed.

    Args:
        datasette_dir: The user's configuration directory.
        secret: Signs cookies.
        internal: A file for the internal database; it is removed with the worker's socket.
        read_in: Where its pages are read, to be said on them.
    """

    def __init__(
        self, datasette_dir: Path | None, secret: str, internal: Path, read_in: str | None
    ) -> None:
        self._parted: dict[str, tuple[Any, frozenset[Row], dict[str, Any]]] = {}  # by database
        self._rows: frozenset[Row] = frozenset()  # of metadata, as they shall be
        self._written: frozenset[Row] = frozenset()  # as they are in the internal database
        super().__init__(datasette_dir, secret, read_in, internal=str(internal))
        _, of_metadata = _part(self._user_metadata)
        self._user_config = prefer(self.config, of_metadata)

    @property
    def described(self) -> Iterable[str]:
        """The names of the databases that something is said about."""
        sections: dict[str, Any] = self.config["databases"]
        return sections

    def say(self, metadata: dict[str, Any]) -> None:
        """Show this metadata from now on."""
        parted = {
            name: self._part_database(name, section)
            for name, section in metadata["databases"].items()
        }
        said, _ = _part({key: value for key, value in metadata.items() if key != "databases"})
        instance = ((key, _text(value)) for key, value in said.items())
        self._rows = frozenset(instance).union(*(rows for _, rows, _ in parted.values()))
        mine = self._user_config.get("databases") or {}
        configured = {
            name: prefer(mine.get(name) or {}, config) for name, (_, _, config) in parted.items()
        }
        self.config = {**self._user_config, "databases": {**mine, **configured}}
        self._parted = parted

    def _part_database(
        self, name: str, section: dict[str, Any]
    ) -> tuple[Any, frozenset[Row], dict[str, Any]]:
        known = self._parted.get(name)
        if known is not None and (known[0] is section or known[0] == section):
            return known
        said, config = _part(section)
        rest, moved = move_table_config({"databases": {name: said}}, {"databases": {name: config}})
        rows = _database_rows(name, (rest.get("databases") or {}).get(name) or {})
        return section, frozenset(rows), moved["databases"][name]

    async def settle(self) -> None:
        """Bring the internal database up to date: lists of tables, and rights, come from there."""
        async with self._refresh_schemas_lock:
            await self._refresh_schemas()
        await self._save_queries_from_config()

    async def _refresh_schemas(self) -> None:
        """Have new schemas read, also those that have the same version as the ones before."""
        internal = self.get_internal_database()
        if not self.internal_db_created:
            await init_internal_db(internal)
            self.internal_db_created = True
        changed, rows = self._unread | self._gone, self._rows
        self._unread, self._gone = set(), set()
        if changed or rows != self._written:
            old, new = self._written - rows, rows - self._written
            await internal.execute_write_fn(_write(changed, old, new))
            self._written = rows
        await super()._refresh_schemas()
        if changed:
            await internal.execute_write_fn(_hide_internal_tables)


def _part(document: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give what is said, and what configures; either may be a part of the whole only."""
    said = {key: value for key, value in document.items() if key not in _CONFIGURATION}
    said, config = move_plugins_and_allow(said, {})
    return said, {**config, **{key: document[key] for key in _CONFIGURATION & document.keys()}}


def _database_rows(name: str, section: Mapping[str, Any]) -> Iterator[Row]:
    tables = section.get("tables") or {}
    for key, value in section.items():
        if key != "tables":
            yield name, key, _text(value)
    for table, said in tables.items():
        for key, value in said.items():
            if key != "columns":
                yield name, table, key, _text(value)
        for column, description in (said.get("columns") or {}).items():
            yield name, table, column, "description", _text(description)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _write(
    changed: set[str], old: frozenset[Row], new: frozenset[Row]
) -> Callable[[sqlite3.Connection], None]:
    """Give what brings the internal database up to date, in one transaction."""

    def write(conn: sqlite3.Connection) -> None:
        for name in changed:
            conn.execute("DELETE FROM catalog_databases WHERE database_name = ?", [name])
        for row in old:
            table, columns = _TABLES[len(row)]
            same = " AND ".join(f"{column} = ?" for column in columns)
            conn.execute(f"DELETE FROM {table} WHERE {same}", row)  # noqa: S608
        for row in new:
            table, columns = _TABLES[len(row)]
            values = ", ".join("?" * len(row))
            conn.execute(f"INSERT OR REPLACE INTO {table} VALUES ({values})", row)  # noqa: S608

    return write


def _hide_internal_tables(conn: sqlite3.Connection) -> None:
    """Leave them out of all lists; 1.0 begins people's SQL with the first table, hidden or not."""
    for table in ("catalog_tables", "catalog_columns", "catalog_indexes"):
        for name in INTERNAL_TABLES:
            conn.execute(f"DELETE FROM {table} WHERE table_name = ?", [name])  # noqa: S608
