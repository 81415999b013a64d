"""Arrow batches of texts into a staging table: typed without loss, inserted by C code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import adbc_driver_manager
import adbc_driver_sqlite
import pyarrow as pa
import pyarrow.compute as pc

from ingest.converters.lossless import EXACT_DIGITS, REAL_PATTERN, parse_real
from ingest.converters.staging import (
    PRAGMAS,
    Kind,
    create_table,
    insert_statement,
    open_staging,
)

if TYPE_CHECKING:
    from pathlib import Path

TextBatches = Callable[[], Iterator[pa.RecordBatch]]  # each call reads the file from its start

_ARROW_TYPES = {Kind.INTEGER: pa.int64(), Kind.REAL: pa.float64()}


def load_batches(path: Path, table: str, columns: list[str], batches: TextBatches) -> int:
    """Create a staging database of one table, and load batches of text columns into it.

    The types of the first batch are taken for those of all. When a later value does not fit, the
    rest is only looked at, and everything is loaded again with types that fit all of it.

    Returns:
        The number of rows.
    """
    kinds = [Kind.EMPTY] * len(columns)
    first = next(batches(), None)
    if first is not None:
        kinds, _ = _type_batch(first, kinds)
    while True:
        path.unlink(missing_ok=True)
        with open_staging(path) as connection:
            create_table(connection, table, columns, kinds)
        load = _Load(batches, kinds)
        _insert(path, insert_statement(table, len(columns)), load)
        if load.needed == kinds:
            return load.rows
        kinds = load.needed


class _Load:
    """One pass over the file: gives typed batches as long as the kinds hold.

    Attributes:
        needed: The kinds that all batches so far need.
        rows: The rows given.
        failure: What stopped it; the C code that asks for batches would only keep its text.
    """

    def __init__(self, batches: TextBatches, kinds: list[Kind]) -> None:
        self._batches = batches
        self._kinds = kinds
        self.needed = kinds
        self.rows = 0
        self.failure: Exception | None = None
        self.schema = pa.schema(
            [
                (f"c{number}", _ARROW_TYPES.get(kind, pa.string()))
                for number, kind in enumerate(kinds)
            ]
        )

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in _one_ahead(self._typed()):
                self.rows += batch.num_rows
                yield batch
        except Exception as exc:
            self.failure = exc
            raise

    def _typed(self) -> Iterator[pa.RecordBatch]:
        """Type each batch; give those that fit the table as it was created."""
        for batch in self._batches():
            self.needed, arrays = _type_batch(batch, self.needed)
            if self.needed == self._kinds:
                yield pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def _insert(path: Path, statement: str, load: _Load) -> None:
    """Insert the batches through SQLite's C interface, in one transaction."""
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
            insert.bind_stream(pa.RecordBatchReader.from_batches(load.schema, iter(load)))
            try:
                insert.execute_update()
            except adbc_driver_manager.Error:
                if load.failure is not None:
                    raise load.failure from None
                raise
        connection.commit()


def _pragma(connection: adbc_driver_manager.AdbcConnection, pragma: str) -> None:
    """Set a pragma, and read its answer to the end."""
    with adbc_driver_manager.AdbcStatement(connection) as statement:
        statement.set_sql_query(f"PRAGMA {pragma}")
        stream, _ = statement.execute_query()
        pa.RecordBatchReader.from_stream(stream).read_all()


def _one_ahead(items: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Give the items, and make the next one in a thread while the last one is used."""
    with ThreadPoolExecutor(1) as executor:
        coming = executor.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = executor.submit(next, items, None)
            yield item


def _type_batch(batch: pa.RecordBatch, kinds: list[Kind]) -> tuple[list[Kind], list[pa.Array]]:
    """Widen the kinds until they fit a batch, and give its columns as those types."""
    typed = [_type_column(column, kind) for column, kind in zip(batch.columns, kinds, strict=True)]
    return [kind for kind, _ in typed], [column for _, column in typed]


def _type_column(texts: pa.Array, kind: Kind) -> tuple[Kind, pa.Array]:
    """Find the first kind, from this one on, that holds every text; '' fits any."""
    if kind is Kind.TEXT:
        return kind, texts
    values = pc.if_else(pc.equal(texts, ""), None, texts)
    if values.null_count == len(values):
        return kind, values.cast(_ARROW_TYPES[kind]) if kind in _ARROW_TYPES else texts
    if kind is not Kind.REAL and (integers := _integers(values)) is not None:
        return Kind.INTEGER, integers
    if (reals := _reals(values)) is not None:
        return Kind.REAL, reals
    return Kind.TEXT, texts


def _integers(values: pa.Array) -> pa.Array | None:
    """Give the texts as 64-bit integers, if each is written as its integer is."""
    try:
        integers = pc.cast(values, pa.int64())
    except pa.ArrowInvalid:
        return None
    return integers if _all(pc.equal(pc.cast(integers, pa.string()), values)) else None


def _reals(values: pa.Array) -> pa.Array | None:
    """Give the texts as doubles, if each has the same value as its double."""
    try:
        reals = pc.cast(values, pa.float64())
    except pa.ArrowInvalid:
        return None
    if not _all(pc.match_substring_regex(values, REAL_PATTERN)):
        return None
    long = pc.greater(pc.binary_length(values), EXACT_DIGITS)
    written = values.filter(long)
    if len(written):
        changed = pc.not_equal(pc.cast(reals.filter(long), pa.string()), written)
        whole = pc.invert(pc.match_substring(written, "."))
        doubtful = written.filter(pc.or_(changed, whole))
        if any(parse_real(text) is None for text in doubtful.to_pylist()):
            return None
    return reals


def _all(flags: pa.Array) -> bool:
    """Say whether all flags that are not null are true."""
    return bool(pc.all(flags).as_py())
