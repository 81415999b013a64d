"""CSV, TSV and other delimited text: read by Arrow, as Python's csv module would read it.

Arrow reads what is plain. Whatever it refuses is read again by the csv module: that either finds
the lines that are wrong, or loads what Arrow could not (a value longer than a block).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
import pyarrow.csv

from ingest.converters import Conversion, Converted, TableRows
from ingest.converters.bulk import load_batches
from ingest.converters.csv_records import BOM, Header, read_header, read_records
from ingest.converters.sniff import sniff
from ingest.converters.staging import unique_columns
from ingest.converters.text import open_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK_BYTES = 1024 * 1024
_BATCH_CELLS = 20_000
_BATCH_CHARACTERS = 8 * 1024 * 1024
_SAMPLE_CHARACTERS = 64 * 1024
_NUL = re.compile(b"\0")


class _UnsureError(Exception):
    """Arrow's reading cannot be trusted for this file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A delimited file, ready to be read from its first row."""

    path: Path
    header: Header
    delimiter: str


class _Blocks:
    """Gives Arrow blocks that do not end between the two characters of a line end.

    Arrow (26) drops a line feed at the start of a block after one that ended in a carriage return,
    also where both are part of a quoted value.
    """

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._held = b""

    def read(self, size: int) -> bytes:
        """Read a block of at most this size; empty at the end of the file."""
        data = self._held + self._file.read(size - len(self._held))
        self._held = b""
        if len(data) > 1 and data.endswith(b"\r"):
            self._held = b"\r"
            return data[:-1]
        return data


def convert(conversion: Conversion) -> Converted:
    """Convert a delimited text file with a header row into one table.

    Raises:
        Refusal: ``invalid-file`` with the first bad lines; ``limit-exceeded``; ``no-rows``.
    """
    delimiter = _find_delimiter(conversion)
    header = read_header(conversion.input, delimiter)
    columns, warnings = unique_columns(header.names, table=conversion.table)
    source = _Source(path=conversion.input, header=header, delimiter=delimiter)

    def load(batches: Callable[[_Source], Iterator[pa.RecordBatch]]) -> int:
        return load_batches(conversion.output, conversion.table, columns, lambda: batches(source))

    try:
        rows = load(_arrow_batches)
    except (_UnsureError, pa.ArrowInvalid):
        rows = load(_csv_batches)
    return Converted(
        tables=(TableRows(name=conversion.table, rows=rows),), warnings=tuple(warnings)
    )


def _find_delimiter(conversion: Conversion) -> str:
    """Find the delimiter by the file's name, else by its first lines."""
    if PurePosixPath(conversion.filename).suffix.lower() in (".tsv", ".tab"):
        return "\t"
    with open_text(conversion.input) as file:
        sample = file.read(_SAMPLE_CHARACTERS)
    sniffed = sniff(sample, complete=len(sample) < _SAMPLE_CHARACTERS)
    return "," if sniffed is None else sniffed.delimiter


def _arrow_batches(source: _Source) -> Iterator[pa.RecordBatch]:
    """Read the rows with Arrow, every column as text.

    Raises:
        _UnsureError: Something is in the file that only the csv module reads as it should.
        pa.ArrowInvalid: A row, a byte or the size of a value is not as it should be.
    """
    names = [f"c{number}" for number in range(len(source.header.names))]
    last = ""
    with source.path.open("rb") as file:
        file.seek(source.header.end_bytes)
        if file.read(len(BOM)) == BOM:  # Arrow would skip it: here it is a part of a value
            raise _UnsureError
        file.seek(source.header.end_bytes)
        reader = pyarrow.csv.open_csv(
            pa.PythonFile(_Blocks(file), mode="r"),
            read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=BLOCK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=source.delimiter, newlines_in_values=True
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
        with reader:
            for batch in reader:
                if any(_has_nul(column) for column in batch.columns):
                    raise _UnsureError
                if batch.num_rows:
                    last = batch.columns[-1][-1].as_py()
                    yield batch
    if _ends_in_quotes(source, last):
        raise _UnsureError


def _csv_batches(source: _Source) -> Iterator[pa.RecordBatch]:
    """Read the rows with the csv module, every column as text."""
    width = len(source.header.names)
    schema = pa.schema([(f"c{number}", pa.string()) for number in range(width)])
    records: list[list[str]] = []
    characters = 0

    def batch() -> pa.RecordBatch:
        columns = [pa.array(column, pa.string()) for column in zip(*records, strict=True)]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    for record in read_records(source.path, source.delimiter, source.header):
        records.append(record)
        characters += sum(map(len, record))
        if len(records) * width >= _BATCH_CELLS or characters >= _BATCH_CHARACTERS:
            yield batch()
            records, characters = [], 0
    if records:
        yield batch()


def _has_nul(column: pa.Array) -> bool:
    """Say whether a text column has a NUL character."""
    data = column.buffers()[2]
    return data is not None and _NUL.search(data) is not None


def _ends_in_quotes(source: _Source, last: str) -> bool:
    """Say whether the file ends within a quoted value, which then is the last of all.

    Arrow, as the csv module, takes such a file without a word.
    """
    raw = b'"' + last.replace('"', '""').encode()
    size_bytes = source.path.stat().st_size
    start = size_bytes - len(raw) - 1
    if start < source.header.end_bytes - 1:
        return False
    with source.path.open("rb") as file:
        file.seek(start)
        before, tail = file.read(1), file.read()
    return tail == raw and before in (source.delimiter.encode(), b"\n", b"\r")
