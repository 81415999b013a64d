"""Make one staging database of several: tables that are called the same are told apart, or united.

United tables have all columns of all of them, by name; what a table lacks is NULL. A column has a
type that holds the values of all: INTEGER with REAL becomes REAL if that is exact, anything else
that differs TEXT. Files whose numbers go there are converted again, so that these are texts as the
files write them; those that have types of their own give the shortest text of a number.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.errors import Refusal
from headrace.names import free_name, quote_identifier
from ingest.converters import REJECTS, TableRows
from ingest.converters.lossless import MAX_EXACT_INTEGER
from ingest.converters.staging import MAX_COLUMNS, open_staging

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


_NUMBERS = frozenset({"INTEGER", "REAL"})
_AS_TEXT = "CASE typeof({0}) WHEN 'real' THEN shortest_text({0}) ELSE {0} END"


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A staging database that was made of one file.

    Attributes:
        path: Where it lies; its tables may be renamed there.
        tables: Its tables.
        origin: The file's name, for warnings.
    """

    path: Path
    tables: tuple[TableRows, ...]
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A table to be copied, with its columns' names and types."""

    path: Path
    table: str
    columns: list[tuple[str, str]]


@dataclass(slots=True, kw_only=True)
class _Target:
    """A table to be made, out of one table or of several."""

    name: str
    rows: int = 0
    parts: list[_Part] = field(default_factory=list)
    columns: dict[str, tuple[str, str]] = field(default_factory=dict)  # by lower name: name, type

    def add(self, part: _Part) -> None:
        """Add a table that goes into it."""
        for name, declared in part.columns:
            known = self.columns.setdefault(name.lower(), (name, declared))
            self.columns[name.lower()] = (known[0], _join_types(known[1], declared))
        self.parts.append(part)

    def type_of(self, column: str) -> str:
        """Give the type that a column gets, upper case."""
        return self.columns[column.lower()][1].upper()


def find_joined_texts(staged: Sequence[Staged]) -> dict[Path, dict[str, frozenset[str]]]:
    """Find the numbers that would go into columns with texts of others, if tables are united.

    Returns:
        Names of columns, in lower case, by the staging database and the table, as they are there.

    Raises:
        Refusal: ``invalid-file``: a database has virtual tables.
    """
    targets = _plan_all(staged, [], unite=True)
    found: dict[Path, dict[str, frozenset[str]]] = {}
    for name, target in targets.items():
        for part in target.parts:
            columns = frozenset(
                column.lower()
                for column, kind in part.columns
                if kind.upper() in _NUMBERS and target.type_of(column) == "TEXT"
            )
            if columns:
                found.setdefault(part.path, {})[name] = columns
    return found


def combine(
    staged: Sequence[Staged], output: Path, *, unite: bool
) -> tuple[tuple[TableRows, ...], list[str]]:
    """Copy all tables into a new staging database.

    Args:
        staged: Where they come from.
        output: The database to create.
        unite: Whether tables of the same name become one; else each but the first gets a new name.

    Returns:
        The tables with their rows, and warnings.

    Raises:
        Refusal: ``invalid-file``: a database has virtual tables; ``limit-exceeded``: columns.
    """
    warnings: list[str] = []
    targets = _plan_all(staged, warnings, unite=unite)
    with open_staging(output) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        for target in targets.values():
            _check_width(target)
            _copy(connection, target, warnings)
        for each in staged:
            _copy_others(connection, each, warnings)
    made = tuple(TableRows(name=target.name, rows=target.rows) for target in targets.values())
    return made, warnings


def _plan_all(staged: Sequence[Staged], warnings: list[str], *, unite: bool) -> dict[str, _Target]:
    """Find where the tables of all databases go, and what types their columns get."""
    targets: dict[str, _Target] = {}
    for each in staged:
        with closing(_open(each.path)) as source:
            _plan(source, each, targets, warnings, unite=unite)
    for target in targets.values():
        for key, (name, declared) in target.columns.items():
            target.columns[key] = (name, _exact_type(target, name, declared))
    return targets


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _plan(
    source: sqlite3.Connection,
    staged: Staged,
    targets: dict[str, _Target],
    warnings: list[str],
    *,
    unite: bool,
) -> None:
    """Find where each table of a database goes."""
    if source.execute("SELECT 1 FROM sqlite_schema WHERE sql LIKE 'CREATE VIRTUAL%'").fetchone():
        raise Refusal(
            "invalid-file",
            f"{staged.origin!r} has virtual tables, which cannot be mixed with other files'",
            hint="send it alone",
        )
    renamed: dict[str, str] = {}
    for table in staged.tables:
        of_table = table.name.removesuffix(REJECTS)
        wanted = f"{renamed[of_table]}{REJECTS}" if of_table in renamed else table.name
        name = wanted if unite else free_name(wanted, targets)
        if name != table.name:
            renamed[table.name] = name
            source.execute(
                f"ALTER TABLE {quote_identifier(table.name)} RENAME TO {quote_identifier(name)}"
            )
            warnings.append(f"{staged.origin}: table {table.name!r} was renamed to {name!r}")
        target = targets.setdefault(name.lower(), _Target(name=name))
        found = source.execute("SELECT name, type FROM pragma_table_info(?)", (name,)).fetchall()
        target.add(_Part(path=staged.path, table=name, columns=found))
        target.rows += table.rows


def _copy(connection: sqlite3.Connection, target: _Target, warnings: list[str]) -> None:
    """Make a table, and fill it from all that it is made of."""
    table = quote_identifier(target.name)
    connection.create_function("shortest_text", 1, repr, deterministic=True)
    for number, part in enumerate(target.parts):
        connection.execute("ATTACH ? AS source", (str(part.path),))
        if number == 0:
            connection.execute(_create_statement(connection, target, warnings))
        listed = ", ".join(quote_identifier(name) for name, _ in part.columns)
        # SQLite itself would keep 15 digits of a real that goes into a column of texts.
        values = ", ".join(
            _AS_TEXT.format(quote_identifier(name))
            if target.type_of(name) == "TEXT" != kind.upper()
            else quote_identifier(name)
            for name, kind in part.columns
        )
        connection.execute(
            f"INSERT INTO main.{table} ({listed})"  # noqa: S608 - quoted
            f" SELECT {values} FROM source.{quote_identifier(part.table)}"
        )
        connection.execute("DETACH source")


def _create_statement(connection: sqlite3.Connection, target: _Target, warnings: list[str]) -> str:
    """Give the SQL that makes a table: its own where it is made of one alone."""
    if len(target.parts) == 1:
        own: str = connection.execute(
            "SELECT sql FROM source.sqlite_schema WHERE type = 'table' AND lower(name) = lower(?)",
            (target.name,),
        ).fetchone()[0]
        return own
    if any(len(part.columns) != len(target.columns) for part in target.parts):
        warnings.append(
            f"table {target.name!r}: not all files have all of its {len(target.columns)} columns;"
            " what a file lacks is NULL"
        )
    declared = ", ".join(
        f"{quote_identifier(name)} {kind}" for name, kind in target.columns.values()
    )
    return f"CREATE TABLE {quote_identifier(target.name)} ({declared})"


def _exact_type(target: _Target, column: str, declared: str) -> str:
    """Give a column's type: TEXT where it has integers that would not be exact as REAL."""
    if declared != "REAL":
        return declared
    for part in target.parts:
        kinds = {name.lower(): kind.upper() for name, kind in part.columns}
        if kinds.get(column.lower()) != "INTEGER":
            continue
        with closing(_open(part.path)) as source:
            inexact = source.execute(
                f"SELECT 1 FROM {quote_identifier(part.table)}"  # noqa: S608 - quoted
                f" WHERE {quote_identifier(column)} NOT BETWEEN ? AND ? LIMIT 1",
                (-MAX_EXACT_INTEGER, MAX_EXACT_INTEGER),
            ).fetchone()
        if inexact:
            return "TEXT"
    return declared


def _join_types(first: str, second: str) -> str:
    """Give a type that holds the values of both."""
    if first.upper() == second.upper():
        return first
    return "REAL" if {first.upper(), second.upper()} == {"INTEGER", "REAL"} else "TEXT"


def _copy_others(connection: sqlite3.Connection, staged: Staged, warnings: list[str]) -> None:
    """Copy indexes, views and triggers; what does not fit any more is left out."""
    with closing(_open(staged.path)) as source:
        others = source.execute(
            "SELECT type, name, sql FROM sqlite_schema WHERE type <> 'table' AND sql IS NOT NULL"
            " ORDER BY type = 'trigger', rowid"
        ).fetchall()
    for kind, name, sql in others:
        try:
            connection.execute(sql)
        except sqlite3.Error:
            warnings.append(f"{staged.origin}: {kind} {name!r} was left out")


def _check_width(target: _Target) -> None:
    if len(target.columns) > MAX_COLUMNS:
        raise Refusal(
            "limit-exceeded",
            f"the table {target.name!r} would have more than {MAX_COLUMNS:,} columns",
            extra={"limit": "columns"},
        )
