"""JSON: arrays are read object by object, NDJSON line by line; only one object is read whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.errors import Refusal
from ingest.converters.json_text import CHUNK_CHARACTERS, SPACE, ArrayReader, decode_json
from ingest.converters.records import (
    BATCH_ROWS,
    check_records,
    convert_batches,
    convert_document,
)
from ingest.converters.text import open_text, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ingest.converters import Conversion, Converted
    from ingest.converters.staging import Record

_BATCH_CHARACTERS = 8 * 1024 * 1024


def convert(conversion: Conversion) -> Converted:
    """Convert a JSON or NDJSON file.

    Raises:
        Refusal: ``invalid-file`` with line and column, ``no-rows``, ``limit-exceeded``.
    """
    path, table = conversion.input, conversion.table
    try:
        if conversion.format == "ndjson":
            return convert_batches({table: lambda: _ndjson_batches(path)}, conversion)
        if _starts_with_array(path):
            return convert_batches({table: lambda: _array_batches(path)}, conversion)
        return convert_document(decode_json(read_text(path)), conversion)
    except RecursionError as exc:
        raise Refusal("limit-exceeded", "the JSON is nested too deeply") from exc


def _starts_with_array(path: Path) -> bool:
    """Say whether the first character that counts is a bracket."""
    with open_text(path) as file:
        while chunk := file.read(CHUNK_CHARACTERS):
            if text := chunk.lstrip(SPACE):
                return text.startswith("[")
    return False


def _ndjson_batches(path: Path) -> Iterator[list[Record]]:
    """Read a file of one JSON object a line; blank lines are skipped."""
    batch: list[Record] = []
    characters = 0
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            text = line.strip()
            if not text:
                continue
            record = decode_json(text, first_line=number)
            if not isinstance(record, dict):
                raise Refusal("invalid-file", "the line is not a JSON object", line=number)
            batch.append(record)
            characters += len(line)
            if len(batch) >= BATCH_ROWS or characters >= _BATCH_CHARACTERS:
                yield batch
                batch, characters = [], 0
    if batch:
        yield batch


def _array_batches(path: Path) -> Iterator[list[Record]]:
    """Read a file that is one JSON array of objects."""
    batch: list[Record] = []
    start = 0
    count = 0
    with open_text(path) as file:
        for value, end in ArrayReader(file.read).items():
            count += 1
            check_records((value,), first=count)
            batch.append(value)
            if len(batch) >= BATCH_ROWS or end - start >= _BATCH_CHARACTERS:
                yield batch
                batch, start = [], end
    if batch:
        yield batch
