"""What a rewritten SQLite file holds besides rows: what is renamed, dropped, proven or reported."""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING

from headrace.errors import Refusal
from headrace.names import INTERNAL_TABLES, quote_identifier, without_brackets
from ingest.converters.staging import MAX_ROW_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_SHOWN = 10  # names in a warning
_COLUMNS_AT_ONCE = 50  # in one condition
_NAMELESS = "table_1"  # what a table is called whose name is empty: it would have no URL

_SEARCH_MODULE = re.compile(r"\sUSING\s+[\"'`\[]?(fts[345]|rtree|rtree_i32)\b", re.IGNORECASE)

_SEARCH_OF_TABLE = re.compile(r"\sUSING\s+fts[45]\b.*\bcontent\s*=", re.IGNORECASE | re.DOTALL)

_NAME = r"(?:\"(?:[^\"]|\"\")+\"|\[[^\]]+\]|`[^`]+`|\w+)"
_VALUE = rf"\s*(?:(?:new|old)\.{_NAME}|'delete')\s*"
_LIST = rf"\(\s*{_NAME}(?:\s*,\s*{_NAME})*\s*\)"
# One statement of those that sqlite-utils and the documentation of FTS4 and FTS5 write.
_SEARCH_STATEMENT = (
    rf"\s*(?:INSERT\s+INTO\s+(?P<into>{_NAME})\s*{_LIST}\s*"
    rf"VALUES\s*\({_VALUE}(?:,{_VALUE})*\)"
    rf"|DELETE\s+FROM\s+(?P<from>{_NAME})\s+WHERE\s+(?:docid|rowid)\s*=\s*old\.{_NAME})\s*;"
)
_BODY = re.compile(r"\bBEGIN\b(?P<body>.*)\bEND\s*;?\s*$", re.IGNORECASE | re.DOTALL)
_STATEMENT = re.compile(_SEARCH_STATEMENT, re.IGNORECASE)


def drop_internal(staging: sqlite3.Connection) -> list[str]:
    """Drop the tables that Litestream and Headrace keep for themselves, and what is called so.

    Else a view with triggers could stand where the primary is to write.
    """
    warnings = []
    for kind in ("trigger", "view", "index", "table"):
        query = "SELECT name FROM sqlite_schema WHERE type = ?"
        for (name,) in staging.execute(query, (kind,)).fetchall():
            if name.lower() in INTERNAL_TABLES:
                staging.execute(f"DROP {kind} {quote_identifier(name)}")
                warnings.append(f"{kind} {name!r} was left out: it is kept for internal use")
    return warnings


def rename_unnameable(staging: sqlite3.Connection) -> list[str]:
    """Rename the tables and columns that Datasette could not name: with brackets, or no name.

    Raises:
        Refusal: ``invalid-file``: the new name is taken.
    """
    warnings = []
    names = staging.execute(
        "SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND type <> 'view'"
    ).fetchall()
    taken = {name.lower() for (name, _kind) in names}
    for name, kind in names:
        plain = without_brackets(name) or _NAMELESS
        if plain != name:
            if plain.lower() in taken:
                raise Refusal(
                    "invalid-file", f"the tables {name!r} and {plain!r} cannot both be kept"
                )
            staging.execute(
                f"ALTER TABLE {quote_identifier(name)} RENAME TO {quote_identifier(plain)}"
            )
            warnings.append(f"table {name!r} was renamed to {plain!r}")
        if kind == "table":
            warnings += _rename_columns(staging, plain)
    return warnings


def _rename_columns(staging: sqlite3.Connection, table: str) -> list[str]:
    """Rename the columns of a table that have brackets in their names."""
    warnings = []
    query = "SELECT name FROM pragma_table_xinfo(?)"
    for (name,) in staging.execute(query, (table,)).fetchall():
        plain = without_brackets(name)
        if plain == name:
            continue
        try:
            staging.execute(
                f"ALTER TABLE {quote_identifier(table)}"
                f" RENAME COLUMN {quote_identifier(name)} TO {quote_identifier(plain)}"
            )
        except sqlite3.OperationalError as exc:
            raise Refusal(
                "invalid-file",
                f"the column {name!r} of {table!r} has brackets, which Datasette cannot show,"
                f" and cannot be renamed: {exc}",
            ) from exc
        warnings.append(f"column {name!r} of {table!r} was renamed to {plain!r}")
    return warnings


def check_values(staging: sqlite3.Connection, tables: Iterable[str]) -> None:
    """Refuse values that no reader could show in time; a small database has none.

    Raises:
        Refusal: ``limit-exceeded``.
    """
    (pages,) = staging.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = staging.execute("PRAGMA page_size").fetchone()
    if pages * page_bytes <= MAX_ROW_BYTES:
        return
    for table in tables:
        query = "SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0"
        names = [quote_identifier(name) for (name,) in staging.execute(query, (table,))]
        for start in range(0, len(names), _COLUMNS_AT_ONCE):
            large = " OR ".join(
                f"length({name}) > {MAX_ROW_BYTES}"
                for name in names[start : start + _COLUMNS_AT_ONCE]
            )
            find = f"SELECT 1 FROM {quote_identifier(table)} WHERE {large} LIMIT 1"  # noqa: S608 - quoted
            try:
                found = staging.execute(find).fetchone()
            except sqlite3.DataError:  # a text, which SQLite had to read for its length
                found = (1,)
            if found:
                raise Refusal(
                    "limit-exceeded",
                    f"the table {table!r} has a value of more than {MAX_ROW_BYTES // 1024**2} MiB",
                    hint="keep such files elsewhere, and put their addresses into the table",
                    extra={"limit": "value"},
                )


def rebuild_indexes(staging: sqlite3.Connection) -> None:
    """Make all indexes again, so that each holds what its table does.

    SQLite's quick check does not compare them, and VACUUM copies them as they are. To compare them
    (``integrity_check``) takes three times as long as to make them.

    Raises:
        Refusal: ``invalid-file``: one cannot be made, or is UNIQUE and rows are not.
    """
    if not staging.execute("SELECT 1 FROM sqlite_schema WHERE type = 'index'").fetchone():
        return
    try:
        staging.execute("EXPLAIN REINDEX")
    except sqlite3.OperationalError:  # a collation that is not here: nobody can make it
        return
    staging.execute("PRAGMA journal_mode = OFF")  # what fails is thrown away
    try:
        staging.execute("REINDEX")
    except (sqlite3.OperationalError, sqlite3.IntegrityError, sqlite3.DataError) as exc:
        if exc.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise
        raise Refusal(
            "invalid-file",
            f"an index does not fit the rows of its table: {exc}",
            hint="sqlite3's .recover command may save what is left",
        ) from exc
    staging.execute("PRAGMA journal_mode = DELETE")


def check_search(staging: sqlite3.Connection) -> list[str]:
    """Prove what search and R-Tree tables keep inside; a search that is damaged is made again.

    SQLite's quick check sees their shadow tables as tables only.

    Raises:
        Refusal: ``invalid-file``: it cannot be made again.
    """
    warnings = []
    virtual = staging.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND rootpage = 0"
    ).fetchall()
    for name, sql in virtual:
        module = _SEARCH_MODULE.search(sql)
        if module is None:
            continue
        try:
            sound = _is_sound(staging, name, module[1].lower())
        except sqlite3.OperationalError:  # only what it refers to is missing
            continue
        if sound:
            continue
        try:
            _command(staging, name, "rebuild")
        except sqlite3.DatabaseError as exc:
            raise Refusal(
                "invalid-file",
                f"what the virtual table {name!r} keeps is damaged: {exc}",
                hint="drop it, and send the database again",
            ) from exc
        warnings.append(f"the search table {name!r} did not fit its rows, and was made again")
    return warnings


def _is_sound(staging: sqlite3.Connection, name: str, module: str) -> bool:
    """Let a virtual table's module check what it keeps.

    Source: sqlite.org/fts3.html and fts5.html, "integrity-check"; sqlite.org/rtree.html, 6.
    """
    if module.startswith("rtree"):
        found: str = staging.execute("SELECT rtreecheck(?)", (name,)).fetchone()[0]
        return found == "ok"
    try:
        _command(staging, name, "integrity-check")
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        return False
    return True


def _command(staging: sqlite3.Connection, name: str, command: str) -> None:
    """Give a command to a search table: by a column of its own name."""
    table = quote_identifier(name)
    staging.execute(f"INSERT INTO {table} ({table}) VALUES ('{command}')")  # noqa: S608 - quoted


def drop_unreadable(staging: sqlite3.Connection) -> list[str]:
    """Leave out virtual tables that cannot be read, and views of tables that are not there.

    Other views that cannot be read are named.

    Datasette asks every table of every database for its columns, so one whose module is not there
    would keep readers from showing any of them. Views are only prepared, never run: one may have
    no end. That shows how long it takes, but for a view of a table that is not there: another
    upload may make that.
    """
    warnings = []
    views = "SELECT name FROM sqlite_schema WHERE type = 'view'"
    for (name,) in staging.execute(views).fetchall():
        reason = _find_obstacle(staging, name)
        if reason is not None and reason.startswith("no such table"):
            staging.execute(f"DROP VIEW {quote_identifier(name)}")
            warnings.append(f"view {name!r} was left out: it cannot be read here: {reason}")
        elif reason is not None:
            warnings.append(f"view {name!r} cannot be read here: {reason}")
    virtual = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage = 0"
    for (name,) in staging.execute(virtual).fetchall():
        reason = _find_obstacle(staging, name)
        if reason is not None:
            # Only its module could drop it. Tables that it kept its rows in stay, as ordinary ones.
            staging.execute("PRAGMA writable_schema = ON")
            staging.execute("DELETE FROM sqlite_schema WHERE name = ? AND rootpage = 0", (name,))
            staging.execute("PRAGMA writable_schema = RESET")
            warnings.append(
                f"virtual table {name!r} was left out: it cannot be read here: {reason}"
            )
    return warnings


def _find_obstacle(staging: sqlite3.Connection, name: str) -> str | None:
    """Prepare to read a view or a virtual table; say why it cannot be done."""
    try:
        staging.execute(f"EXPLAIN SELECT * FROM {quote_identifier(name)}")  # noqa: S608 - quoted
    except sqlite3.OperationalError as exc:
        if "unsafe use" not in str(exc):  # what the guards forbid here, a reader may do
            return str(exc)
    return None


def check_rows(staging: sqlite3.Connection, tables: list[str]) -> None:
    """Refuse a table with a row that cannot be read: a generated column may fail, or never fit.

    Raises:
        Refusal: ``invalid-file``.
    """
    generated = "SELECT EXISTS (SELECT 1 FROM pragma_table_xinfo(?) WHERE hidden = 2)"
    for table in tables:
        (computed,) = staging.execute(generated, (table,)).fetchone()
        query = f"SELECT * FROM {quote_identifier(table)}"  # noqa: S608 - quoted
        try:
            for _ in staging.execute(query if computed else f"{query} LIMIT 1"):
                pass
        except (sqlite3.OperationalError, sqlite3.DataError) as exc:
            raise Refusal("invalid-file", f"the table {table!r} cannot be read: {exc}") from exc


def report_triggers(staging: sqlite3.Connection) -> list[str]:
    """Name the triggers that do more than to keep the search of a table up to date."""
    search = {
        name.lower()
        for name, sql in staging.execute("SELECT name, sql FROM sqlite_schema WHERE rootpage = 0")
        if _SEARCH_OF_TABLE.search(sql or "")
    }
    triggers = staging.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
    names = [name for name, sql in triggers if not is_search_trigger(sql, search)]
    if not names:
        return []
    shown = ", ".join(repr(name) for name in names[:MAX_SHOWN])
    rest = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return [f"the database has triggers, which are kept and not run here: {shown}{rest}"]


def is_search_trigger(sql: str, search_tables: set[str]) -> bool:
    """Say whether a trigger does nothing but to write its row to search tables.

    Args:
        sql: The trigger.
        search_tables: Names of virtual tables for search, lower case.
    """
    found = _BODY.search(sql)
    body = found["body"] if found else ""
    end = 0
    while match := _STATEMENT.match(body, end):
        if _unquoted(match["into"] or match["from"]).lower() not in search_tables:
            return False
        end = match.end()
    return end > 0 and not body[end:].strip()


def _unquoted(name: str) -> str:
    """Give a name without its quotes."""
    return name[1:-1].replace('""', '"') if name[0] in '"[`' else name
