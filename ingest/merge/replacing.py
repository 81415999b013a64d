"""Make a live table what a file says: row by row where both have one shape, else anew.

A column that the file does not have stays, and holds NULL (or its default) in every row.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest.merge import difference, rebuild
from ingest.merge.columns import (
    add_columns,
    complete,
    find_missing,
    warn_of_another,
    warn_of_missing,
)
from ingest.merge.difference import CannotDiffError, Counts
from ingest.merge.lookups import keep_lookups
from ingest.merge.schema import count_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from ingest.merge.schema import Column, Table

_MAX_SHOWN = 5  # columns in a warning


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """What became of a table.

    Attributes:
        name: As it is written now.
        counts: Rows that were written.
        warnings: What was filled in, added, or could not stay.
        written: Whether anything but rows was written.
    """

    name: str
    counts: Counts
    warnings: list[str]
    written: bool


def replace_table(
    db: sqlite3.Connection,
    table: Table,
    staged: Table,
    *,
    unwanted: Collection[str] | None,
) -> Replaced:
    """Give a live table the rows of a staged one.

    Args:
        db: The live database, with staging attached, in a transaction.
        table: The live table.
        staged: The file's table.
        unwanted: Columns that do not stay if the file does not have them; None: all of those.

    Raises:
        Refusal: ``cannot-append``: the columns together are too many.
    """
    source, widened = keep_lookups(db, table, staged)
    gone = {name.lower() for name in unwanted or ()}
    missing = [
        each
        for each in find_missing(table, source)
        if unwanted is not None and each.name.lower() not in gone
    ]
    another = warn_of_another(table, source)
    source = complete(db, table, source, missing)
    filled = [*another, *widened, *warn_of_missing(source.column(each.name) for each in missing)]
    db.execute("SAVEPOINT replacing")
    try:
        counts, warnings, written = _apply_rows(db, table, staged, source, missing)
        db.execute("RELEASE replacing")
    except (CannotDiffError, sqlite3.IntegrityError) as exc:
        db.execute("ROLLBACK TO replacing")
        db.execute("RELEASE replacing")
        before = count_rows(db, table)
        rows, warnings = rebuild.replace(db, table, staged, source)
        warnings = [*filled, f"the table {table.name!r} was written anew: {exc}", *warnings]
        counts = Counts(added=rows, removed=before)
        return Replaced(name=staged.name, counts=counts, warnings=warnings, written=True)
    return Replaced(
        name=table.name,
        counts=counts,
        warnings=[*filled, *warnings],
        written=written or bool(widened),
    )


def _apply_rows(
    db: sqlite3.Connection,
    table: Table,
    staged: Table,
    source: Table,
    missing: Sequence[Column],
) -> tuple[Counts, list[str], bool]:
    """Apply the difference.

    Args:
        db: The live database.
        table: The live table.
        staged: The file's.
        source: The same with all the columns that it is to have.
        missing: Those that the file has not.

    Returns:
        The rows that were written, warnings, and whether anything else was written.

    Raises:
        CannotDiffError: The tables are not of one shape.
    """
    warnings: list[str] = []
    have, new = _shape(table, missing), _shape(source, missing)
    looked_up = any(staged.find_column(name) is None for name, _type in new)
    extra = [] if looked_up else new[len(have) :]
    if extra and new[: len(have)] == have and not staged.generated:
        table, warnings = add_columns(db, table, source)
        have = _shape(table, missing)
    else:
        extra = []
    if sorted(have) != sorted(new) or (have != new and not looked_up):
        raise CannotDiffError(_name_differences(dict(have), dict(new)))
    if source.key not in {(), table.key} or (staged.strict and not table.strict):
        raise CannotDiffError("its key or its strictness is another")
    if table.key and table.rowid:
        source = difference.with_rowid(db, source)
        counts = difference.by_key(db, table, source, table.key, remove=True)
    else:
        counts = difference.by_position(db, table, source)
    made, more = rebuild.add_missing(db, table, staged)
    return counts, [*warnings, *more], made or bool(extra)


def _name_differences(was: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Say which columns are not those that a table had."""
    parts = [f"{name!r} is gone" for name in was if name not in now]
    parts += [f"{name!r} is new" for name in now if name not in was]
    parts += [
        f"{name!r} was {was[name] or 'untyped'} and is {now[name] or 'untyped'}"
        for name in was
        if name in now and was[name] != now[name]
    ]
    if len(parts) > _MAX_SHOWN:
        parts[_MAX_SHOWN:] = [f"{len(parts) - _MAX_SHOWN:,} more differ"]
    return f"of its columns, {', '.join(parts)}" if parts else "its columns are in another order"


def _shape(table: Table, without: Iterable[Column]) -> list[tuple[str, str]]:
    """Give names and types of a table's columns, but for some."""
    left_out = {each.name for each in without}
    return [(each.name, each.type) for each in table.columns if each.name not in left_out]
