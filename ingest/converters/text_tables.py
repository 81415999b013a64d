"""Tables whose values are texts and whose rows come in any order: loaded as they come, typed last.

Rows wait in temporary tables, so a file is read once and nothing but a batch is held in memory,
however many tables it has and however late a column or a value that is no number turns up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.errors import Refusal
from headrace.names import MAX_TABLE_NAME, allowed_table_name, free_name, quote_identifier
from ingest.converters import TableRows
from ingest.converters.lossless import MAX_EXACT_INTEGER, parse_integer, parse_real
from ingest.converters.staging import MAX_COLUMNS, Kind, create_table, unique_columns

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

    from ingest.converters import Conversion

MAX_TABLES = 1000
_BATCH_ROWS = 2000
_FIRST_PLACES = 16  # columns
_BATCH_CHARACTERS = 4 * 1024 * 1024


@dataclass(slots=True)
class _Column:
    """A column, as far as it is known."""

    number: int
    kind: Kind = Kind.EMPTY
    has_empty: bool = False  # '' is among its values
    has_large: bool = False  # an integer that no double holds is among them


@dataclass(slots=True)
class _Table:
    """A table, and the rows that wait to be written."""

    number: int
    columns: dict[str, _Column] = field(default_factory=dict)
    places: int = 0  # columns of the temporary table: some more than are used
    waiting: list[Mapping[str, str | None]] = field(default_factory=list)
    rows: int = 0


class TextTables:
    """Tables that a converter fills row by row.

    Attributes:
        rows: How many there are in all of them.
    """

    def __init__(self, connection: sqlite3.Connection, conversion: Conversion) -> None:
        """Begin with no table.

        Args:
            connection: The staging database.
            conversion: Of its wishes, ``types`` (text only: the rest is found) and ``empty`` are
                heeded.
        """
        self._connection = connection
        self._conversion = conversion
        self._wishes = conversion.wishes
        self._tables: dict[str, _Table] = {}
        self._waiting_rows = 0
        self._waiting_characters = 0
        self.rows = 0
        connection.create_function("as_real", 1, float, deterministic=True)
        connection.execute("BEGIN")

    def add(self, table: str, record: Mapping[str, str | None]) -> None:
        """Add a row; keys that are new become columns. A key that is missing is NULL.

        Raises:
            Refusal: ``limit-exceeded``: too many tables or columns; ``invalid-file``: no Unicode.
        """
        found = self._tables.get(table)
        if found is None:
            if len(self._tables) == MAX_TABLES:
                raise Refusal(
                    "limit-exceeded",
                    f"the file has more than {MAX_TABLES:,} tables",
                    extra={"limit": "tables"},
                )
            found = self._tables[table] = _Table(number=len(self._tables))
        found.waiting.append(record)
        found.rows += 1
        self.rows += 1
        self._waiting_rows += 1
        self._waiting_characters += sum(map(len, filter(None, record.values())))
        if self._waiting_rows >= _BATCH_ROWS or self._waiting_characters >= _BATCH_CHARACTERS:
            self._write()

    def finish(
        self,
        names: Mapping[str, str],
        *,
        column_names: Callable[[Sequence[str]], list[str]] = list,
    ) -> tuple[tuple[TableRows, ...], list[str]]:
        """Write the tables with the types that all of their values allow.

        Args:
            names: The name that each table would like to have, in the order of the output.
            column_names: Gives the names that the keys of a table would like to have.

        Returns:
            The tables, and warnings about names.

        Raises:
            Refusal: ``no-rows``.
        """
        self._write()
        made: list[TableRows] = []
        warnings: list[str] = []
        for key, wanted in names.items():
            table = self._tables.get(key)
            if table is None:
                continue
            if not table.columns:
                warnings.append(f"table {wanted[:MAX_TABLE_NAME]!r} was left out: it has no values")
                continue
            taken = {other.name.lower() for other in made}
            name = free_name(allowed_table_name(wanted), taken)
            if name != wanted:
                warnings.append(f"table {wanted[:MAX_TABLE_NAME]!r} was renamed to {name!r}")
            columns, renamed = unique_columns(column_names(list(table.columns)), table=name)
            warnings += renamed
            self._write_typed(table, name, columns)
            made.append(TableRows(name=name, rows=table.rows))
        self._connection.execute("COMMIT")
        if not made:
            raise Refusal("no-rows", "the file holds no rows")
        return tuple(made), warnings

    def _write(self) -> None:
        """Write the rows that wait, as texts, and widen the kinds of their columns."""
        try:
            for table in self._tables.values():
                if table.waiting:
                    self._write_table(table)
        except UnicodeEncodeError as exc:
            raise Refusal(
                "invalid-file", "a text holds half of a surrogate pair, which is no character"
            ) from exc
        self._waiting_rows = self._waiting_characters = 0

    def _write_table(self, table: _Table) -> None:
        for record in table.waiting:
            for key in record:
                if key not in table.columns:
                    self._add_column(table, key)
        values = []
        for key, column in table.columns.items():
            texts = [record.get(key) for record in table.waiting]
            _widen(column, texts)
            values.append(texts)
        if not values:  # so far there are only rows without any value
            values.append([None] * len(table.waiting))
        if len(values) > table.places:
            self._widen_table(table, len(values))
        names = ", ".join(f'"c{number}"' for number in range(len(values)))
        marks = ", ".join("?" * len(values))
        self._connection.executemany(
            f'INSERT INTO temp."texts{table.number}" ({names}) VALUES ({marks})',  # noqa: S608
            zip(*values, strict=True),
        )
        table.waiting.clear()

    def _add_column(self, table: _Table, key: str) -> None:
        number = len(table.columns)
        if number == MAX_COLUMNS:
            raise Refusal(
                "limit-exceeded",
                f"a table would have more than {MAX_COLUMNS:,} columns",
                extra={"limit": "columns"},
            )
        table.columns[key] = _Column(number=number)

    def _widen_table(self, table: _Table, wanted: int) -> None:
        """Make room for twice as many columns: to add each alone costs more and more."""
        name = f'temp."texts{table.number}"'
        old = table.places
        table.places = min(max(wanted, 2 * old, _FIRST_PLACES), MAX_COLUMNS)
        places = ", ".join(f'"c{number}"' for number in range(table.places))
        if old:
            self._connection.execute(f'ALTER TABLE {name} RENAME TO "narrow"')
        self._connection.execute(f"CREATE TABLE {name} ({places})")
        if old:
            kept = ", ".join(f'"c{number}"' for number in range(old))
            self._connection.execute(
                f"INSERT INTO {name} ({kept}) SELECT {kept} FROM temp.narrow ORDER BY rowid"  # noqa: S608
            )
            self._connection.execute("DROP TABLE temp.narrow")

    def _write_typed(self, table: _Table, name: str, columns: Sequence[str]) -> None:
        kinds = [
            Kind.TEXT
            if self._conversion.stays_text(name, columns[column.number])
            else self._kind(column, key, columns[column.number])
            for key, column in table.columns.items()
        ]
        create_table(self._connection, name, columns, kinds)
        chosen = ", ".join(self._expression(number, kind) for number, kind in enumerate(kinds))
        self._connection.execute(
            f"INSERT INTO main.{quote_identifier(name)}"  # noqa: S608 - quoted
            f' SELECT {chosen} FROM temp."texts{table.number}" ORDER BY rowid'
        )
        self._connection.execute(f'DROP TABLE temp."texts{table.number}"')

    def _kind(self, column: _Column, key: str, name: str) -> Kind:
        """Give the kind that a column gets."""
        if "text" in (self._wishes.types.get(name), self._wishes.types.get(key)):
            return Kind.TEXT
        if column.has_empty and self._wishes.empty == "text":
            return Kind.TEXT
        return column.kind

    def _expression(self, number: int, kind: Kind) -> str:
        """Give the SQL that turns a text into a value of a kind."""
        text = f'"c{number}"'
        if kind is Kind.INTEGER:
            return f"CAST(nullif({text}, '') AS INTEGER)"
        if kind is Kind.REAL:  # SQLite's own reading of decimals may be off by a bit
            return f"CASE WHEN {text} <> '' THEN as_real({text}) END"
        return f"nullif({text}, '')" if self._wishes.empty == "null" else text


def _widen(column: _Column, texts: list[str | None]) -> None:
    """Widen a column's kind until it fits more texts; '' and NULL fit any."""
    if "" in texts:
        column.has_empty = True
    for text in texts:
        if not text:
            continue
        if column.kind is Kind.TEXT:
            return
        integer = parse_integer(text)
        if integer is not None:
            column.has_large = column.has_large or abs(integer) > MAX_EXACT_INTEGER
            wanted = Kind.REAL if column.kind is Kind.REAL else Kind.INTEGER
        else:
            wanted = Kind.TEXT if parse_real(text) is None else Kind.REAL
        column.kind = Kind.TEXT if wanted is Kind.REAL and column.has_large else wanted
