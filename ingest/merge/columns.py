"""How the columns of a file fit those of a live table: by name; new, missing, or to be widened."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

from headrace.errors import Refusal
from headrace.names import quote_identifier as quote
from ingest.merge.retype import definitions
from ingest.merge.schema import NUMERIC, Column, ask, get_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ingest.merge.schema import Table

MAX_EXACT_INTEGER = 2**53  # up to here every integer is a double

# SQLite itself would keep 15 digits of a real; this function is Python's repr.
WIDENED = (
    "CASE typeof({0}) WHEN 'real' THEN shortest_text({0}) "
    "WHEN 'integer' THEN CAST({0} AS TEXT) ELSE {0} END"
)


def register_functions(db: sqlite3.Connection) -> None:
    """Give a connection ``shortest_text``: of a real, the text that it comes back from."""
    db.create_function("shortest_text", 1, repr, deterministic=True)


def add_columns(db: sqlite3.Connection, table: Table, staged: Table) -> tuple[Table, list[str]]:
    """Add the columns to a live table that only the file has; give it as it is then, and warnings.

    Raises:
        Refusal: ``cannot-append``.
    """
    new = [each for each in staged.columns if table.find_column(each.name) is None]
    for each in new:
        kind = each.affinity
        if table.strict and kind == "NUMERIC":
            kind = "ANY"
        try:
            db.execute(f"ALTER TABLE {table.quoted} ADD COLUMN {quote(each.name)} {kind}")
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                raise
            raise Refusal("cannot-append", f"the column {each.name!r} cannot be added") from exc
    if new:
        table = get_table(db, "main", table.name)
    return table, [f"added the column {each.name!r} to {table.name!r}" for each in new]


def find_missing(table: Table, staged: Table) -> list[Column]:
    """Find the columns of a live table that the file does not have."""
    return [each for each in table.columns if staged.find_column(each.name) is None]


def warn_of_another(table: Table, staged: Table) -> list[str]:
    """Warn of a file that has not one column of the live table."""
    if any(staged.find_column(each.name) for each in table.columns):
        return []
    return [f"the file has no column of {table.name!r}: is it another file?"]


def warn_of_missing(columns: Iterable[Column], *, upsert: bool = False) -> list[str]:
    """Say which columns the file does not have, and what its rows have there."""
    where = "in new rows, the others keep theirs" if upsert else "there"
    return [
        f"the file has no column {each.name!r}: "
        f"{'NULL' if each.default is None else 'its default'} {where}"
        for each in columns
    ]


def warn_of_widening(column: Column, kind: str, *, of: str = "") -> str:
    """Say what type a column has now; ``of`` names a table that is not the file's own."""
    what = f"the column {column.name!r}{of and f' of {of!r}'} was {column.type} and is {kind} now"
    texts = column.affinity == "REAL" and kind == "TEXT"
    old = "; its old values are the shortest texts of numbers, 1.5 and 2.0" if texts else ""
    return f"{what}: the file has other values{old}"


def complete(
    db: sqlite3.Connection, table: Table, staged: Table, columns: Iterable[Column]
) -> Table:
    """Give a staged table columns of the live one that it lacks: NULL, or their default.

    They are declared as in the live table, if SQLite can add such a column: none that belongs to a
    key, must not be NULL, or whose default is to be worked out.

    Returns:
        The staged table with these columns at its end.

    Raises:
        Refusal: ``cannot-append``: that would be too many.
    """
    declared = definitions(table.sql)
    names = []
    for column in columns:
        kind = column.type
        if staged.strict:
            kind = "ANY" if column.affinity == "NUMERIC" else column.affinity
        plain = f"{quote(column.name)} {kind}"
        try:
            _add_column(db, staged, declared.get(column.name.lower(), plain), plain)
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                raise
            raise Refusal(
                "cannot-append",
                f"the column {column.name!r} of {table.name!r} cannot be kept: {exc}",
                hint="say which columns the table shall have with ?columns=, or delete it first",
            ) from exc
        names.append(column.name)
    if not names:
        return staged
    made = get_table(db, "staging", staged.name)
    added = tuple(made.column(name) for name in names)
    return replace(staged, columns=(*staged.columns, *added), sql=made.sql)


def keep_generated(db: sqlite3.Connection, table: Table, staged: Table) -> tuple[Table, list[str]]:
    """Give a staged table the generated columns of the live one; a warning for each that it cannot.

    Returns:
        The staged table as it is then, and warnings.
    """
    declared = definitions(table.sql)
    there = {each.lower() for each in (*staged.generated, *(c.name for c in staged.columns))}
    warnings = []
    for name in table.generated:
        if name.lower() in there:
            continue
        try:
            _add_column(db, staged, declared[name.lower()])
        except (sqlite3.OperationalError, KeyError) as exc:
            if getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                raise
            warnings.append(f"dropped the generated column {name!r}: it cannot be added again")
    return get_table(db, "staging", staged.name), warnings


def _add_column(db: sqlite3.Connection, table: Table, *declared: str) -> None:
    """Add a column by the first definition that SQLite takes.

    Raises:
        sqlite3.OperationalError: It takes none of them.
    """
    for number, definition in enumerate(declared, start=1):
        try:
            db.execute(f"ALTER TABLE {table.quoted} ADD COLUMN {definition}")
        except (sqlite3.OperationalError, sqlite3.IntegrityError) as exc:
            interrupted = exc.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT
            if interrupted or number == len(declared):
                raise
        else:
            return


def find_widenings(db: sqlite3.Connection, table: Table, staged: Table) -> dict[str, str]:
    """Find the columns whose type would change the file's values; give the type that does not."""
    types = {}
    for column in table.columns:
        source = staged.find_column(column.name)
        if source is not None and (kind := find_widening(db, table, column, staged, source)):
            types[column.name] = kind
    return types


def value_of(column: Column, source: Column) -> str:
    """Give the SQL for a staged value (of the table ``s``) as a live column takes it.

    It has no affinity unless both are of the same kind, so that a comparison with the live column
    is made as the live column sees it (sqlite.org/datatype3.html, 4.2).
    """
    name = f"s.{quote(source.name)}"
    if column.affinity == source.affinity:
        return name
    if column.affinity == "TEXT":
        return f"(CASE typeof({name}) WHEN 'real' THEN shortest_text({name}) ELSE {name} END)"
    if column.affinity in NUMERIC and source.affinity not in NUMERIC:
        return f"nullif(+{name}, '')"
    return f"(+{name})"


def find_widening(
    db: sqlite3.Connection, table: Table, column: Column, staged: Table, source: Column
) -> str | None:
    """Find the type that a live column needs for a file's values; None: the one it has."""
    if column.affinity not in NUMERIC or column.affinity == source.affinity:
        return None
    new = quote(source.name)
    if source.affinity not in NUMERIC and _any(
        db, staged, f"typeof({new}) = 'text' AND {new} <> ''"
    ):
        return "TEXT"
    inexact = "typeof({0}) = 'integer' AND {0} NOT BETWEEN -{1} AND {1}"
    if column.affinity == "REAL":
        condition = inexact.format(new, MAX_EXACT_INTEGER)
        return "TEXT" if _any(db, staged, condition) else None
    fractions = f"typeof({new}) = 'real' AND {new} <> CAST({new} AS INTEGER)"
    if not table.strict or not _any(db, staged, fractions):
        return None
    old = inexact.format(quote(column.name), MAX_EXACT_INTEGER)
    exact = not _any(db, table, old) and not _any(
        db, staged, inexact.format(new, MAX_EXACT_INTEGER)
    )
    return "REAL" if exact and not column.key else "TEXT"


def _any(db: sqlite3.Connection, table: Table, condition: str) -> bool:
    """Say whether a condition holds for any row."""
    return bool(ask(db, f"SELECT EXISTS (SELECT 1 FROM {table.quoted} WHERE {condition})"))  # noqa: S608
