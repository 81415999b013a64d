"""CSV, TSV and other delimited text: read by Arrow, as Python's csv module would read it.

Arrow reads what is plain. Whatever it refuses is read again by the csv module: that either finds
the lines that are wrong, or loads what Arrow could not (a value longer than a block).
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from headrace.errors import Refusal
from ingest.converters import Conversion, Converted, TableRows
from ingest.converters.bulk import Columns, MisfitError, load_batches
from ingest.converters.csv_records import (
    BOM,
    BadRow,
    Source,
    no_header,
    read_header,
    read_records,
    read_rows,
)
from ingest.converters.encodings import reads_text
from ingest.converters.lossless import parse_integer, parse_real
from ingest.converters.rejects import rejects_table, warn_of_rejects, write_rejects
from ingest.converters.sniff import has_header, sniff, split_separator
from ingest.converters.staging import Kind, unique_columns
from ingest.converters.text import open_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ingest.converters.csv_records import Complaint, Header

BLOCK_BYTES = 1024 * 1024
_BATCH_CELLS = 20_000
_BATCH_CHARACTERS = 8 * 1024 * 1024
_SAMPLE_CHARACTERS = 64 * 1024
_NUL = re.compile(b"\0")
_MAX_SHOWN = 20  # characters of a value
_FORM = "application/x-www-form-urlencoded"  # curl's, unless it is told another
_KINDS = {"text": Kind.TEXT, "integer": Kind.INTEGER, "real": Kind.REAL, "blob": Kind.BLOB}


class _UnsureError(Exception):
    """Arrow's reading cannot be trusted for this file."""


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


class _Reading:
    """One way to read the rows of a file: batches of texts, from the start at each call.

    Attributes:
        bytes: How far the file has been read.
        skipped: Bad rows that were left out, in the reading under way.
    """

    def __init__(self, source: Source, *, quarantine: bool) -> None:
        self.bytes = 0
        self.skipped = 0
        self._source = source
        self._quarantine = quarantine

    def arrow_batches(self) -> Iterator[pa.RecordBatch]:
        """Read the rows with Arrow, every column as text.

        Raises:
            _UnsureError: Something is in the file that only the csv module reads as it should.
            pa.ArrowInvalid: A row, a byte or the size of a value is not as it should be.
        """
        source = self._source
        names = [f"c{number}" for number in range(len(source.header.names))]
        last = ""
        self.skipped = 0
        with source.path.open("rb") as file:
            file.seek(source.header.end_bytes)
            if file.read(len(BOM)) == BOM:  # Arrow would skip it: here it is a part of a value
                raise _UnsureError
            file.seek(source.header.end_bytes)
            reader = pyarrow.csv.open_csv(
                pa.PythonFile(_Blocks(file), mode="r"),
                read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=BLOCK_BYTES),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=source.delimiter,
                    newlines_in_values=True,
                    ignore_empty_lines=len(names) > 1,
                    invalid_row_handler=self._skip if self._quarantine else None,
                ),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
                ),
            )
            with reader:
                for batch in reader:
                    if any(_has_nul(column) for column in batch.columns):
                        raise _UnsureError
                    # One column: a blank line is an empty value, if it is not at the end.
                    if len(names) == 1 and pc.any(pc.equal(batch.columns[0], "")).as_py():
                        raise _UnsureError
                    if batch.num_rows:
                        last = batch.columns[-1][-1].as_py()
                        self.bytes = file.tell()
                        yield batch
        if _ends_in_quotes(source, last):
            raise _UnsureError

    def csv_batches(self) -> Iterator[pa.RecordBatch]:
        """Read the rows with the csv module, every column as text.

        Raises:
            Refusal: A row is bad, and is not to be left out.
        """
        width = len(self._source.header.names)
        schema = pa.schema([(f"c{number}", pa.string()) for number in range(width)])
        records: list[list[str]] = []
        characters = 0
        self.bytes = 0

        def batch() -> pa.RecordBatch:
            columns = [pa.array(column, pa.string()) for column in zip(*records, strict=True)]
            return pa.RecordBatch.from_arrays(columns, schema=schema)

        for record in self._good_rows() if self._quarantine else read_records(self._source):
            records.append(record)
            characters += sum(map(len, record))
            if len(records) * width >= _BATCH_CELLS or characters >= _BATCH_CHARACTERS:
                yield batch()
                self.bytes += characters  # nearly
                records, characters = [], 0
        if records:
            yield batch()

    def bad_rows(self) -> Iterator[BadRow]:
        """Read the bad rows, and no others."""
        return (row for row in read_rows(self._source) if isinstance(row, BadRow))

    def _good_rows(self) -> Iterator[list[str]]:
        return (row for row in read_rows(self._source) if not isinstance(row, BadRow))

    def _skip(self, _row: object) -> str:
        self.skipped += 1
        return "skip"


@reads_text
def convert(conversion: Conversion) -> Converted:
    """Convert a delimited text file into one table.

    Raises:
        Refusal: ``invalid-file`` with the first bad lines; ``limit-exceeded``; ``no-rows``.
    """
    wishes = conversion.wishes
    quarantine = wishes.on_bad_rows == "quarantine"
    source, columns, warnings = _open(conversion)
    reading = _Reading(source, quarantine=quarantine)

    def load(batches: Callable[[], Iterator[pa.RecordBatch]]) -> tuple[int, int]:
        return load_batches(
            conversion.output,
            conversion.table,
            columns,
            batches,
            report=lambda rows: conversion.report(rows, reading.bytes),
            again=lambda: conversion.begin("read again"),
        )

    try:
        rows, misfits = load(reading.arrow_batches)
        bad = reading.skipped + misfits
        found = _quarantine(conversion, reading.bad_rows() if bad else iter(()))
        if found != bad:
            raise _UnsureError
    except (_UnsureError, MisfitError, pa.ArrowInvalid):
        conversion.begin("read again")
        rows, _ = load(reading.csv_batches)
        found = _quarantine(conversion, reading.bad_rows())
    tables = [TableRows(name=conversion.table, rows=rows)]
    if quarantine:
        name = rejects_table(conversion.table)
        tables.append(TableRows(name=name, rows=found))
        warnings += warn_of_rejects(found, name)
    return Converted(tables=tuple(tables), warnings=tuple(warnings))


def _quarantine(conversion: Conversion, bad_rows: Iterator[BadRow]) -> int:
    """Write the bad rows into their table, if they are to be kept; give how many there are."""
    if conversion.wishes.on_bad_rows != "quarantine":
        return 0
    return write_rejects(conversion.output, conversion.table, bad_rows)


def _open(conversion: Conversion) -> tuple[Source, Columns, list[str]]:
    """Find out how the file is divided, what its columns are called, and what they must hold."""
    wishes = conversion.wishes
    with open_text(conversion.input) as file:
        sample = file.read(_SAMPLE_CHARACTERS)
    complete = len(sample) < _SAMPLE_CHARACTERS
    separator, sample = split_separator(sample)
    found_by = separator or _find_delimiter(conversion, sample, complete=complete)
    delimiter = wishes.delimiter or found_by
    lines_before = 0 if separator is None else 1
    header = read_header(conversion.input, delimiter, lines_before=lines_before)
    found = has_header(sample, delimiter, complete=complete)
    warnings = []
    if not (found if wishes.header is None else wishes.header):
        header = no_header(conversion.input, len(header.names), lines_before=lines_before)
        if wishes.header is None:
            warnings.append(
                "the first row was read as data: it has numbers where the others have them"
                " (header=1 says that it names the columns)"
            )
    elif _is_stripped(conversion, header):
        raise Refusal(
            "no-rows",
            "the file is one line without an end: a header, and no rows",
            hint="curl -d takes the line ends away: use --data-binary; a table that is to have no"
            " rows is sent as text/csv",
        )
    names, renamed = unique_columns(header.names, table=conversion.table)
    fixed, unknown = _fix_types(conversion, header.names, names)
    source = Source(
        path=conversion.input,
        header=header,
        delimiter=delimiter,
        complaint=_complaint(fixed, names, empty_fits=wishes.empty != "text"),
    )
    columns = Columns(
        names=names,
        fixed=fixed,
        empty=wishes.empty,
        strict=wishes.strict,
        leave_misfits=wishes.on_bad_rows == "quarantine",
    )
    return source, columns, [*warnings, *renamed, *unknown]


def _is_stripped(conversion: Conversion, header: Header) -> bool:
    """Say whether a file is a header alone, and came as curl sends one without its line ends."""
    media_type = (conversion.media_type or "").partition(";")[0].strip().lower()
    if media_type != _FORM or header.lines != 1:
        return False
    with conversion.input.open("rb") as file:
        file.seek(header.end_bytes - 1)
        return file.read(1) not in b"\r\n" and not file.read(1)


def _find_delimiter(conversion: Conversion, sample: str, *, complete: bool) -> str:
    """Find the delimiter by the file's name, else by its first lines."""
    if PurePosixPath(conversion.filename).suffix.lower() in (".tsv", ".tab"):
        return "\t"
    sniffed = sniff(sample, complete=complete)
    return "," if sniffed is None else sniffed.delimiter


def _fix_types(
    conversion: Conversion, written: Sequence[str], names: Sequence[str]
) -> tuple[dict[int, Kind], list[str]]:
    """Find the columns whose types are asked for, or which stay text; warn of those not there.

    A column goes by its name in the file, in the table, or by the one that it is renamed to.
    """
    wishes = conversion.wishes
    places: dict[str, int] = {}
    for each in (written, names, [wishes.columns.get(name, name) for name in names]):
        for place, name in enumerate(each):
            places.setdefault(name, place)
    fixed = {
        place: Kind.TEXT
        for place, name in enumerate(names)
        if conversion.stays_text(conversion.table, name)
    }
    fixed |= {
        places[name]: _KINDS[wanted] for name, wanted in wishes.types.items() if name in places
    }
    missing = [name for name in wishes.types if name not in places]
    return fixed, [f"types: the file has no column {name!r}" for name in missing]


def _complaint(fixed: Mapping[int, Kind], names: Sequence[str], *, empty_fits: bool) -> Complaint:
    """Make the check of the columns that must hold numbers."""
    parsers: dict[Kind, Callable[[str], float | None]] = {
        Kind.INTEGER: parse_integer,
        Kind.REAL: parse_real,
    }
    checks = [
        (place, parsers[kind], kind) for place, kind in sorted(fixed.items()) if kind in parsers
    ]

    def complain(row: list[str]) -> str | None:
        for place, parse, kind in checks:
            text = row[place]
            if parse(text) is None and (text or not empty_fits):
                shown = repr(text[:_MAX_SHOWN]) + ("…" if len(text) > _MAX_SHOWN else "")
                wanted = kind.name.lower()
                return f"has {shown} in {names[place]!r}, which cannot be {wanted} without loss"
        return None

    return complain


def _has_nul(column: pa.Array) -> bool:
    """Say whether a text column has a NUL character."""
    data = column.buffers()[2]
    return data is not None and _NUL.search(data) is not None


def _ends_in_quotes(source: Source, last: str) -> bool:
    """Say whether the file ends within a quoted value, which then is the last of all.

    Arrow, as the csv module, takes such a file without a word.
    """
    raw = b'"' + last.replace('"', '""').encode()
    size_bytes = source.path.stat().st_size
    start = size_bytes - len(raw) - 1
    if start < source.header.end_bytes - 1:
        return False
    with source.path.open("rb") as file:
        file.seek(max(0, start))
        before, tail = (b"\n" if start < 0 else file.read(1)), file.read()
    return tail == raw and before in (source.delimiter.encode(), b"\n", b"\r")
