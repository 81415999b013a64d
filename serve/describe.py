"""What Datasette would else find by reading a database: described once for each slot.

Light to import, because the reader itself never runs Datasette.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from headrace.errors import WorkerError
from headrace.generation import Cut, format_txid
from headrace.names import quote_identifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from headrace.generation import State

COUNT_AT_MOST = 10_000  # rows of a table that the generation does not count


class Descriptions:
    """Describes slots, and remembers those of the newest generation asked for.

    A switch opens only the files of the databases that changed.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[Cut, dict[str, Any]]] = {}

    async def describe(
        self, state: State, slots: Mapping[str, Path]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Describe every database of a generation.

        Raises:
            WorkerError: A slot cannot be read.
        """
        unknown = [name for name, cut in state.databases.items() if not self._knows(name, cut)]
        if unknown:
            try:
                found = await asyncio.to_thread(
                    lambda: [_describe_slot(state.databases[name], slots[name]) for name in unknown]
                )
            except sqlite3.Error as exc:
                raise WorkerError(f"cannot read a slot: {exc}") from exc
            for name, description in zip(unknown, found, strict=True):
                self._known[name] = (state.databases[name], description)
        if len(self._known) > len(state.databases):
            self._known = {name: self._known[name] for name in state.databases}
        return {name: self._known[name][1] for name in state.databases}

    def _knows(self, name: str, cut: Cut) -> bool:
        known = self._known.get(name)
        return known is not None and (known[0] is cut or known[0] == cut)


def _describe_slot(cut: Cut, slot: Path) -> dict[str, Any]:
    """Give its hash, its size and its counts.

    The hash stands for the content and decides about ETags; lineage and TXID do so as well.
    """
    content = f"{cut.lineage}/{format_txid(cut.txid)}"
    return {
        "hash": hashlib.sha256(content.encode()).hexdigest(),
        "size": cut.pages * cut.page_size,
        "file": slot.name,
        "tables": {name: {"count": rows} for name, rows in _count_tables(cut, slot).items()},
        "columns": _read_columns(slot, cut.metadata.get("tables", {})),
    }


def _read_columns(slot: Path, tables: Iterable[str]) -> dict[str, dict[str, str]]:
    """Give the columns, with their declared types, of those tables that are there."""
    if not tables:
        return {}
    with closing(sqlite3.connect(f"file:{slot}?immutable=1", uri=True)) as db:
        query = "SELECT name, type FROM pragma_table_xinfo(?)"
        found = {table: dict(db.execute(query, (table,)).fetchall()) for table in tables}
    return {table: columns for table, columns in found.items() if columns}


def _count_tables(cut: Cut, slot: Path) -> dict[str, int]:
    """Give the rows of each table in the order of the schema, as Datasette does.

    Tables that the generation does not count (internal ones, those behind a full-text index) are
    hidden ones. Datasette shows no counts at all if one is missing, so they are counted, up to a
    limit.
    """
    with closing(sqlite3.connect(f"file:{slot}?immutable=1", uri=True)) as db:
        names = [
            name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return {
            name: cut.tables[name] if name in cut.tables else _count(db, name) for name in names
        }


def _count(db: sqlite3.Connection, table: str) -> int:
    sql = f"SELECT count(*) FROM (SELECT 1 FROM {quote_identifier(table)} LIMIT {COUNT_AT_MOST})"  # noqa: S608
    try:
        return int(db.execute(sql).fetchone()[0])
    except sqlite3.Error:  # a virtual table whose module is not here
        return 0
