"""Bad rows that were left out: kept in a table beside the one that they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.names import quote_identifier
from ingest.converters import REJECTS, TableRows
from ingest.converters.staging import Kind, create_table, insert_statement, open_staging

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ingest.converters import Conversion
    from ingest.converters.csv_records import BadRow

REJECTS_COLUMNS = ("line", "raw", "reason")
_KINDS = (Kind.INTEGER, Kind.TEXT, Kind.TEXT)


def rejects_table(table: str) -> str:
    """Name the table that holds what a table's file had of bad rows."""
    return f"{table}{REJECTS}"


def write_rejects(path: Path, table: str, rows: Iterable[BadRow]) -> int:
    """Write bad rows into a staging database, into a table of their own; give how many.

    The table is there also when there are none: so the ones of an earlier upload are gone.
    """
    name = rejects_table(table)
    with open_staging(path) as connection:
        connection.execute(f"DROP TABLE IF EXISTS {quote_identifier(name)}")
        create_table(connection, name, REJECTS_COLUMNS, _KINDS)
        connection.execute("BEGIN")
        values = ((row.line, row.raw, row.reason) for row in rows)
        count = connection.executemany(insert_statement(name, len(_KINDS)), values).rowcount
        connection.execute("COMMIT")
    return max(0, count)


def put_aside(conversion: Conversion, rows: Iterable[BadRow]) -> tuple[TableRows, list[str]]:
    """Write the bad rows of a file into their table; give that, and a warning."""
    name = rejects_table(conversion.table)
    count = write_rejects(conversion.output, conversion.table, rows)
    return TableRows(name=name, rows=count), warn_of_rejects(count, name)


def warn_of_rejects(count: int, name: str) -> list[str]:
    """Say how many rows were left out, if any were."""
    if not count:
        return []
    rows = (
        "1 bad row was left out, and is"
        if count == 1
        else f"{count:,} bad rows were left out, and are"
    )
    return [f"{rows} in the table {name!r}"]
