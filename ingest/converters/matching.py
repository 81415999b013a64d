"""Which tables of a staging database a wish is for: those that have all the columns it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.errors import Refusal

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Mapping, Sequence

MAX_SHOWN_COLUMNS = 50  # in a refusal


def columns_of(db: sqlite3.Connection, table: str) -> list[str]:
    """List a table's own columns; generated ones are left out."""
    query = "SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0"
    return [name for (name,) in db.execute(query, (table,))]


def resolve(columns: Sequence[str], wanted: Iterable[str]) -> list[str] | None:
    """Give the columns as the table writes them; None if it lacks one.

    A name that is written otherwise in case alone is found, as SQLite would.
    """
    folded = {column.lower(): column for column in columns}
    found = [name if name in columns else folded.get(name.lower()) for name in wanted]
    names = [name for name in found if name is not None]
    return names if len(names) == len(found) else None


def match_tables(
    tables: Mapping[str, Sequence[str]], option: str, wanted: Collection[str]
) -> dict[str, list[str]]:
    """Find the tables that have all the columns, and give the columns as they write them.

    Args:
        tables: Tables with their columns.
        option: The wish, for the refusal.
        wanted: The columns it names; none of them, no table.

    Raises:
        Refusal: ``invalid-option``: no table has them; it says which columns there are.
    """
    if not wanted:
        return {}
    found = {table: resolve(columns, wanted) for table, columns in tables.items()}
    matched = {table: columns for table, columns in found.items() if columns is not None}
    if matched:
        return matched
    there = {table: list(columns)[:MAX_SHOWN_COLUMNS] for table, columns in tables.items()}
    raise refuse_option(option, _missing(tables, wanted), extra={"columns": there})


def refuse_option(option: str, why: str, *, extra: dict[str, object] | None = None) -> Refusal:
    """Give the refusal of a wish that cannot be had."""
    return Refusal("invalid-option", f"{option} cannot be used: {why}", extra=extra)


def _missing(tables: Mapping[str, Sequence[str]], wanted: Collection[str]) -> str:
    """Say what is missing, and what is there."""
    if len(tables) != 1:
        return f"no table has {_listed(wanted)}"
    ((table, columns),) = tables.items()
    missing = [name for name in wanted if resolve(columns, (name,)) is None]
    return f"{table!r} has no column {_listed(missing)}; it has {_listed(columns)}"


def _listed(names: Collection[str]) -> str:
    """List names for a person."""
    shown = ", ".join(repr(name) for name in list(names)[:MAX_SHOWN_COLUMNS])
    rest = len(names) - MAX_SHOWN_COLUMNS
    return f"{shown} and {rest} more" if rest > 0 else shown
