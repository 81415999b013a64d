"""Parquet, Arrow (IPC file and stream) and Feather: batch by batch, of every type, without loss."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet

from headrace.errors import Refusal
from ingest.converters import Conversion, Converted, TableRows
from ingest.converters.arrow_columns import STORED, type_column
from ingest.converters.arrow_insert import insert_batches, one_ahead
from ingest.converters.signatures import ARROW_FILE, FEATHER_1, PARQUET_ENCRYPTED
from ingest.converters.staging import (
    Kind,
    create_table,
    insert_statement,
    open_staging,
    unique_columns,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SLICE_BYTES = 8 * 1024 * 1024
_SLICE_ROWS = 65_536
_BUFFER_BYTES = 1024 * 1024

Columns = list[tuple[str, pa.Array]]
# Each with the share of the file that is read with it, from 0 to 1.
Batches = Iterator[tuple[pa.RecordBatch, float]]


def convert(conversion: Conversion) -> Converted:
    """Convert a Parquet, Arrow or Feather file into one table.

    Raises:
        Refusal: ``invalid-file``, ``encrypted-file``, ``no-rows`` (no columns), ``limit-exceeded``.
    """
    flat = conversion.wishes.nested == "flatten"
    schema, read = _open(conversion.input)
    empty: Columns = [(field.name, _no_values(field.type)) for field in schema]
    if flat:
        empty = list(_flattened(empty))
    names, changes = unique_columns([name for name, _ in empty], table=conversion.table)

    def batches() -> Iterator[tuple[list[pa.Array], float]]:
        for batch, share in _readable(read()):
            columns: Columns = list(zip(schema.names, batch.columns, strict=True))
            yield [column for _, column in (_flattened(columns) if flat else columns)], share

    kinds = [type_column(column, Kind.EMPTY)[0] for _, column in empty]
    if (first := next(batches(), None)) is not None:
        kinds = [type_column(*each)[0] for each in zip(first[0], kinds, strict=True)]
    while True:
        load = _Load(batches, kinds, conversion)
        conversion.output.unlink(missing_ok=True)
        with open_staging(conversion.output) as connection:
            create_table(connection, conversion.table, names, kinds)
        insert_batches(
            conversion.output,
            insert_statement(conversion.table, len(names)),
            pa.schema([(f"c{n}", STORED.get(kind, pa.string())) for n, kind in enumerate(kinds)]),
            one_ahead(load.typed()),
        )
        if load.needed == kinds:
            break
        kinds = load.needed
        conversion.begin("read again")
    changes += [
        f"table {conversion.table!r}: column {name!r} is text: it has NaN or an infinity"
        for name, kind, (_, column) in zip(names, kinds, empty, strict=True)
        if kind is Kind.TEXT and pa.types.is_floating(column.type)
    ]
    tables = (TableRows(name=conversion.table, rows=load.rows),)
    return Converted(tables=tables, warnings=tuple(changes))


class _Load:
    """One pass over the file: gives typed batches as long as the kinds hold.

    Attributes:
        needed: The kinds that all batches so far need.
        rows: The rows given.
    """

    def __init__(
        self,
        batches: Callable[[], Iterator[tuple[list[pa.Array], float]]],
        kinds: list[Kind],
        conversion: Conversion,
    ) -> None:
        self._batches = batches
        self._kinds = kinds
        self._report = conversion.report
        self._bytes = conversion.input.stat().st_size
        self.needed = kinds
        self.rows = 0

    def typed(self) -> Iterator[list[pa.Array]]:
        """Give the columns of one batch after the other."""
        for columns, share in self._batches():
            typed = [type_column(*each) for each in zip(columns, self.needed, strict=True)]
            self.needed = [kind for kind, _ in typed]
            self.rows += len(columns[0])
            if self.needed == self._kinds:
                yield [column for _, column in typed]
            self._report(self.rows, int(self._bytes * share))


def _no_values(of: pa.DataType) -> pa.Array:
    """Give a column of a type without any value."""
    return pa.nulls(0, of)


def _flattened(columns: Columns) -> Iterator[tuple[str, pa.Array]]:
    """Make a column of each field of a struct, and so on within it."""
    for name, column in columns:
        if pa.types.is_struct(column.type) and column.type.num_fields:
            fields = [f"{name}_{field.name}" for field in column.type]
            yield from _flattened(list(zip(fields, column.flatten(), strict=True)))
        else:
            yield name, column


def _open(path: Path) -> tuple[pa.Schema, Callable[[], Batches]]:
    """Open a file by what its first bytes say; gives its columns, and what reads it anew."""
    with path.open("rb") as file:
        head = file.read(8)
    if head.startswith(PARQUET_ENCRYPTED):
        raise Refusal("encrypted-file", "the Parquet file is encrypted")
    read = _parquet
    if head.startswith(ARROW_FILE):
        read = _ipc_file
    elif head.startswith(FEATHER_1):
        read = _feather_1
    elif head.startswith(b"\xff\xff\xff\xff"):
        read = _ipc_stream
    try:
        schema = next(read(path))
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise _broken(exc) from exc
    if not isinstance(schema, pa.Schema):
        raise TypeError(schema)

    def batches() -> Batches:
        found = read(path)
        next(found)
        yield from found

    return schema, batches


def _readable(batches: Batches) -> Batches:
    """Give batches in slices of bounded size; what Arrow says is wrong becomes a refusal."""
    before = 0.0
    try:
        for batch, share in batches:
            batch.validate(full=True)  # else an offset that lies would have memory read
            rows = _rows_for(_SLICE_BYTES, batch.nbytes, batch.num_rows)
            for start in range(0, batch.num_rows, rows):
                done = min(1.0, (start + rows) / batch.num_rows)
                yield batch.slice(start, rows), before + done * (share - before)
            before = share
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise _broken(exc) from exc


def _rows_for(wanted_bytes: int, all_bytes: int, all_rows: int) -> int:
    """Give the number of rows that have about so many bytes."""
    return max(1, min(_SLICE_ROWS, wanted_bytes * all_rows // max(all_bytes, 1)))


def _broken(exc: Exception) -> Exception:
    """Give the refusal for what Arrow says of a file; errors of the machine stay as they are."""
    if isinstance(exc, MemoryError) or (
        isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
    ):
        return exc
    if "encrypt" in str(exc).lower():
        return Refusal("encrypted-file", "the file is encrypted")
    message = str(exc).strip().partition("\n")[0][:200]
    return Refusal("invalid-file", f"the file is broken: {message}")


# Each reader gives the schema first, and then the batches, each with the share of the file that is
# read with it.


def _parquet(path: Path) -> Iterator[Any]:
    with pyarrow.parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
        yield file.schema_arrow
        groups = [file.metadata.row_group(n) for n in range(file.num_row_groups)]
        widest = max((g.total_byte_size // max(g.num_rows, 1) for g in groups), default=0)
        rows = 0
        for batch in file.iter_batches(_rows_for(_SLICE_BYTES, widest, 1), use_threads=False):
            rows += batch.num_rows
            yield batch, rows / max(rows, file.metadata.num_rows, 1)


def _ipc_file(path: Path) -> Iterator[Any]:
    # Mapped: a batch of the whole file that is not compressed does not count as memory.
    with pa.memory_map(str(path)) as source, pyarrow.ipc.open_file(source) as file:
        yield file.schema
        for number in range(file.num_record_batches):
            yield file.get_batch(number), (number + 1) / file.num_record_batches


def _ipc_stream(path: Path) -> Iterator[Any]:
    with pa.OSFile(str(path)) as source, pyarrow.ipc.open_stream(source) as stream:
        yield stream.schema
        for batch in stream:
            yield batch, source.tell() / source.size()


def _feather_1(path: Path) -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a format that is given up; files of it are not
        table = pyarrow.feather.read_table(path, memory_map=True)
    yield table.schema
    batches = table.to_batches()
    for number, batch in enumerate(batches, start=1):
        yield batch, number / len(batches)
