"""Arrow columns into a table of a staging database, by C code."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import adbc_driver_manager
import adbc_driver_sqlite
import pyarrow as pa

from ingest.converters.staging import PRAGMAS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


def insert_batches(
    path: Path, statement: str, schema: pa.Schema, batches: Iterable[list[pa.Array]]
) -> None:
    """Insert batches of columns in one transaction.

    Args:
        path: The staging database; nobody else has it open.
        statement: The SQL that inserts one row.
        schema: What all batches have: int64, double, string or binary, in the order of the table.
        batches: Columns of the same length.
    """
    failures: list[Exception] = []

    def stream() -> Iterator[pa.RecordBatch]:
        try:
            for columns in batches:
                yield pa.RecordBatch.from_arrays(columns, schema=schema)
        except Exception as exc:
            failures.append(exc)  # the C code that asks for batches would only keep its text
            raise

    with (
        adbc_driver_sqlite.connect(str(path)) as database,
        adbc_driver_manager.AdbcConnection(database) as connection,
    ):
        for pragma in PRAGMAS:
            _pragma(connection, pragma)
        connection.set_autocommit(False)
        with adbc_driver_manager.AdbcStatement(connection) as insert:
            insert.set_sql_query(statement)
            insert.prepare()
            insert.bind_stream(pa.RecordBatchReader.from_batches(schema, stream()))
            try:
                insert.execute_update()
            except adbc_driver_manager.Error:
                if failures:
                    raise failures[0] from None
                raise
        connection.commit()


def _pragma(connection: adbc_driver_manager.AdbcConnection, pragma: str) -> None:
    """Set a pragma, and read its answer to the end."""
    with adbc_driver_manager.AdbcStatement(connection) as statement:
        statement.set_sql_query(f"PRAGMA {pragma}")
        stream, _ = statement.execute_query()
        pa.RecordBatchReader.from_stream(stream).read_all()


def one_ahead(items: Iterator[list[pa.Array]]) -> Iterator[list[pa.Array]]:
    """Give the items, and make the next one in a thread while the last one is used."""
    with ThreadPoolExecutor(1) as executor:
        coming = executor.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = executor.submit(next, items, None)
            yield item
