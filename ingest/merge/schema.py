"""What a table is: its columns, its key, how its rows are addressed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.names import quote_identifier as quote

if TYPE_CHECKING:
    import sqlite3

NUMERIC = frozenset({"INTEGER", "REAL", "NUMERIC"})
_ROWID_NAMES = ("rowid", "_rowid_", "oid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column that is stored.

    Attributes:
        name: As it is written in the table.
        type: As it is declared, upper case; empty if it is not.
        key: Its position in the primary key, from 1; 0: it is no part of it.
        default: The SQL of what rows have that say nothing; None: NULL.
    """

    name: str
    type: str
    key: int
    default: str | None = None

    @property
    def affinity(self) -> str:
        """TEXT, INTEGER, REAL, NUMERIC or BLOB.

        Source: sqlite.org/datatype3.html, 3.1.
        """
        for affinity, parts in (
            ("INTEGER", ("INT",)),
            ("TEXT", ("CHAR", "CLOB", "TEXT")),
            ("BLOB", ("BLOB", "ANY")),
            ("REAL", ("REAL", "FLOA", "DOUB")),
        ):
            if any(part in self.type for part in parts):
                return affinity
        return "NUMERIC" if self.type else "BLOB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """An ordinary table of one of the attached databases.

    Attributes:
        schema: ``main`` or ``staging``.
        name: As it is written there.
        sql: What made it.
        columns: Without generated ones.
        key: Names of the primary key's columns, in its order.
        strict: Whether SQLite checks its types.
        rowid: The name that its rowids can be asked by; None if there is none.
        generated: Names of its generated columns.
    """

    schema: str
    name: str
    sql: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    strict: bool
    rowid: str | None
    generated: tuple[str, ...]

    @property
    def quoted(self) -> str:
        """Its name for SQL."""
        return f"{self.schema}.{quote(self.name)}"

    @property
    def address(self) -> tuple[str, ...]:
        """The columns that say which row it is, for SQL."""
        return (self.rowid,) if self.rowid else tuple(quote(name) for name in self.key)

    @property
    def rowid_is_key(self) -> bool:
        """Whether its key is another name of the rowid."""
        return (
            self.rowid is not None
            and len(self.key) == 1
            and self.column(self.key[0]).type == "INTEGER"
        )

    def find_column(self, name: str) -> Column | None:
        """Find a column; SQLite ignores the case of ASCII letters."""
        return next((each for each in self.columns if each.name.lower() == name.lower()), None)

    def column(self, name: str) -> Column:
        """Give a column that is there."""
        found = self.find_column(name)
        if found is None:
            raise KeyError(name)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An index that somebody made.

    Attributes:
        name: Its name.
        sql: What made it.
        unique: Whether it forbids equal rows.
        columns: What it is over; None for an expression, or if it leaves rows out.
    """

    name: str
    sql: str
    unique: bool
    columns: tuple[str, ...] | None


def find_table(db: sqlite3.Connection, schema: str, name: str) -> Table | None:
    """Read what a table is; None if there is no ordinary table of that name."""
    query = (
        f"SELECT name, sql FROM {schema}.sqlite_schema "  # noqa: S608
        "WHERE type = 'table' AND rootpage > 0 AND name = ? COLLATE NOCASE"
    )
    found = db.execute(query, (name,)).fetchone()
    if found is None:
        return None
    name, sql = found
    wide = db.execute(
        "SELECT wr, strict FROM pragma_table_list WHERE schema = ? AND name = ?", (schema, name)
    ).fetchone()
    rows = db.execute(
        "SELECT name, upper(type), pk, hidden, dflt_value FROM pragma_table_xinfo(?, ?)",
        (name, schema),
    ).fetchall()
    columns = tuple(
        Column(name=row[0], type=row[1], key=row[2], default=row[4]) for row in rows if row[3] == 0
    )
    names = {row[0].lower() for row in rows}
    rowids = [] if wide[0] else [each for each in _ROWID_NAMES if each not in names]
    return Table(
        schema=schema,
        name=name,
        sql=sql,
        columns=columns,
        key=tuple(each.name for each in sorted(columns, key=lambda each: each.key) if each.key),
        strict=bool(wide[1]),
        rowid=rowids[0] if rowids else None,
        generated=tuple(row[0] for row in rows if row[3]),
    )


def find_taken(db: sqlite3.Connection, name: str) -> str | None:
    """Say what other than an ordinary table has this name in the live database.

    Returns:
        ``view``, ``index``, ``virtual table``, ``part of a virtual table``; None: nothing has.
    """
    kinds = {"shadow": "part of a virtual table", "virtual": "virtual table", "view": "view"}
    query = "SELECT type FROM pragma_table_list WHERE schema = 'main' AND name = ? COLLATE NOCASE"
    for (kind,) in db.execute(query, (name,)).fetchall():
        return kinds.get(kind)
    query = "SELECT 1 FROM main.sqlite_schema WHERE type = 'index' AND name = ? COLLATE NOCASE"
    return "index" if db.execute(query, (name,)).fetchone() else None


def get_table(db: sqlite3.Connection, schema: str, name: str) -> Table:
    """Read what a table is that is there."""
    found = find_table(db, schema, name)
    if found is None:
        raise KeyError(name)
    return found


def read_indexes(db: sqlite3.Connection, table: Table) -> list[Index]:
    """Read the indexes of a table that are not part of its own definition."""
    query = (
        f'SELECT stored.name, stored.sql, listed."unique", listed.partial '  # noqa: S608
        f"FROM pragma_index_list(?, ?) AS listed JOIN {table.schema}.sqlite_schema AS stored "
        "ON stored.name = listed.name AND stored.type = 'index' "
        "WHERE stored.sql IS NOT NULL ORDER BY stored.rowid"
    )
    indexes = []
    for name, sql, unique, partial in db.execute(query, (table.name, table.schema)).fetchall():
        parts = db.execute("SELECT name FROM pragma_index_info(?, ?)", (name, table.schema))
        columns = tuple(row[0] for row in parts)
        plain = not partial and None not in columns
        indexes.append(
            Index(name=name, sql=sql, unique=bool(unique), columns=columns if plain else None)
        )
    return indexes


def read_indexed_columns(db: sqlite3.Connection, table: Table) -> tuple[set[str], set[str]]:
    """Give the columns that are in an index, and those of them that are in a unique one.

    An index over expressions, or of a part of the rows, counts as one over all columns.
    """
    indexed: set[str] = set()
    of_unique: set[str] = set()
    query = 'SELECT name, "unique", partial, origin FROM pragma_index_list(?, ?)'
    for name, unique, partial, origin in db.execute(query, (table.name, table.schema)).fetchall():
        if origin == "pk":
            continue
        parts = db.execute("SELECT name FROM pragma_index_info(?, ?)", (name, table.schema))
        columns = {row[0] for row in parts.fetchall()}
        if partial or None in columns:
            columns = {each.name for each in table.columns}
        indexed |= columns
        if unique:
            of_unique |= columns
    return indexed, of_unique


def may_replace(sql: str) -> bool:
    """Say whether a table may be one that removes rows for others (``ON CONFLICT REPLACE``).

    SQLite does not say how many it removed.
    """
    return "replace" in sql.lower()


def count_rows(db: sqlite3.Connection, table: Table) -> int:
    """Count a table's rows."""
    return int(ask(db, f"SELECT count(*) FROM {table.quoted}"))  # noqa: S608


def ask(db: sqlite3.Connection, query: str, parameters: tuple[Any, ...] = ()) -> Any:
    """Give the one value that a query asks for."""
    return db.execute(query, parameters).fetchone()[0]


def is_taken(db: sqlite3.Connection, name: str) -> bool:
    """Say whether the live database has a table, index, view or trigger of this name."""
    query = "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE name = ? COLLATE NOCASE)"
    return bool(ask(db, query, (name,)))
