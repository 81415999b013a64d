"""Shape a staging database as its uploader wishes: columns, types, keys, lookups, indexes, search.

By sqlite-utils, whose ``transform`` and ``extract`` are SQL. The order is fixed: ``columns``,
``types``, ``strict`` and ``pk`` rebuild a table once, then come ``extract``, ``index`` and ``fts``.
``columns`` and ``types`` speak of columns as the file names them, all others as the table does.
"""

from __future__ import annotations

import importlib
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from headrace.errors import Refusal
from headrace.names import check_table_name, without_brackets
from ingest.converters import REJECTS, Converted, TableRows
from ingest.converters.matching import columns_of, match_tables, refuse_option
from ingest.converters.rebuild import check_plain, rebuild

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from headrace.wishes import Wishes

SHARED_COLUMN = "value"  # of a lookup table for several columns
CACHE_KIB = 64 * 1024
# A staging database is thrown away when anything fails, so nothing in it needs to be safe.
_PRAGMAS = (
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "foreign_keys = OFF",
    "journal_mode = OFF",
    "synchronous = OFF",
    "secure_delete = OFF",
    "locking_mode = NORMAL",
    f"cache_size = -{CACHE_KIB}",
)


def shape(path: Path, converted: Converted, wishes: Wishes) -> Converted:
    """Shape the tables of a staging database.

    With several tables, each wish is for those that have all the columns that it names.

    Args:
        path: The staging database.
        converted: What the converter made.
        wishes: What is asked for; if nothing is, the database is not even opened.

    Returns:
        What there is now: ``extract`` adds tables.

    Raises:
        Refusal: ``invalid-option`` (no table has such columns, or it cannot be had so),
            ``wrong-type``, ``duplicate-key``.
    """
    if not is_shaped(wishes):
        return converted
    names = {table.name for table in converted.tables}
    tables = [
        table.name
        for table in converted.tables
        if not (table.name.endswith(REJECTS) and table.name.removesuffix(REJECTS) in names)
    ]
    with closing(_connect(path)) as connection:
        # Imported only here: that takes longer than a small file does.
        db = importlib.import_module("sqlite_utils").Database(connection)
        columns = {table: columns_of(connection, table) for table in tables}
        picked = match_tables(columns, "columns", list(wishes.columns))
        rebuilt = rebuild(db, path, tables, wishes)
        extracted = _extract(db, tables, wishes)
        if rebuilt or extracted.lookups:
            connection.execute("VACUUM")  # the pages of the old tables; before search knows rowids
        _index(db, tables, wishes, extracted)
        _enable_search(db, tables, wishes, extracted)
        lookups = [TableRows(name=name, rows=db[name].count) for name in extracted.lookups]
    shaped = [
        replace(each, unwanted=None if each.name in picked else extracted.of(each.name))
        for each in converted.tables
    ]
    return replace(converted, tables=(*shaped, *lookups))


def is_shaped(wishes: Wishes) -> bool:
    """Say whether there is anything to do."""
    rebuilds = wishes.columns or wishes.types or wishes.strict or wishes.pk
    return bool(rebuilds or wishes.extract or wishes.index or wishes.fts)


def _connect(path: Path) -> sqlite3.Connection:
    """Open the staging database."""
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    return connection


@dataclass(slots=True, kw_only=True)
class _Extracted:
    """What ``extract`` has moved.

    Attributes:
        lookups: The tables that it made.
        moved: Columns that now refer to one, by table and former name.
    """

    lookups: list[str] = field(default_factory=list)
    moved: dict[tuple[str, str], str] = field(default_factory=dict)

    def of(self, table: str) -> tuple[str, ...]:
        """Give the columns that a table has no more."""
        return tuple(name for name_of, name in self.moved if name_of == table)


def _extract(db: Any, tables: Sequence[str], wishes: Wishes) -> _Extracted:
    """Move columns to tables of their own, and refer to those."""
    extracted = _Extracted()
    columns = {table: columns_of(db.conn, table) for table in tables}
    users = Counter(lookup.lower() for lookup in wishes.extract.values())
    for wanted, lookup in wishes.extract.items():
        _check_lookup_name(db, lookup, extracted)
        shared = users[lookup.lower()] > 1
        for table, (column,) in match_tables(columns, "extract", [wanted]).items():
            check_plain(db, table, "extract")
            if column in db[table].pks:
                raise refuse_option("extract", f"{column!r} is part of the key of {table!r}")
            reference = f"{column}_id" if shared else f"{lookup}_id"
            if reference.lower() in {name.lower() for name in columns_of(db.conn, table)}:
                raise refuse_option("extract", f"{table!r} has a column {reference!r} already")
            own = column.lower() == "id" or shared
            errors = importlib.import_module("sqlite_utils.db")
            try:
                db[table].extract(
                    column, lookup, reference, rename={column: SHARED_COLUMN} if own else {}
                )
            except (errors.InvalidColumns, errors.TransformError) as exc:
                raise refuse_option("extract", str(exc)) from exc
            extracted.moved[table, column] = reference
            if lookup not in extracted.lookups:
                extracted.lookups.append(lookup)
    return extracted


def _check_lookup_name(db: Any, lookup: str, extracted: _Extracted) -> None:
    """Refuse a name for a lookup table that is taken, or that no table can have."""
    try:
        check_table_name(lookup)
    except Refusal as exc:
        raise refuse_option("extract", exc.detail) from exc
    if lookup != without_brackets(lookup):
        raise refuse_option("extract", f"{lookup!r} has brackets, which Datasette cannot show")
    if lookup not in extracted.lookups and _is_taken(db, lookup):
        raise refuse_option("extract", f"there is a table {lookup!r} already")


def _is_taken(db: Any, name: str) -> bool:
    """Say whether there is a table, view, index or trigger of this name."""
    query = "SELECT 1 FROM sqlite_schema WHERE name = ? COLLATE NOCASE"
    return db.execute(query, [name]).fetchone() is not None


def _index(db: Any, tables: Sequence[str], wishes: Wishes, extracted: _Extracted) -> None:
    """Make indexes; one on a column that was extracted is on the reference."""
    columns = _with_moved(db, tables, extracted)
    for wanted in wishes.index:
        for table, names in match_tables(columns, "index", wanted).items():
            here = [extracted.moved.get((table, name), name) for name in names]
            db[table].create_index(here, find_unique_name=True)


def _enable_search(db: Any, tables: Sequence[str], wishes: Wishes, extracted: _Extracted) -> None:
    """Make full-text indexes, kept up to date by triggers."""
    columns = _with_moved(db, tables, extracted)
    for table, names in match_tables(columns, "fts", wishes.fts).items():
        moved = [name for name in names if (table, name) in extracted.moved]
        if moved:
            raise refuse_option("fts", f"{moved[0]!r} is extracted to another table")
        beside = [f"{table}{ending}" for ending in ("_fts", "_ai", "_ad", "_au")]
        taken = [name for name in beside if _is_taken(db, name)]
        if taken:
            raise refuse_option("fts", f"there is a {taken[0]!r} already")
        try:
            db[table].enable_fts(names, create_triggers=True)
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                raise
            # A name that FTS5 keeps for itself; a table without rowids.
            raise refuse_option("fts", str(exc)) from exc


def _with_moved(db: Any, tables: Sequence[str], extracted: _Extracted) -> dict[str, list[str]]:
    """Give the tables' columns, and those that were extracted from them."""
    return {
        table: columns_of(db.conn, table)
        + [name for name_of, name in extracted.moved if name_of == table]
        for table in tables
    }
