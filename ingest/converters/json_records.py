"""JSON: arrays are read object by object; only one object is read whole."""

from __future__ import annotations

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


def _array_batches(conversion: Conversion) -> Iterator[list[Record]]:
    """Read a file that is one JSON array of objects."""
    batch: list[Record] = []
    start = end = count = 0
    with open_text(conversion.input) as file:
        reader = JsonReader(file.read)
        for value, end in reader.items():
            count += 1
            check_records((value,), first=count)
            batch.append(value)
            if len(batch) >= BATCH_ROWS or end - start >= _BATCH_CHARACTERS:
                yield batch
                conversion.report(count, end)
                batch, start = [], end
        reader.end()
    if batch:
        yield batch
        conversion.report(count, end)
