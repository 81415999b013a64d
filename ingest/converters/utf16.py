"""A SQLite database of UTF-16 text as one of UTF-8: SQLite never attaches one to the other."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

from headrace.errors import Refusal
from headrace.names import quote_identifier

if TYPE_CHECKING:
    from collections.abc import Iterator

_SEQUENCES = "sqlite_sequence"
_OWN = (_SEQUENCES, "sqlite_stat1", "sqlite_stat2", "sqlite_stat3", "sqlite_stat4")
_ROWID_NAMES = ("rowid", "_rowid_", "oid")


def copy_as_utf8(source: sqlite3.Connection, copy: sqlite3.Connection) -> None:
    """Copy everything that a database holds, object by object, as SQLite's shell dumps it.

    Rows keep their rowids; virtual tables are written into the schema, with their shadow tables as
    they are; statistics are left out.

    Args:
        source: The database to copy.
        copy: A new one, empty.

    Raises:
        Refusal: ``invalid-file``: a text is no UTF-16.
    """
    copy.execute("PRAGMA encoding = 'UTF-8'")
    for pragma in ("page_size", "user_version", "application_id"):
        copy.execute(f"PRAGMA {pragma} = {source.execute(f'PRAGMA {pragma}').fetchone()[0]}")
    copy.execute("PRAGMA synchronous = OFF")
    objects = source.execute(
        "SELECT type, name, tbl_name, sql, rootpage FROM sqlite_schema ORDER BY rowid"
    ).fetchall()
    tables = [each for each in objects if each[0] == "table" and each[4]]
    copy.execute("BEGIN")
    for _kind, name, _table, sql, _page in tables:
        if name not in _OWN:
            copy.execute(sql)
    with _strict_text(source):
        for _kind, name, _table, _sql, _page in tables:
            if name not in _OWN:
                _copy_rows(source, copy, name)
        if any(name == _SEQUENCES for _kind, name, _table, _sql, _page in tables):
            copy.execute(f"DELETE FROM {_SEQUENCES}")  # what the rows have put there  # noqa: S608
            _copy_rows(source, copy, _SEQUENCES)
    for kind, _name, _table, sql, _page in objects:
        if kind == "index" and sql:
            copy.execute(sql)
    bare = [
        (kind, name, table, sql)
        for kind, name, table, sql, page in objects
        if not page and kind != "index"
    ]
    copy.execute("PRAGMA writable_schema = ON")
    copy.executemany(
        "INSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql) VALUES (?, ?, ?, 0, ?)",
        bare,
    )
    copy.execute("PRAGMA writable_schema = OFF")
    copy.execute("COMMIT")


@contextmanager
def _strict_text(source: sqlite3.Connection) -> Iterator[None]:
    """Let a text that is none be an error while the block runs: what is read here is kept."""
    lenient = source.text_factory
    source.text_factory = str
    try:
        yield
    finally:
        source.text_factory = lenient


def _copy_rows(source: sqlite3.Connection, copy: sqlite3.Connection, table: str) -> None:
    """Copy the rows of a table, with their rowids where it has some."""
    query = "SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0"
    columns = [name for (name,) in source.execute(query, (table,))]
    (without_rowid,) = source.execute(
        "SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?", (table,)
    ).fetchone()
    lower = {name.lower() for name in columns}
    rowid = next((name for name in _ROWID_NAMES if name not in lower), None)
    if rowid is not None and not without_rowid:
        columns = [rowid, *columns]
    listed = ", ".join(quote_identifier(name) for name in columns)
    marks = ", ".join("?" * len(columns))
    name = quote_identifier(table)
    try:
        copy.executemany(
            f"INSERT INTO {name} ({listed}) VALUES ({marks})",  # noqa: S608 - quoted
            source.execute(f"SELECT {listed} FROM {name}"),  # noqa: S608 - quoted
        )
    except (UnicodeDecodeError, sqlite3.OperationalError) as exc:
        raise Refusal("invalid-file", f"the table {table!r} has a text that is no UTF-16") from exc
