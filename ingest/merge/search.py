"""Full-text search: indexes over a table's texts, and the triggers that keep them right.

Nothing of an upload's own triggers is run: they are written anew, as sqlite-utils does.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.names import quote_identifier as quote
from ingest.merge.schema import ask, is_taken

if TYPE_CHECKING:
    from ingest.merge.schema import Table

_CONTENT = re.compile(
    r"""USING\s+FTS([45])\b.*\bcontent\s*=\s*
    (?:"((?:[^"]|"")*)"|'((?:[^']|'')*)'|\[([^\]]*)\]|(\w+))""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A full-text index over a table.

    Attributes:
        name: Of the virtual table.
        sql: What made it.
        columns: The table's columns that it is over.
        has_triggers: Whether SQLite itself keeps it right.
    """

    name: str
    sql: str
    columns: tuple[str, ...]
    has_triggers: bool


def find_searches(db: sqlite3.Connection, table: Table) -> list[Search]:
    """Find the full-text indexes over a table; one that cannot be read here is left out."""
    stored = db.execute(
        f"SELECT name, sql FROM {table.schema}.sqlite_schema "  # noqa: S608
        "WHERE type = 'table' AND rootpage = 0 AND sql LIKE '%content%'"
    ).fetchall()
    found = []
    for name, sql in stored:
        match = _CONTENT.search(sql)
        if not match or "".join(filter(None, match.groups()[1:])).lower() != table.name.lower():
            continue
        try:
            parts = db.execute(
                "SELECT name FROM pragma_table_xinfo(?, ?) WHERE hidden = 0", (name, table.schema)
            )
            columns = tuple(row[0] for row in parts)
        except sqlite3.OperationalError:  # a tokenizer that is not here
            continue
        triggers = (
            f"SELECT EXISTS (SELECT 1 FROM {table.schema}.sqlite_schema WHERE type = 'trigger' "  # noqa: S608
            "AND tbl_name = ? COLLATE NOCASE AND instr(lower(sql), lower(?)))"
        )
        found.append(
            Search(
                name=name,
                sql=sql,
                columns=columns,
                has_triggers=bool(ask(db, triggers, (table.name, name))),
            )
        )
    return found


def install_search(db: sqlite3.Connection, table: Table, search: Search) -> str | None:
    """Make a full-text index over a live table, with triggers; give a warning if it cannot be."""
    if is_taken(db, search.name):
        return f"left out the full-text index {search.name!r}: there is a table of that name"
    try:
        db.execute(search.sql)
    except sqlite3.OperationalError as exc:
        return f"left out the full-text index {search.name!r}: {exc}"
    rebuild_search(db, search)
    if re.search(r"USING\s+FTS5", search.sql, re.IGNORECASE):
        for name, sql in _triggers(table.name, search):
            if not is_taken(db, name):
                db.execute(sql)
    return None


def rebuild_search(db: sqlite3.Connection, search: Search) -> None:
    """Fill a full-text index from its table."""
    name = quote(search.name)
    db.execute(f"INSERT INTO main.{name} ({name}) VALUES ('rebuild')")  # noqa: S608


def drop_search(db: sqlite3.Connection, table: Table, search: Search) -> None:
    """Remove a full-text index, and its triggers."""
    triggers = db.execute(
        "SELECT name FROM main.sqlite_schema WHERE type = 'trigger' "
        "AND tbl_name = ? COLLATE NOCASE AND instr(lower(sql), lower(?))",
        (table.name, search.name),
    ).fetchall()
    for (name,) in triggers:
        db.execute(f"DROP TRIGGER main.{quote(name)}")
    db.execute(f"DROP TABLE main.{quote(search.name)}")


def _triggers(table: str, search: Search) -> list[tuple[str, str]]:
    """Give name and SQL of the triggers.

    Source: sqlite.org/fts5.html, 4.4.3; the names are those of sqlite-utils' ``enable_fts``.
    """
    fts = quote(search.name)
    columns = ", ".join(map(quote, search.columns))
    old = ", ".join(f"old.{quote(name)}" for name in search.columns)
    new = ", ".join(f"new.{quote(name)}" for name in search.columns)
    insert = f"INSERT INTO {fts} (rowid, {columns}) VALUES (new.rowid, {new});"  # noqa: S608
    delete = f"INSERT INTO {fts} ({fts}, rowid, {columns}) VALUES ('delete', old.rowid, {old});"  # noqa: S608
    kinds = (("ai", "INSERT", insert), ("ad", "DELETE", delete), ("au", "UPDATE", delete + insert))
    found = []
    for ending, event, body in kinds:
        name = f"{table}_{ending}"
        head = f"CREATE TRIGGER {quote(name)} AFTER {event} ON {quote(table)}"
        found.append((name, f"{head} BEGIN {body} END"))
    return found
