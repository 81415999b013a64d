"""Lookup tables: a column's values in a table of their own, and their ids in its place.

Ids are those of the live lookup table: a file's values are found in it or added to it, and never
removed, so that ids which other tables refer to stay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from headrace.names import quote_identifier as quote
from ingest.merge.columns import find_widening, value_of, warn_of_widening
from ingest.merge.rebuild import widen
from ingest.merge.schema import Column, ask, find_table, get_table

if TYPE_CHECKING:
    import sqlite3

    from ingest.merge.schema import Table

SHARED_COLUMN = "value"  # of a lookup table that is not named like the column, see converters/shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A column that holds ids of a lookup table."""

    column: str
    lookup: str


def value_column(table: Table) -> Column | None:
    """Give the column with the values, if the table is a lookup table: an id, and one column."""
    if len(table.columns) == 2 and table.rowid_is_key:  # noqa: PLR2004
        return next(each for each in table.columns if not each.key)
    return None


def find_references(db: sqlite3.Connection, table: Table) -> list[Reference]:
    """Find the columns of a table that refer to lookup tables of the same database."""
    query = 'SELECT "from", "table" FROM pragma_foreign_key_list(?, ?) ORDER BY id'
    return [
        Reference(column=column, lookup=lookup)
        for column, lookup in db.execute(query, (table.name, table.schema)).fetchall()
        if (found := find_table(db, table.schema, lookup)) and value_column(found)
    ]


def merge_values(db: sqlite3.Connection, table: Table, staged: Table) -> tuple[int, list[str]]:
    """Add a staged lookup table's values to the live one, and translate the ids that refer to it.

    Returns:
        How many were added, and warnings.
    """
    values, incoming = value_column(table), value_column(staged)
    assert values  # noqa: S101 - the caller has looked
    assert incoming  # noqa: S101
    table, warnings = _widen(db, table, staged, incoming)
    values = table.column(values.name)
    value = value_of(values, incoming)
    added = _add_values(db, table, values, f"{staged.quoted} AS s", value)
    found = f"m.{quote(values.name)} IS {value}"
    ids = (
        f"SELECT m.{quote(table.key[0])} FROM {staged.quoted} AS s JOIN {table.quoted} AS m "  # noqa: S608
        f"ON {found} WHERE s.{quote(staged.key[0])} = "
    )
    moved = (
        f"SELECT EXISTS (SELECT 1 FROM {staged.quoted} AS s JOIN {table.quoted} AS m ON {found} "  # noqa: S608
        f"WHERE s.{quote(staged.key[0])} <> m.{quote(table.key[0])})"
    )
    if ask(db, moved):
        for name, column in _referring(db, staged.name):
            at = f"{quote(name)}.{quote(column)}"
            db.execute(f"UPDATE staging.{quote(name)} SET {quote(column)} = ({ids}{at})")  # noqa: S608
    return added, warnings


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedUp:
    """A column of a file whose values the live table has ids of.

    Attributes:
        column: The live table's, with the ids.
        lookup: Where they are found.
        values: Its column with the values.
        source: The file's column.
    """

    column: str
    lookup: Table
    values: Column
    source: Column


def find_looked_up(db: sqlite3.Connection, table: Table, staged: Table) -> list[LookedUp]:
    """Find the columns of a file that are to be looked up, though the upload did not ask for it."""
    found = []
    for reference in find_references(db, table):
        lookup = find_table(db, "main", reference.lookup)
        values = value_column(lookup) if lookup else None
        if not lookup or not values or staged.find_column(reference.column):
            continue
        plain = values.name
        if staged.find_column(plain) is None:
            plain = reference.column.removesuffix("_id")
        source = staged.find_column(plain)
        if source is None or source.key:
            continue
        column = reference.column
        found.append(LookedUp(column=column, lookup=lookup, values=values, source=source))
    return found


def keep_lookups(db: sqlite3.Connection, table: Table, staged: Table) -> tuple[Table, list[str]]:
    """Look up a file's columns as the live table does, though the upload did not ask for it.

    Returns:
        The staged table with ids in the place of these columns, and warnings. Its own SQL still
        says what the file has.
    """
    columns = list(staged.columns)
    warnings: list[str] = []
    for each in find_looked_up(db, table, staged):
        source = each.source
        # As it is now: another column may have widened it.
        lookup, widened = _widen(db, get_table(db, "main", each.lookup.name), staged, source)
        warnings += widened
        values = lookup.column(each.values.name)
        value = value_of(values, source)
        _add_values(db, lookup, values, f"{staged.quoted} AS s", value)
        refers = f"REFERENCES {quote(lookup.name)} ({quote(lookup.key[0])})"
        db.execute(f"ALTER TABLE {staged.quoted} ADD COLUMN {quote(each.column)} INTEGER {refers}")
        ids = (
            f"SELECT m.{quote(lookup.key[0])} FROM {lookup.quoted} AS m "  # noqa: S608
            f"WHERE m.{quote(values.name)} IS {value}"
        )
        db.execute(
            f"UPDATE {staged.quoted} AS s SET {quote(each.column)} = ({ids}) "  # noqa: S608
            f"WHERE {value} IS NOT NULL"
        )
        columns[columns.index(source)] = Column(name=each.column, type="INTEGER", key=0)
    return replace(staged, columns=tuple(columns)), warnings


def _widen(
    db: sqlite3.Connection, lookup: Table, staged: Table, source: Column
) -> tuple[Table, list[str]]:
    """Make a lookup table take a file's values; give it as it is then, and warnings."""
    values = value_column(lookup)
    assert values  # noqa: S101 - the caller has looked
    kind = find_widening(db, lookup, values, staged, source)
    if kind is None:
        return lookup, []
    lookup, warnings = widen(db, lookup, {values.name: kind})
    return lookup, [warn_of_widening(values, kind, of=lookup.name), *warnings]


def _add_values(
    db: sqlite3.Connection, lookup: Table, values: Column, source: str, value: str
) -> int:
    name = quote(values.name)
    return db.execute(
        f"INSERT INTO {lookup.quoted} ({name}) SELECT DISTINCT {value} FROM {source} "  # noqa: S608
        f"WHERE {value} IS NOT NULL AND NOT EXISTS "
        f"(SELECT 1 FROM {lookup.quoted} AS m WHERE m.{name} IS {value})"
    ).rowcount


def _referring(db: sqlite3.Connection, lookup: str) -> list[tuple[str, str]]:
    """List the staged tables and columns that refer to a staged lookup table."""
    query = (
        'SELECT stored.name, fk."from" FROM staging.sqlite_schema AS stored '
        "JOIN pragma_foreign_key_list(stored.name, 'staging') AS fk "
        "WHERE stored.type = 'table' AND stored.rootpage > 0 AND fk.\"table\" = ? COLLATE NOCASE"
    )
    return list(db.execute(query, (lookup,)).fetchall())
