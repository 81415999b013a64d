"""NDJSON: a JSON object a line; read by Arrow where that loses nothing, else by Python's json.

Arrow reads a block of lines about ten times as fast as Python does, into columns. It takes what
JSON does not have, and numbers that it rounds, without a word: a block that may hold such a thing
is read by Python line by line, and that also says what is wrong with it, and where.
"""

from __future__ import annotations

import codecs
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from headrace.errors import Refusal
from ingest.converters import Conversion, Converted, TableRows
from ingest.converters.arrow_insert import insert_batches, one_ahead
from ingest.converters.csv_records import MAX_NAMED_LINES, BadRow, refuse_rows
from ingest.converters.geojson import Features, is_feature, without_conflict
from ingest.converters.json_text import decode_json
from ingest.converters.records import flatten, type_name
from ingest.converters.rejects import put_aside
from ingest.converters.staging import (
    MAX_COLUMNS,
    Kind,
    create_table,
    encode_values,
    half_character,
    insert_statement,
    keep_texts,
    open_staging,
    type_records,
    unique_columns,
)
from ingest.converters.text import open_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

    from ingest.converters.staging import Record

BLOCK_BYTES = 2 * 1024 * 1024
_AHEAD = 3  # blocks that are read before they are asked for
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# What Arrow may not read exactly: 16 digits, an exponent; and what is no plain value.
_DOUBTFUL = r":[ \t\r\n]*(-?([0-9.]{16}|[0-9.]+[eE])|[\[{])"
_ARROW_TYPES = {Kind.BOOLEAN: pa.int64(), Kind.INTEGER: pa.int64(), Kind.REAL: pa.float64()}
_HINT = "each line has to be one JSON object; on_bad_rows=quarantine loads the other lines"
_PLAIN = {pa.int64(), pa.float64(), pa.bool_(), pa.string(), pa.null()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """Some whole lines: read as columns, or else as records.

    Attributes:
        rows: How many.
        end_bytes: How much of the file is read with it.
        columns: By their names; None where Arrow cannot be trusted.
        records: Where there are no columns.
        bad: The lines that are no records.
    """

    rows: int
    end_bytes: int
    columns: dict[str, pa.Array] | None = None
    records: list[Record] | None = None
    bad: tuple[BadRow, ...] = ()


def convert_lines(conversion: Conversion) -> Converted:
    """Convert a file of one JSON object a line into one table; blank lines are skipped.

    Raises:
        Refusal: ``invalid-file`` with the first bad lines, ``no-rows``, ``limit-exceeded``.
    """
    return without_conflict(conversion.output, lambda features: _convert(conversion, features))


def _convert(conversion: Conversion, features: Features) -> Converted:
    """Convert, with these names for what GeoJSON features have beside their properties."""
    lines = _Lines(conversion, features)
    kinds = lines.find_kinds()
    while True:
        conversion.output.unlink(missing_ok=True)
        names, warnings = unique_columns(list(kinds), table=conversion.table)
        kinds = keep_texts(kinds, names, partial(conversion.stays_text, conversion.table))
        lines.mixed = frozenset(key for key, kind in kinds.items() if kind is Kind.MIXED)
        with open_staging(conversion.output) as connection:
            create_table(connection, conversion.table, names, list(kinds.values()))
        load = _Load(lines.blocks, kinds)
        insert_batches(
            conversion.output,
            insert_statement(conversion.table, len(names)),
            pa.schema(
                [
                    (f"c{n}", _ARROW_TYPES.get(kind, pa.string()))
                    for n, kind in enumerate(kinds.values())
                ]
            ),
            one_ahead(load.batches()),
        )
        if load.needed == kinds:
            break
        kinds = load.needed
        conversion.begin("read again")
    tables = [TableRows(name=conversion.table, rows=load.rows)]
    if lines.quarantine:
        rejects, told = put_aside(conversion, lines.bad_rows())
        tables.append(rejects)
        warnings += told
    return Converted(tables=tuple(tables), warnings=tuple(warnings))


class _Lines:
    """A file of records, which can be read from its start several times.

    Attributes:
        quarantine: Whether bad lines are left out; else they refuse the file.
        mixed: The keys whose values are to be their JSON text.
    """

    def __init__(self, conversion: Conversion, features: Features) -> None:
        self.quarantine = conversion.wishes.on_bad_rows == "quarantine"
        self.mixed: frozenset[str] = frozenset()
        self._conversion = conversion
        self._features = features
        self._flat = conversion.wishes.nested == "flatten"
        self._utf8 = _is_utf8(conversion.input)

    def find_kinds(self) -> dict[str, Kind]:
        """Give the kinds of the first block's columns.

        Raises:
            Refusal: ``no-rows``; ``invalid-file``: a line is bad, or all are.
        """
        for block in self.blocks():
            return _type_block({}, block)[0]
        if bad := list(islice(self.bad_rows(), MAX_NAMED_LINES)):
            raise refuse_rows(bad, hint="no line of the file is a JSON object")
        raise Refusal("no-rows", f"there are no rows for the table {self._conversion.table!r}")

    def blocks(self) -> Iterator[_Block]:
        """Read the good lines.

        Raises:
            Refusal: ``invalid-file``: a line is bad, and none is to be left out.
        """
        rows = 0
        bad: list[BadRow] = []
        for block in self._read():
            if not self.quarantine:
                bad += block.bad
                if len(bad) >= MAX_NAMED_LINES:
                    break
            if block.rows and not bad:
                yield block
            rows += block.rows
            self._conversion.report(rows, block.end_bytes)
        if bad:  # the rest was read for the numbers of the other lines alone
            raise refuse_rows(bad[:MAX_NAMED_LINES], hint=_HINT)

    def bad_rows(self) -> Iterator[BadRow]:
        """Read the bad lines, and no others."""
        return (row for block in self._read() for row in block.bad)

    def _read(self) -> Iterator[_Block]:
        path = self._conversion.input
        raw = _byte_blocks(path) if self._utf8 else _text_blocks(path)
        return _Reader(self._change, self.mixed).blocks(raw)

    def _change(self, record: Record) -> Record:
        if is_feature(record):
            record = self._features.record(record)
        return flatten(record) if self._flat else record


class _Load:
    """One pass over the file: gives typed batches as long as the kinds hold.

    Attributes:
        needed: The kinds that all blocks so far need.
        rows: The rows given.
    """

    def __init__(self, blocks: Callable[[], Iterable[_Block]], kinds: dict[str, Kind]) -> None:
        self._blocks = blocks
        self._kinds = kinds
        self.needed = kinds
        self.rows = 0

    def batches(self) -> Iterator[list[pa.Array]]:
        """Give the columns of one block after the other."""
        for block in self._blocks():
            self.needed, arrays = _type_block(self.needed, block)
            if self.needed == self._kinds:
                self.rows += block.rows
                yield arrays


def _type_block(kinds: dict[str, Kind], block: _Block) -> tuple[dict[str, Kind], list[pa.Array]]:
    """Widen the kinds until they fit a block, and give its columns as those kinds."""
    if block.columns is None:
        needed, columns = type_records(kinds, block.records or [])
        pairs = zip(columns, needed.values(), strict=True)
        return needed, [_array_of(values, kind) for values, kind in pairs]
    keys = {**kinds, **dict.fromkeys(block.columns, Kind.EMPTY), **kinds}
    if len(keys) > MAX_COLUMNS:
        raise Refusal(
            "limit-exceeded",
            f"the records have more than {MAX_COLUMNS:,} different keys",
            extra={"limit": "columns"},
        )
    needed = {}
    arrays = []
    for key, kind in keys.items():
        column = block.columns.get(key)
        if column is None:
            column = pa.nulls(block.rows)
        needed[key] = _join_kind(kind, column)
        arrays.append(_cast(column, needed[key]))
    return needed, arrays


def _join_kind(kind: Kind, column: pa.Array) -> Kind:
    """Widen a kind until it fits a column as well; its numbers have at most 15 digits."""
    if column.null_count == len(column) or kind is Kind.MIXED:
        return kind
    if column.type == pa.string():
        return Kind.TEXT if kind in (Kind.EMPTY, Kind.TEXT) else Kind.MIXED
    if column.type == pa.bool_() and kind in (Kind.EMPTY, Kind.BOOLEAN):
        return Kind.BOOLEAN
    if kind in (Kind.TEXT, Kind.BOOLEAN) or column.type == pa.bool_():
        return Kind.MIXED
    return Kind.REAL if kind is Kind.REAL or column.type == pa.float64() else Kind.INTEGER


def _cast(column: pa.Array, kind: Kind) -> pa.Array:
    """Give a column as SQLite is to store it."""
    if kind in _ARROW_TYPES:
        if column.type == pa.bool_():
            column = column.cast(pa.int64())
        return column.cast(_ARROW_TYPES[kind])
    if column.type in (pa.string(), pa.null()):
        return column.cast(pa.string())
    return pa.array(encode_values(column.to_pylist(), Kind.MIXED), pa.string())


def _array_of(values: list[Any], kind: Kind) -> pa.Array:
    """Make a column of Python's values."""
    if kind in (Kind.BOOLEAN, Kind.INTEGER):
        values = [None if value is None else int(value) for value in values]
    elif kind is Kind.REAL:
        values = [None if value is None else float(value) for value in values]
    try:
        return pa.array(values, _ARROW_TYPES.get(kind, pa.string()))
    except UnicodeEncodeError as exc:
        raise half_character() from exc


class _Reader:
    """Reads blocks of lines, a few at a time."""

    def __init__(self, change: Callable[[Record], Record], mixed: Collection[str]) -> None:
        self._change = change
        self._mixed = mixed
        self._schema: pa.Schema | None = None  # of the last block that Arrow read

    def blocks(self, raw: Iterator[bytes]) -> Iterator[_Block]:
        """Give the blocks of a file in their order; Arrow reads in threads, beside each other."""
        with ThreadPoolExecutor(min(_AHEAD, os.cpu_count() or 1)) as executor:
            coming: list[Any] = []
            line, end_bytes = 1, 0
            for data in raw:
                end_bytes += len(data)
                coming.append(executor.submit(self._read, data, line, end_bytes))
                line += data.count(b"\n")
                if len(coming) > _AHEAD:
                    yield coming.pop(0).result()
            while coming:
                yield coming.pop(0).result()

    def _read(self, data: bytes, line: int, end_bytes: int) -> _Block:
        """Read the lines of a block, the first of which has this number."""
        columns = self._read_columns(data)
        if columns is not None:
            rows = len(next(iter(columns.values())))
            return _Block(rows=rows, end_bytes=end_bytes, columns=columns)
        records: list[Record] = []
        bad: list[BadRow] = []
        for read in self._read_records(data, line):
            if isinstance(read, BadRow):
                bad.append(read)
            else:
                records.append(read)
        return _Block(rows=len(records), end_bytes=end_bytes, records=records, bad=tuple(bad))

    def _read_records(self, data: bytes, first_line: int) -> Iterator[Record | BadRow]:
        """Read the lines one by one, good and bad."""
        for number, line in enumerate(data.split(b"\n"), start=first_line):
            text = line.strip(b" \t\r")
            if not text:
                continue
            raw = text.decode()
            try:
                yield self._read_record(raw, number)
            except Refusal as refusal:
                if refusal.code != "invalid-file":
                    raise
                reason = f"cannot be read: {refusal.detail}"
                yield BadRow(line=number, raw=raw, reason=reason, column=refusal.column)

    def _read_record(self, text: str, line: int) -> Record:
        record = decode_json(text, first_line=line)
        if not isinstance(record, dict):
            raise Refusal("invalid-file", f"it is no JSON object, but {type_name(record)}")
        return self._change(record)

    def _read_columns(self, data: bytes) -> dict[str, pa.Array] | None:
        """Read the lines with Arrow; None if it cannot be trusted to lose nothing."""
        if _matches(data, _DOUBTFUL):
            return None
        try:
            table = self._parse(data)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return None
        # A row a line: neither blank lines, nor two objects in one, nor one over several.
        if table.num_rows != data.count(b"\n") + (not data.endswith(b"\n")):
            return None
        columns = {}
        for field, column in zip(table.schema, table.columns, strict=True):
            if field.type not in _PLAIN:
                return None
            array = column.combine_chunks()
            if field.type == pa.float64() and (
                field.name in self._mixed  # 3 among them would be 3.0
                or pc.any(pc.invert(pc.is_finite(array))).as_py()  # NaN, Infinity
            ):
                return None
            columns[field.name] = array
        return columns or None

    def _parse(self, data: bytes) -> pa.Table:
        """Read the lines as the last ones were, else as what they look like; dates stay texts."""
        if self._schema is not None:
            try:
                return _parse(data, self._schema)
            except pa.ArrowInvalid:
                self._schema = None
        table = _parse(data, None)
        dates = [field.name for field in table.schema if pa.types.is_temporal(field.type)]
        if dates:
            order = table.schema.names
            texts = pa.schema([(name, pa.string()) for name in dates])
            table = _parse(data, texts).select(order)
        self._schema = table.schema
        return table


def _parse(data: bytes, schema: pa.Schema | None) -> pa.Table:
    """Read lines with Arrow as one block; no column outside the schema may be dates."""
    table = pyarrow.json.read_json(
        pa.BufferReader(data),
        read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(data) + 1),
        parse_options=pyarrow.json.ParseOptions(explicit_schema=schema),
    )
    if schema is not None and any(pa.types.is_temporal(field.type) for field in table.schema):
        raise pa.ArrowInvalid("a new column looks like dates")
    return table


def _matches(data: bytes, pattern: str) -> bool:
    """Search bytes by RE2, which reads 1 GB/s."""
    whole = _as_one_value(pa.binary(), data)
    return bool(pc.match_substring_regex(whole, pattern)[0].as_py())


def _as_one_value(kind: pa.DataType, data: bytes) -> pa.Array:
    """Give bytes as the one value of a column, without a copy."""
    offsets = pa.py_buffer(struct.pack("<ii", 0, len(data)))
    return pa.Array.from_buffers(kind, 1, [None, offsets, pa.py_buffer(data)])


def _is_utf8(path: Path) -> bool:
    """Say whether a file is UTF-8 from its start to its end."""
    try:
        for block in _byte_blocks(path):
            _as_one_value(pa.string(), block).validate(full=True)
    except pa.ArrowInvalid:
        return False
    with path.open("rb") as file:
        return file.read(2) not in _UTF16_MARKS


def _byte_blocks(path: Path) -> Iterator[bytes]:
    """Read a file in blocks of whole lines, without a byte order mark."""
    with path.open("rb") as file:
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            file.seek(0)
        while block := file.read(BLOCK_BYTES):
            yield block + file.readline()


def _text_blocks(path: Path) -> Iterator[bytes]:
    """Read a file that is not UTF-8 in blocks of whole lines, as UTF-8."""
    with open_text(path) as file:
        while block := file.read(BLOCK_BYTES):
            yield (block + file.readline()).encode()
