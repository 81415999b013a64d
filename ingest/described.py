"""What uploaders say about a database, held against what the database is.

What would make pages fail is refused; what Datasette only would not show is a warning.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headrace.metadata import check_metadata, patch_metadata, point, refuse
from headrace.metadata_text import Said, find_section
from headrace.names import INTERNAL_TABLES, quote_identifier
from ingest.nursery import bare_environment
from ingest.outcome import is_sqlite
from ingest.queries import NO_FUNCTION, try_apart

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from headrace.receipt import Receipt

# Lists, or single names, of columns in what is said of a table.
_ONE_COLUMN = ("sort", "sort_desc", "label_column")
_COLUMNS = ("columns", "units", "sortable_columns")


def brought(
    packed: dict[str, Any] | None, asked: dict[str, Any] | None, database: str
) -> Said | None:
    """Give what an upload says about its database; None: it says nothing.

    Args:
        packed: The metadata file that lay in it, not checked; None without one.
        asked: What its request says, checked: that wins.
        database: Its name.

    Raises:
        Refusal: ``invalid-metadata``.
    """
    if packed is None:
        return None if asked is None else Said(metadata=asked)
    said = find_section(packed, database)
    if asked is None:
        return said
    return replace(said, metadata=patch_metadata(said.metadata, asked))


def described(receipt: Receipt, before: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give what is said about a database after an upload.

    A whole database that takes the place of another brings all that is said of it along; else it is
    added to what is said already. An upload that says nothing leaves that as it is.

    Args:
        receipt: Of the upload.
        before: What is said until then.

    Raises:
        Refusal: ``invalid-metadata``: it is too much together.
    """
    if receipt.metadata is None:
        return before
    if is_sqlite(receipt.format) and receipt.mode == "replace":
        return receipt.metadata
    return check_metadata(patch_metadata(before, receipt.metadata))


async def check_described(
    metadata: Mapping[str, Any], databases: Sequence[Path], scratch: Path
) -> tuple[str, ...]:
    """Hold what is said against the tables; called where nobody changes them.

    Args:
        metadata: What is said, checked by itself.
        databases: Files that hold the tables, the one that decides first.
        scratch: The folder that a process may call its home.

    Returns:
        What Datasette will not show, a sentence each.

    Raises:
        Refusal: ``invalid-metadata``.
    """
    columns = await asyncio.to_thread(_read_columns, databases)
    warnings = [*_name_missing(metadata, columns)]
    queries = dict(_queries(metadata))
    for name in metadata.get("queries", {}):
        if name.lower() in {table.lower() for table in columns}:
            raise refuse(point("/queries", name), "a table has that name, and would be hidden")
    units = dict(_units(metadata))
    environment = {**bare_environment(scratch), "PYTHONDONTWRITEBYTECODE": "1"}
    wrong_queries, wrong_units = await _try(queries, units, databases, environment)
    for pointer, fault in zip(queries, wrong_queries, strict=True):
        if fault is not None and fault.startswith(NO_FUNCTION):
            warnings.append(f"{pointer}: {fault} here: the readers need a plugin that has it")
        elif fault is not None:
            raise refuse(pointer, fault)
    for pointer, fault in zip(units, wrong_units, strict=True):
        if fault is not None:
            raise refuse(pointer, fault)
    return tuple(warnings)


async def _try(
    queries: Mapping[str, str],
    units: Mapping[str, str],
    databases: Sequence[Path],
    environment: Mapping[str, str],
) -> tuple[list[str | None], list[str | None]]:
    """Try all, with either database as the one that decides: a table may be new in one of them."""
    sql = list(queries.values())
    faults, wrong_units = await try_apart(sql, list(units.values()), databases, environment)
    if len(databases) > 1 and any(faults):
        again, _ = await try_apart(sql, [], databases[::-1], environment)
        faults = [one and other for one, other in zip(faults, again, strict=True)]
    return faults, wrong_units


def _queries(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, query in metadata.get("queries", {}).items():
        pointer = point("/queries", name)
        yield (pointer, query) if isinstance(query, str) else (f"{pointer}/sql", query["sql"])


def _units(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for table, said in metadata.get("tables", {}).items():
        for column, unit in said.get("units", {}).items():
            yield point(f"{point('/tables', table)}/units", column), unit


def _name_missing(metadata: Mapping[str, Any], columns: Mapping[str, set[str]]) -> Iterator[str]:
    """Say which tables and columns are named, and are not there."""
    for table, said in metadata.get("tables", {}).items():
        if table not in columns:
            yield f"the metadata names a table that is not there: {table!r}"
            continue
        named = {said[key] for key in _ONE_COLUMN if key in said}
        named |= {column for key in _COLUMNS for column in said.get(key, ())}
        for facet in said.get("facets", ()):
            named |= set(facet.values()) if isinstance(facet, dict) else {facet}
        if missing := sorted(named - columns[table] - {"rowid"}):
            some = ", ".join(map(repr, missing[:10]))
            yield f"the metadata of {table!r} names columns that are not there: {some}"


def _read_columns(databases: Sequence[Path]) -> dict[str, set[str]]:
    """Give the columns of every table and view that people see."""
    found: dict[str, set[str]] = {}
    for path in databases:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            names = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')"
            for (name,) in db.execute(names).fetchall():
                if name in INTERNAL_TABLES:
                    continue
                try:
                    rows = db.execute(f"PRAGMA table_xinfo({quote_identifier(name)})").fetchall()
                except sqlite3.Error:  # a view of what is not there
                    continue
                found.setdefault(name, set()).update(str(row[1]) for row in rows)
    return found
