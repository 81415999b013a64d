"""What the tables of a live database are, as far as a write has to know."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from headrace.errors import RowsError
from headrace.names import INTERNAL_TABLES
from ingest.merge.schema import may_replace

if TYPE_CHECKING:
    import sqlite3

ROWID_NAMES = ("rowid", "_rowid_", "oid")  # sqlite.org/rowidtable.html


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One ordinary table.

    Attributes:
        name: As it is written there.
        columns: All of them.
        pks: Those of its key, in the order of the key; none: rows are told by their rowid.
        rowid: The name that reads the rowid; None: there is none.
        other_unique: Whether something besides the key must be unique.
        replaces: Whether writing to it may remove other rows.
    """

    name: str
    columns: frozenset[str]
    pks: tuple[str, ...]
    rowid: str | None
    other_unique: bool
    replaces: bool

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns by which Datasette names a row."""
        return self.pks or ("rowid",)


class Schema:
    """The tables of one database, read once in a transaction; ``forget`` after a change."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._tables: dict[str, Table] = {}

    def forget(self) -> None:
        """Read everything anew."""
        self._tables.clear()

    def has_table(self, name: str) -> bool:
        """Say whether there is a table of that very name, of any kind."""
        query = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?"
        return self._db.execute(query, (name,)).fetchone() is not None

    def get_table(self, name: str) -> Table:
        """Give a table.

        Raises:
            RowsError: There is none of that name, or it cannot be written to.
        """
        found = self._tables.get(name)
        if found is None:
            found = self._tables[name] = self._read(name)
        return found

    def _read(self, name: str) -> Table:
        query = "SELECT type, wr FROM pragma_table_list WHERE schema = 'main' AND name = ?"
        row = self._db.execute(query, (name,)).fetchone()
        if row is None or row[0] == "view" or name in INTERNAL_TABLES:
            raise RowsError("Table not found", status=HTTPStatus.NOT_FOUND)
        # Writing to a virtual table may be an order to its module; shadow tables are its own.
        # Source: Datasette 1.0a41, utils/sqlite.py, check_structured_write_table.
        if row[0] != "table" or name.lower().startswith("sqlite_"):
            raise RowsError("Structured writes require an ordinary table")
        columns = self._db.execute("SELECT name, pk FROM pragma_table_xinfo(?)", (name,)).fetchall()
        names = frozenset(column for column, _pk in columns)
        lower = {each.lower() for each in names}
        unique = "SELECT 1 FROM pragma_index_list(?) WHERE \"unique\" AND origin != 'pk'"
        sql = "SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?"
        return Table(
            name=name,
            columns=names,
            pks=tuple(each[0] for each in sorted(columns, key=lambda each: each[1]) if each[1]),
            rowid=None
            if row[1]
            else next((each for each in ROWID_NAMES if each not in lower), None),
            other_unique=self._db.execute(unique, (name,)).fetchone() is not None,
            replaces=may_replace(self._db.execute(sql, (name,)).fetchone()[0]),
        )
