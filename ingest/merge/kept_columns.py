"""Columns of a live table that a file does not have: for previews, before anything is merged."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from ingest.merge.columns import find_missing
from ingest.merge.lookups import find_looked_up
from ingest.merge.schema import find_table

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ingest.converters import TableRows


def find_kept_columns(
    live: Path, staging: Path, tables: Iterable[TableRows], *, mode: str
) -> dict[str, list[str]]:
    """Find the columns that stay, and get no value from a file's rows.

    Args:
        live: The live database; both are only read.
        staging: What became of the file.
        tables: Its tables.
        mode: ``replace``, ``append`` or ``upsert``.

    Returns:
        Names of columns, by the name of the table; nothing if the databases cannot be compared.
    """
    try:
        with closing(sqlite3.connect(f"{live.as_uri()}?mode=ro", uri=True)) as db:
            db.execute("PRAGMA trusted_schema = OFF")
            db.execute("ATTACH ? AS staging", (f"{staging.as_uri()}?mode=ro&immutable=1",))
            return {each.name: _find(db, each, mode) for each in tables}
    except sqlite3.Error:  # the live one was replaced just now, or has another encoding
        return {}


def _find(db: sqlite3.Connection, of_file: TableRows, mode: str) -> list[str]:
    table = find_table(db, "main", of_file.name)
    staged = find_table(db, "staging", of_file.name)
    unwanted = of_file.unwanted if mode == "replace" else ()
    if table is None or staged is None or unwanted is None:
        return []
    gone = {name.lower() for name in unwanted}
    filled = {each.column for each in find_looked_up(db, table, staged)}
    missing = [each.name for each in find_missing(table, staged)]
    return [name for name in missing if name.lower() not in gone and name not in filled]
