"""Full-text search: indexes over a table's texts, and the triggers that keep them right.

Nothing of an upload's own triggers is run (``triggers``): they are written anew, as sqlite-utils
does.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.names import quote_identifier as quote
from ingest.merge.schema import is_taken

if TYPE_CHECKING:
    from ingest.merge.schema import Table

_CONTENT = re.compile(
    r"""USING\s+FTS([45])\b.*\bcontent\s*=\s*
    (?:"((?:[^"]|"")*)"|'((?:[^']|'')*)'|\[([^\]]*)\]|(\w+))""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_PLAIN = re.compile(r"\w+")
_KINDS = 3  # of triggers of a search


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A full-text index over a table.

    Attributes:
        name: Of the virtual table.
        sql: What made it.
        columns: The table's columns that it is over.
    """

    name: str
    sql: str
    columns: tuple[str, ...]


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
        found.append(Search(name=name, sql=sql, columns=columns))
    return found


def install_search(db: sqlite3.Connection, table: Table, search: Search) -> str | None:
    """Make a full-text index over a live table, with triggers; give a warning if it cannot be."""
    if is_taken(db, search.name):
        return f"left out the full-text index {search.name!r}: there is a table of that name"
    try:
        db.execute(search.sql)
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        return f"left out the full-text index {search.name!r}: {exc}"
    rebuild_search(db, search)
    install_triggers(db, table, search)
    return None


def install_triggers(db: sqlite3.Connection, table: Table, search: Search) -> None:
    """Let SQLite keep a full-text index right; one of an old kind is only filled again."""
    if is_fts5(search):
        for name, sql in _triggers(table.name, search):
            if not is_taken(db, name):
                db.execute(sql)


def is_fts5(search: Search) -> bool:
    """Say whether a search is of the kind that is kept right by triggers."""
    return re.search(r"USING\s+FTS5", search.sql, re.IGNORECASE) is not None


def is_own_trigger(table: str, search: Search, sql: str) -> bool:
    """Say whether a trigger is one of those that are written here for a search.

    Spaces and quotes may be others where all names are plain words: else what is a name here may
    be statements there.
    """
    if not is_fts5(search):
        return False
    own = {each for _name, each in _triggers(table, search)}
    names = (table, search.name, *search.columns)
    if all(_PLAIN.fullmatch(each) for each in names):
        return _normal(sql) in {_normal(each) for each in own}
    return sql in own


def rebuild_search(db: sqlite3.Connection, search: Search) -> None:
    """Fill a full-text index from its table."""
    name = quote(search.name)
    db.execute(f"INSERT INTO main.{name} ({name}) VALUES ('rebuild')")  # noqa: S608


def drop_search(db: sqlite3.Connection, table: Table, search: Search) -> None:
    """Remove a full-text index, and its triggers."""
    for name, _sql in _read_triggers(db, table, search):
        db.execute(f"DROP TRIGGER main.{quote(name)}")
    db.execute(f"DROP TABLE main.{quote(search.name)}")


def refresh_search(db: sqlite3.Connection, table: Table) -> None:
    """Fill the full-text indexes of a changed table again that no triggers keep right."""
    for search in find_searches(db, table):
        if len(_read_triggers(db, table, search)) < _KINDS:
            rebuild_search(db, search)


def _read_triggers(db: sqlite3.Connection, table: Table, search: Search) -> list[tuple[str, str]]:
    """Give name and SQL of a live table's triggers that name a search."""
    query = (
        "SELECT name, sql FROM main.sqlite_schema WHERE type = 'trigger' "
        "AND tbl_name = ? COLLATE NOCASE AND instr(lower(sql), lower(?))"
    )
    return list(db.execute(query, (table.name, search.name)).fetchall())


def _normal(sql: str) -> str:
    """Give SQL without what may be written in several ways: quotes of words, spaces, case."""
    unquoted = re.sub(r'"(\w+)"|\[(\w+)\]|`(\w+)`', r"\1\2\3", sql)
    return re.sub(r"\s*([(),;])\s*", r"\1", " ".join(unquoted.split())).lower()


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
