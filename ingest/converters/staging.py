"""The staging database: how it is created, how its columns are named and typed, how rows go in."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from enum import Enum
from itertools import chain
from typing import TYPE_CHECKING, Any

from headrace.errors import Refusal
from headrace.names import MAX_COLUMN_NAME, quote_identifier, without_brackets
from ingest.converters.json_text import encode_json
from ingest.converters.lossless import MAX_EXACT_INTEGER, MAX_INTEGER, MIN_INTEGER

if TYPE_CHECKING:
    from pathlib import Path

MAX_ROW_BYTES = 64 * 1024 * 1024  # readers ask for each table before they serve it, and show rows
MAX_COLUMNS = 2000  # SQLite's default SQLITE_MAX_COLUMN
MAX_WARNINGS = 20  # about names; the rest is counted
PAGE_BYTES = 4096
# A staging database is either finished or thrown away: nothing in it needs to be safe meanwhile.
PRAGMAS = ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE")

Record = Mapping[str, Any]
Batches = Callable[[], Iterable[Sequence[Record]]]  # each call reads the records from their start


class Kind(Enum):
    """What a column holds, as far as its values are known."""

    EMPTY = "no value yet"
    BOOLEAN = "truth values, as 1 and 0"
    INTEGER = "integers"
    REAL = "numbers that a double holds without loss"
    TEXT = "texts"
    BLOB = "bytes"
    MIXED = "values of several types, each as its JSON text"

    @property
    def sql_type(self) -> str:
        """The type that the column is declared with."""
        if self is Kind.BOOLEAN:
            return "INTEGER"
        return self.name if self in (Kind.INTEGER, Kind.REAL, Kind.BLOB) else "TEXT"


@contextmanager
def open_staging(path: Path) -> Iterator[sqlite3.Connection]:
    """Create a staging database, or open the one that is there, and close it complete."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_ROW_BYTES)
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        for pragma in PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        yield connection


def create_table(
    connection: sqlite3.Connection,
    table: str,
    columns: Sequence[str],
    kinds: Sequence[Kind],
    *,
    strict: bool = False,
) -> None:
    """Create an empty table."""
    declared = ", ".join(
        f"{quote_identifier(column)} {kind.sql_type}"
        for column, kind in zip(columns, kinds, strict=True)
    )
    ending = " STRICT" if strict else ""
    connection.execute(f"CREATE TABLE {quote_identifier(table)} ({declared}){ending}")


def insert_statement(table: str, columns: int) -> str:
    """Give the SQL that inserts one row."""
    marks = ", ".join("?" * columns)
    return f"INSERT INTO {quote_identifier(table)} VALUES ({marks})"  # noqa: S608 - quoted


def unique_columns(names: Sequence[str], *, table: str) -> tuple[list[str], list[str]]:
    """Make column names that SQLite takes; names that are fine stay as they are.

    Returns:
        The names, and a warning for each that was changed; after ``MAX_WARNINGS`` their count.

    Raises:
        Refusal: ``limit-exceeded``: more than ``MAX_COLUMNS``; ``no-rows``: none at all.
    """
    if not names:
        raise Refusal("no-rows", f"the table {table!r} would have no columns")
    if len(names) > MAX_COLUMNS:
        raise Refusal(
            "limit-exceeded",
            f"the table {table!r} would have more than {MAX_COLUMNS:,} columns",
            extra={"limit": "columns"},
        )
    # A name that is taken as it stands is not given away to an earlier column that needs a new one.
    reserved = {name.lower() for name in names}
    taken: set[str] = set()
    unique: list[str] = []
    for position, name in enumerate(names, start=1):
        fitting = _fitting(name) or f"column_{position}"
        column = fitting
        suffix = 2
        while column.lower() in taken or (column != name and column.lower() in reserved):
            column = f"{fitting[: MAX_COLUMN_NAME - 8]}_{suffix}"
            suffix += 1
        taken.add(column.lower())
        unique.append(column)
    return unique, _rename_warnings(names, unique, table)


def load_records(
    connection: sqlite3.Connection,
    table: str,
    batches: Batches,
    *,
    stays_text: Callable[[str], bool],
    again: Callable[[], None],
) -> tuple[int, list[str]]:
    """Load records into a new table; their keys become columns, in the order they are first seen.

    The types of the first batch are taken for those of all. When a later value does not fit, the
    rest is only looked at, and everything is loaded again with types that fit all of it.

    Args:
        connection: The staging database.
        table: The table's name.
        batches: The records.
        stays_text: Says of a column whether it holds texts, whatever the types of its values.
        again: Called before they are read once more.

    Returns:
        The number of rows, and warnings about names.

    Raises:
        Refusal: ``no-rows``, ``limit-exceeded`` (columns), ``invalid-file`` (a text is no Unicode).
    """
    first = next(iter(batches()), None)
    if not first:
        raise Refusal("no-rows", f"there are no rows for the table {table!r}")
    kinds, _ = type_records({}, first)
    while True:
        columns, warnings = unique_columns(list(kinds), table=table)
        kinds = keep_texts(kinds, columns, stays_text)
        try:
            create_table(connection, table, columns, list(kinds.values()))
            rows, needed = _load_while_fitting(connection, table, batches, kinds)
        except UnicodeEncodeError as exc:
            raise half_character() from exc
        if needed == kinds:
            return rows, warnings
        connection.execute(f"DROP TABLE {quote_identifier(table)}")
        kinds = needed
        again()


def keep_texts(
    kinds: Mapping[str, Kind], columns: Iterable[str], stays_text: Callable[[str], bool]
) -> dict[str, Kind]:
    """Give the kinds of columns, where those that stay text take any value as its text."""
    return {
        key: Kind.MIXED if stays_text(column) else kind
        for (key, kind), column in zip(kinds.items(), columns, strict=True)
    }


def half_character() -> Refusal:
    """Give the refusal of a text that UTF-8 has no form for."""
    return Refusal("invalid-file", "a text holds half of a surrogate pair, which is no character")


def _load_while_fitting(
    connection: sqlite3.Connection, table: str, batches: Batches, kinds: dict[str, Kind]
) -> tuple[int, dict[str, Kind]]:
    """Insert batches as long as the kinds hold; return the rows and the kinds that all need."""
    statement = insert_statement(table, len(kinds))
    needed = kinds
    rows = 0
    connection.execute("BEGIN")
    for batch in batches():
        needed, columns = type_records(needed, batch)
        if needed != kinds:
            continue
        connection.executemany(statement, zip(*columns, strict=True))
        rows += len(batch)
    connection.execute("COMMIT")
    return rows, needed


def type_records(
    kinds: dict[str, Kind], batch: Sequence[Record]
) -> tuple[dict[str, Kind], list[list[Any]]]:
    """Widen the kinds until they fit a batch, and give its columns as those kinds."""
    keys = {**kinds, **dict.fromkeys(chain.from_iterable(batch), Kind.EMPTY), **kinds}
    if len(keys) > MAX_COLUMNS:
        raise Refusal(
            "limit-exceeded",
            f"the records have more than {MAX_COLUMNS:,} different keys",
            extra={"limit": "columns"},
        )
    needed: dict[str, Kind] = {}
    columns: list[list[Any]] = []
    for key, kind in keys.items():
        values = [record.get(key) for record in batch]
        needed[key] = _join_kind(kind, values)
        columns.append(encode_values(values, needed[key]))
    return needed, columns


def _join_kind(kind: Kind, values: list[Any]) -> Kind:
    """Widen a kind until it fits the values as well."""
    types = set(map(type, values))
    types.discard(type(None))
    if kind is Kind.MIXED or not types:
        return kind
    if types in ({str}, {bool}):
        alone = Kind.TEXT if types == {str} else Kind.BOOLEAN
        return alone if kind in (Kind.EMPTY, alone) else Kind.MIXED
    if kind in (Kind.TEXT, Kind.BOOLEAN) or not types <= {int, float}:  # true is not 1
        return Kind.MIXED
    integers = [value for value in values if isinstance(value, int)]
    if not all(MIN_INTEGER <= value <= MAX_INTEGER for value in integers):
        return Kind.MIXED
    if float not in types and kind is not Kind.REAL:
        return Kind.INTEGER
    exact = all(abs(value) <= MAX_EXACT_INTEGER for value in integers)
    return Kind.REAL if exact else Kind.MIXED


def encode_values(values: list[Any], kind: Kind) -> list[Any]:
    """Turn values into what SQLite stores in a column of this kind."""
    if kind is not Kind.MIXED:
        return values
    return [
        value if value is None or isinstance(value, str) else encode_json(value) for value in values
    ]


def _fitting(name: str) -> str:
    """Give the name without what SQLite or Datasette cannot keep; empty if nothing is left."""
    if not name.strip():
        return ""
    return without_brackets(name.replace("\0", ""))[:MAX_COLUMN_NAME]


def _rename_warnings(names: Sequence[str], unique: Sequence[str], table: str) -> list[str]:
    """Say which names were changed."""
    changed = [
        (position, old, new)
        for position, (old, new) in enumerate(zip(names, unique, strict=True), start=1)
        if old != new
    ]
    warnings = [
        f"table {table!r}: column {position} was renamed from {old[:MAX_COLUMN_NAME]!r} to {new!r}"
        for position, old, new in changed[:MAX_WARNINGS]
    ]
    if len(changed) > MAX_WARNINGS:
        rest = len(changed) - MAX_WARNINGS
        warnings.append(f"table {table!r}: {rest:,} more columns were renamed")
    return warnings
