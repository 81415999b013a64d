"""Make a table anew, with what belongs to it: indexes, triggers, full-text search."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from headrace.names import quote_identifier as quote
from ingest.merge.columns import WIDENED, keep_generated
from ingest.merge.difference import KEY_INDEX
from ingest.merge.retype import declare, retype
from ingest.merge.schema import Index, ask, get_table, is_taken, read_indexes
from ingest.merge.search import drop_search, find_searches, install_search, rebuild_search

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ingest.merge.schema import Table

_HELD = "staging._headrace_held"
_REFUSED = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT}  # a type, or a value


def create(db: sqlite3.Connection, staged: Table) -> tuple[int, list[str]]:
    """Create a table as it is in staging, with rows, indexes and search; give rows and warnings."""
    db.execute(staged.sql)
    rows = _fill(db, staged)
    table = get_table(db, "main", staged.name)
    return rows, add_missing(db, table, staged)[1]


def replace(
    db: sqlite3.Connection, table: Table, staged: Table, source: Table
) -> tuple[int, list[str]]:
    """Put a staged table in a live one's place; what belongs to the old one stays, if it can.

    Args:
        db: The live database, with staging attached.
        table: The live table.
        staged: The file's table.
        source: The same with the columns that it was given: those that the file lacks, and
            references to lookup tables.

    Returns:
        The rows that it has now, and warnings.
    """
    for column in staged.columns:
        if source.find_column(column.name) is None:  # a reference has come in its place
            _drop_column(db, staged, column.name)
    staged, warnings = keep_generated(db, table, get_table(db, "staging", staged.name))
    key, lost = _find_key(db, table, staged)
    strict = table.strict and not staged.strict
    try:
        db.execute("SAVEPOINT remaking")
        sql = declare(staged.sql, key=key, strict=strict)
        warnings += lost + _remake(db, table, sql, lambda: _fill(db, staged))
    except sqlite3.Error as exc:
        if not strict or exc.sqlite_errorcode & 0xFF not in _REFUSED:
            raise
        db.execute("ROLLBACK TO remaking")
        lost.append(f"the table {table.name!r} is STRICT no more: {exc}")
        sql = declare(staged.sql, key=key, strict=False)
        warnings += lost + _remake(db, table, sql, lambda: _fill(db, staged))
    db.execute("RELEASE remaking")
    made = get_table(db, "main", staged.name)
    _made, more = add_missing(db, made, staged)
    rows: int = db.execute(f"SELECT count(*) FROM {made.quoted}").fetchone()[0]  # noqa: S608
    return rows, [*warnings, *more]


def _find_key(
    db: sqlite3.Connection, table: Table, staged: Table
) -> tuple[tuple[str, ...], list[str]]:
    """Find the live table's key in a staged table that has none.

    Returns:
        The columns, if they say which row it is there as well; else none, and a warning.
    """
    if staged.key or not table.key:
        return (), []
    found = [each for name in table.key if (each := staged.find_column(name))]
    key = tuple(each.name for each in found)
    why = "a column of it is gone"
    if len(key) == len(table.key):
        columns = ", ".join(map(quote, key))
        nulls = " OR ".join(f"{quote(name)} IS NULL" for name in key)
        if not ask(
            db,
            f"SELECT EXISTS (SELECT 1 FROM {staged.quoted} "  # noqa: S608
            f"GROUP BY {columns} HAVING count(*) > 1 OR {nulls})",
        ):
            return key, []
        why = "rows have the same, or none"
    shown = ", ".join(table.key)
    return (), [f"the table {table.name!r} has the key {shown} no more: {why}"]


def widen(
    db: sqlite3.Connection, table: Table, types: Mapping[str, str]
) -> tuple[Table, list[str]]:
    """Make columns of a live table TEXT (or REAL); no value changes but in its type.

    Args:
        db: The live database, with staging attached.
        table: The live table.
        types: The new type of a column by its name.

    Returns:
        The table as it is then, and warnings.
    """
    texts = {name.lower() for name, kind in types.items() if kind == "TEXT"}
    names = [quote(each.name) for each in table.columns]
    values = [
        WIDENED.format(quote(each.name)) if each.name.lower() in texts else quote(each.name)
        for each in table.columns
    ]
    keeps_rowid = table.rowid is not None and not table.rowid_is_key
    if keeps_rowid:
        names.insert(0, str(table.rowid))
        values.insert(0, str(table.rowid))
    held = ", ".join(f"{value} AS c{number}" for number, value in enumerate(values))
    order = f" ORDER BY {table.rowid}" if table.rowid else ""
    db.execute(f"DROP TABLE IF EXISTS {_HELD}")
    db.execute(f"CREATE TABLE {_HELD} AS SELECT {held} FROM {table.quoted}{order}")  # noqa: S608

    def fill() -> None:
        columns = ", ".join(f"c{number}" for number in range(len(names)))
        db.execute(
            f"INSERT INTO {table.quoted} ({', '.join(names)}) "  # noqa: S608
            f"SELECT {columns} FROM {_HELD} ORDER BY rowid"
        )

    warnings = _remake(db, table, retype(table.sql, types), fill)
    db.execute(f"DROP TABLE {_HELD}")
    return get_table(db, "main", table.name), warnings


def add_missing(db: sqlite3.Connection, table: Table, staged: Table) -> tuple[bool, list[str]]:
    """Give a live table the indexes and the search that the staged one has and it has not.

    Returns:
        Whether anything was made, and warnings.
    """
    have = {(index.columns, index.unique) for index in read_indexes(db, table) if index.columns}
    wanted = [
        index
        for index in read_indexes(db, staged)
        if index.name != KEY_INDEX
        and (index.columns, index.unique) not in have
        and (index.columns is not None or not is_taken(db, index.name))
    ]
    warnings = [warning for index in wanted if (warning := _add_index(db, table, index))]
    made = len(wanted) > len(warnings)
    searches = find_searches(db, table)
    for search in find_searches(db, staged):
        same = [each for each in searches if each.name.lower() == search.name.lower()]
        if same and (same[0].columns, same[0].sql) == (search.columns, search.sql):
            continue
        if same:
            drop_search(db, table, same[0])
        warning = install_search(db, table, search)
        warnings += [warning] if warning else []
        made = made or not warning
    return made, warnings


def _drop_column(db: sqlite3.Connection, staged: Table, name: str) -> None:
    """Drop a column of a staged table, with the indexes over it; it stays if SQLite refuses."""
    for index in read_indexes(db, staged):
        if index.columns is None or name in index.columns:
            db.execute(f"DROP INDEX staging.{quote(index.name)}")
    try:
        db.execute(f"ALTER TABLE {staged.quoted} DROP COLUMN {quote(name)}")
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise


def _fill(db: sqlite3.Connection, staged: Table) -> int:
    """Copy a staged table's rows; SQLite copies whole records if it can."""
    target = f"main.{quote(staged.name)}"
    if not staged.generated:
        return db.execute(f"INSERT INTO {target} SELECT * FROM {staged.quoted}").rowcount  # noqa: S608
    columns = ", ".join(quote(each.name) for each in staged.columns)
    sql = f"INSERT INTO {target} ({columns}) SELECT {columns} FROM {staged.quoted}"  # noqa: S608
    return db.execute(sql).rowcount


def _remake(
    db: sqlite3.Connection, table: Table, sql: str, fill: Callable[[], object]
) -> list[str]:
    """Drop a live table, make it by other SQL, fill it, and give it back what belongs to it."""
    indexes = read_indexes(db, table)
    searches = find_searches(db, table)
    triggers = db.execute(
        "SELECT sql FROM main.sqlite_schema WHERE type = 'trigger' "
        "AND tbl_name = ? COLLATE NOCASE ORDER BY rowid",
        (table.name,),
    ).fetchall()
    db.execute(f"DROP TABLE {table.quoted}")
    db.execute(sql)
    fill()
    made = get_table(db, "main", table.name)
    warnings = [warning for index in indexes if (warning := _add_index(db, made, index))]
    broken = [
        search for search in searches if any(not made.find_column(name) for name in search.columns)
    ]
    for search in searches:
        if search in broken:
            db.execute(f"DROP TABLE main.{quote(search.name)}")
            warnings.append(f"dropped the full-text index {search.name!r}: its column is gone")
        else:
            rebuild_search(db, search)
    for (trigger,) in triggers:  # of searches: no others are there while rows are written
        if not any(each.name.lower() in trigger.lower() for each in broken):
            db.execute(trigger)
    return warnings


def _add_index(db: sqlite3.Connection, table: Table, index: Index) -> str | None:
    """Make an index; give a warning if it cannot be."""
    sql = index.sql
    if index.columns is not None:
        name, number = index.name, 2
        while is_taken(db, name):
            name, number = f"{index.name}_{number}", number + 1
        if name != index.name:
            columns = ", ".join(map(quote, index.columns))
            unique = "UNIQUE " if index.unique else ""
            sql = f"CREATE {unique}INDEX {quote(name)} ON {quote(table.name)} ({columns})"
    try:
        db.execute(sql)
    except (sqlite3.OperationalError, sqlite3.IntegrityError) as exc:
        if (
            isinstance(exc, sqlite3.OperationalError)
            and exc.sqlite_errorcode != sqlite3.SQLITE_ERROR
        ):
            raise
        return f"dropped the index {index.name!r}: {exc}"
    return None
