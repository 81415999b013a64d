"""JSON: arrays of objects are read object by object; only one that is a row is read whole."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from headrace.errors import Refusal
from ingest.converters import geojson
from ingest.converters.encodings import reads_text
from ingest.converters.json_text import CHUNK_CHARACTERS, SPACE, JsonReader, decode_json
from ingest.converters.ndjson import convert_lines
from ingest.converters.records import (
    BATCH_ROWS,
    check_records,
    convert_batches,
    convert_document,
    name_tables,
)
from ingest.converters.text import open_text, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ingest.converters import Conversion, Converted
    from ingest.converters.staging import Record

_BATCH_CHARACTERS = 8 * 1024 * 1024


@reads_text
def convert(conversion: Conversion) -> Converted:
    """Convert a JSON, NDJSON or GeoJSON file.

    Raises:
        Refusal: ``invalid-file`` with line and column, ``no-rows``, ``limit-exceeded``.
    """
    path, table = conversion.input, conversion.table
    try:
        if conversion.format == "ndjson":
            return convert_lines(conversion)
        first = _first_character(path)
        if first == geojson.SEPARATOR or (first == "{" and geojson.is_geojson(path)):
            return geojson.convert(conversion)
        if first == "[":
            return convert_batches({table: lambda: _array_batches(conversion)}, conversion)
        conversion.begin("look")
        found = _find_arrays(conversion)
        conversion.begin("read")
        if found:
            return _convert_arrays(found, conversion)
        return convert_document(decode_json(read_text(path)), conversion)
    except RecursionError as exc:
        raise Refusal(
            "limit-exceeded", "the JSON is nested too deeply", extra={"limit": "depth"}
        ) from exc


def _first_character(path: Path) -> str:
    """Give the first character that counts, or nothing."""
    with open_text(path) as file:
        while chunk := file.read(CHUNK_CHARACTERS):
            if text := chunk.lstrip(SPACE):
                return text[0]
    return ""


def _find_arrays(conversion: Conversion) -> list[tuple[str, bool, int]]:
    """Find the tables of an object whose members all are arrays of objects; none if one is not.

    Returns:
        The name of each, whether it has rows, and at which byte its array begins.
    """
    found: list[tuple[str, bool, int]] = []
    with open_text(conversion.input) as file:
        reader = JsonReader(file.read)
        if reader.peek() != "{":
            return found
        for name in reader.keys():  # noqa: SIM118 - no dictionary
            if reader.peek() != "[":
                return []
            at, filled = reader.offset(), False
            for value, end in reader.items():
                if not isinstance(value, dict):
                    return []
                filled = filled or bool(value)
                conversion.report(0, end)
            found.append((name, filled, at))
        reader.end()
    return found


def _convert_arrays(found: list[tuple[str, bool, int]], conversion: Conversion) -> Converted:
    """Load the tables of an object of arrays, each from where its array begins."""
    warnings: list[str] = []
    batches = {
        table: partial(_array_batches, conversion, at) for table, at in name_tables(found, warnings)
    }
    converted = convert_batches(batches, conversion)
    return replace(converted, warnings=(*warnings, *converted.warnings))


def _array_batches(conversion: Conversion, at: int | None = None) -> Iterator[list[Record]]:
    """Read an array of objects that begins at a byte, or is all of the file."""
    batch: list[Record] = []
    start = end = count = 0
    with open_text(conversion.input, at or 0) as file:
        reader = JsonReader(file.read)
        for value, end in reader.items():
            count += 1
            check_records((value,), first=count)
            batch.append(value)
            if len(batch) >= BATCH_ROWS or end - start >= _BATCH_CHARACTERS:
                yield batch
                conversion.report(count, (at or 0) + end)
                batch, start = [], end
        if at is None:
            reader.end()
    if batch:
        yield batch
        conversion.report(count, (at or 0) + end)
