"""Apply a file to a live table as the rows that differ; what does not differ is not written.

All of it is SQLite's own work: what differs is noted in the staging file, on the volume, so memory
stays that of SQLite's cache whatever the size of the tables.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.errors import Refusal
from headrace.names import quote_identifier as quote
from ingest.merge.columns import value_of
from ingest.merge.schema import ask, count_rows, get_table, read_indexed_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ingest.merge.schema import Table

_DIFFERING = "staging._headrace_differing"
_PLAIN = "_headrace_plain"
KEY_INDEX = "_headrace_key"


class CannotDiffError(Exception):
    """The two tables cannot be compared row by row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many rows were written."""

    added: int = 0
    changed: int = 0
    removed: int = 0

    @property
    def any(self) -> bool:
        """Whether there was any."""
        return bool(self.added or self.changed or self.removed)


def append(db: sqlite3.Connection, table: Table, staged: Table) -> Counts:
    """Add all rows of a file."""
    order = f" ORDER BY s.{staged.rowid}" if staged.rowid else ""
    return Counts(added=_insert(db, table, staged, order))


def by_key(
    db: sqlite3.Connection, table: Table, staged: Table, key: Sequence[str], *, remove: bool
) -> Counts:
    """Make a live table's rows those of a file, by a key.

    Args:
        db: The live database, with staging attached.
        table: The live table, with an index over the key.
        staged: The file's table.
        key: The columns of the key; both tables have them.
        remove: Whether rows that the file does not have are removed.

    Raises:
        CannotDiffError: A key is NULL or not unique.
    """
    values = _values(table, staged)
    _index_key(db, table, staged, key)
    same = " AND ".join(f"m.{quote(name)} = {values[_name(table, name)]}" for name in key)
    removed = 0
    if remove:
        address = ", ".join(table.address)
        removed = db.execute(
            f"DELETE FROM {table.quoted} WHERE ({address}) IN (SELECT {_addresses(table)} "  # noqa: S608
            f"FROM {table.quoted} AS m WHERE NOT EXISTS "
            f"(SELECT 1 FROM {staged.quoted} AS s WHERE {same}))"
        ).rowcount
    changed = _update(db, table, staged, same, exclude={_name(table, name) for name in key})
    order = f" ORDER BY s.{staged.rowid}"
    missing = f" WHERE NOT EXISTS (SELECT 1 FROM {table.quoted} AS m WHERE {same})"  # noqa: S608
    added = _insert(db, table, staged, missing + order)
    return Counts(added=added, changed=changed, removed=removed)


def by_position(db: sqlite3.Connection, table: Table, staged: Table) -> Counts:
    """Make a live table's rows those of a file, the first by the first and so on.

    Raises:
        CannotDiffError: The rows of one are not numbered from 1 without a gap.
    """
    old, new = _count_positions(db, table), _count_positions(db, staged)
    removed = 0
    if new < old:
        sql = f"DELETE FROM {table.quoted} WHERE {table.rowid} > {new}"  # noqa: S608
        removed = db.execute(sql).rowcount
    same = f"m.{table.rowid} = s.{staged.rowid}"
    changed = _update(db, table, staged, same, exclude=set())
    more = f" WHERE s.{staged.rowid} > {old} ORDER BY s.{staged.rowid}"
    return Counts(added=_insert(db, table, staged, more), changed=changed, removed=removed)


def require_unique(db: sqlite3.Connection, table: Table, key: Sequence[str]) -> bool:
    """Give a live table an index over the key that an upload names; say whether one was made.

    Raises:
        Refusal: ``cannot-append``: the key is not unique there.
    """
    wanted = {name.lower() for name in key}
    if {name.lower() for name in table.key} == wanted:
        return False
    query = 'SELECT name FROM pragma_index_list(?, ?) WHERE "unique" AND NOT partial'
    for (index,) in db.execute(query, (table.name, "main")).fetchall():
        parts = db.execute("SELECT name FROM pragma_index_info(?, 'main')", (index,))
        if {(row[0] or "").lower() for row in parts} == wanted:
            return False
    columns = ", ".join(map(quote, key))
    name = quote(f"{table.name}_key_{'_'.join(key)}")
    try:
        db.execute(f"CREATE UNIQUE INDEX main.{name} ON {quote(table.name)} ({columns})")
    except sqlite3.IntegrityError as exc:
        raise Refusal(
            "cannot-append",
            f"the table {table.name!r} has several rows with the same {', '.join(key)}",
            hint="name columns that say which row it is",
        ) from exc
    return True


def with_rowid(db: sqlite3.Connection, staged: Table) -> Table:
    """Give a staged table whose rows have numbers."""
    if staged.rowid:
        return staged
    declared = ", ".join(f"{quote(each.name)} {each.affinity}" for each in staged.columns)
    columns = ", ".join(quote(each.name) for each in staged.columns)
    plain = f"staging.{_PLAIN}"
    db.execute(f"DROP TABLE IF EXISTS {plain}")
    db.execute(f"CREATE TABLE {plain} ({declared})")
    db.execute(f"INSERT INTO {plain} SELECT {columns} FROM {staged.quoted}")  # noqa: S608
    return get_table(db, "staging", _PLAIN)


def _index_key(db: sqlite3.Connection, table: Table, staged: Table, key: Sequence[str]) -> None:
    columns = ", ".join(quote(_name(staged, name)) for name in key)
    # As the live table will have them: an empty text is NULL in a column of numbers.
    values = _values(table, staged)
    nulls = " OR ".join(f"{values[_name(table, name)]} IS NULL" for name in key)
    if ask(db, f"SELECT EXISTS (SELECT 1 FROM {staged.quoted} AS s WHERE {nulls})"):  # noqa: S608
        raise CannotDiffError(f"a row has no {', '.join(key)}")
    if [name.lower() for name in staged.key] == [name.lower() for name in key]:
        return
    db.execute(f"DROP INDEX IF EXISTS staging.{KEY_INDEX}")
    try:
        db.execute(f"CREATE UNIQUE INDEX staging.{KEY_INDEX} ON {quote(staged.name)} ({columns})")
    except sqlite3.IntegrityError as exc:
        raise CannotDiffError(f"several rows have the same {', '.join(key)}") from exc


def _count_positions(db: sqlite3.Connection, table: Table) -> int:
    rows = count_rows(db, table)
    if rows and table.rowid is None:
        raise CannotDiffError("the rows have no numbers")
    if rows:
        ends = f"SELECT min({table.rowid}) = 1 AND max({table.rowid}) = {rows} FROM {table.quoted}"  # noqa: S608
        if not ask(db, ends):
            raise CannotDiffError("the rows' numbers have gaps")
    return rows


def _update(
    db: sqlite3.Connection, table: Table, staged: Table, same: str, *, exclude: set[str]
) -> int:
    """Change the rows that differ; only the indexes of columns that differ are written."""
    values = {name: value for name, value in _values(table, staged).items() if name not in exclude}
    if not values:
        return 0
    differs = _any_of([_differs(table, name, value) for name, value in values.items()])
    addresses = ", ".join(f"a{number}" for number in range(len(table.address)))
    first = " INTEGER PRIMARY KEY" if table.rowid else ""
    key = "" if table.rowid else f", PRIMARY KEY ({addresses})"
    db.execute(f"DROP TABLE IF EXISTS {_DIFFERING}")
    declared = addresses.replace("a0", f"a0{first}", 1)
    db.execute(f"CREATE TABLE {_DIFFERING} ({declared}, source INTEGER{key})")
    changed = db.execute(
        f"INSERT INTO {_DIFFERING} SELECT {_addresses(table)}, s.{staged.rowid} "  # noqa: S608
        f"FROM {staged.quoted} AS s CROSS JOIN {table.quoted} AS m ON {same} WHERE {differs}"
    ).rowcount
    if changed:
        indexed, of_unique = read_indexed_columns(db, table)
        alone = (indexed - of_unique) & set(values)
        together = [name for name in values if name not in alone]
        for names in ([together] if together else []) + [[name] for name in sorted(alone)]:
            _set(
                db,
                table,
                staged,
                {name: values[name] for name in names},
                name_alone=names[0] in alone,
            )
    db.execute(f"DROP TABLE {_DIFFERING}")
    return changed


def _set(
    db: sqlite3.Connection,
    table: Table,
    staged: Table,
    values: Mapping[str, str],
    *,
    name_alone: bool,
) -> None:
    """Set some columns of the rows that differ; one alone only where it differs itself."""
    outer = [f"{table.quoted}.{each}".removeprefix("main.") for each in table.address]
    here = " AND ".join(f"d.a{number} = {each}" for number, each in enumerate(outer))
    source = f"FROM {_DIFFERING} AS d JOIN {staged.quoted} AS s ON s.{staged.rowid} = d.source"
    columns = ", ".join(map(quote, values))
    picked = ", ".join(values.values())
    addresses = ", ".join(f"d.a{number}" for number in range(len(outer)))
    only = source
    if name_alone:
        ((name, value),) = values.items()
        own = " AND ".join(f"m.{each} = d.a{number}" for number, each in enumerate(table.address))
        only = f"{source} JOIN {table.quoted} AS m ON {own} WHERE {_differs(table, name, value)}"
    db.execute(
        f"UPDATE {table.quoted} SET ({columns}) = (SELECT {picked} {source} WHERE {here}) "  # noqa: S608
        f"WHERE ({', '.join(table.address)}) IN (SELECT {addresses} {only})"
    )


def _insert(db: sqlite3.Connection, table: Table, staged: Table, rest: str) -> int:
    values = _values(table, staged)
    columns, picked = ", ".join(map(quote, values)), ", ".join(values.values())
    return db.execute(
        f"INSERT INTO {table.quoted} ({columns}) SELECT {picked} FROM {staged.quoted} AS s{rest}"  # noqa: S608
    ).rowcount


def _values(table: Table, staged: Table) -> dict[str, str]:
    """Give the SQL of each live column's new value; columns that the file has not are left out."""
    return {
        column.name: value_of(column, source)
        for column in table.columns
        if (source := staged.find_column(column.name)) is not None
    }


def _differs(table: Table, name: str, value: str) -> str:
    """Give the SQL that says whether a value differs, also where a collation sees none."""
    old = f"m.{quote(name)}"
    differs = f"{old} COLLATE BINARY IS NOT {value}"
    if table.column(name).affinity == "BLOB":  # 1 and 1.0 are equal, and are both kept as they are
        return f"({differs} OR typeof({old}) <> typeof({value}))"
    return differs


def _any_of(terms: Sequence[str]) -> str:
    """Join terms by OR, as a flat tree: SQLite takes no expression deeper than 1,000."""
    if len(terms) == 1:
        return terms[0]
    half = len(terms) // 2
    return f"({_any_of(terms[:half])} OR {_any_of(terms[half:])})"


def _addresses(table: Table) -> str:
    return ", ".join(f"m.{each}" for each in table.address)


def _name(table: Table, name: str) -> str:
    return table.column(name).name
