"""GeoJSON: a feature is a row; its properties are columns, its geometry stays GeoJSON text.

Beside them stand the feature's other members (``id``) and the box around the geometry. A property
that has the name of one of these keeps it, and that one is called ``feature_…``, in all rows.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.errors import Refusal
from ingest.converters import Conversion, Converted
from ingest.converters.json_text import (
    CHUNK_CHARACTERS,
    ExactNumber,
    JsonReader,
    decode_json,
    encode_json,
)
from ingest.converters.records import BATCH_ROWS, convert_batches, type_name
from ingest.converters.text import open_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import TextIO

    from ingest.converters.staging import Record

SEPARATOR = "\x1e"  # before each feature of a text sequence (RFC 8142)
BOX = ("min_lon", "min_lat", "max_lon", "max_lat")
_BATCH_CHARACTERS = 8 * 1024 * 1024
GEOMETRIES = frozenset({
    "Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon",
    "GeometryCollection",
})  # fmt: skip
_LOOKS_SO = re.compile(rf'"type"\s*:\s*"(Feature(Collection)?|{"|".join(GEOMETRIES)})"')
_OWN = frozenset({"type", "properties", "geometry"})
T = TypeVar("T")


class _NameTakenError(Exception):
    """A property is called as a column that features have beside their properties."""


class Features:
    """Makes rows of features, with these names for what they have beside their properties."""

    def __init__(self, renamed: Mapping[str, str]) -> None:
        self._renamed = renamed

    def record(self, feature: Mapping[str, Any]) -> dict[str, Any]:
        """Give the row of a feature.

        Raises:
            Refusal: ``invalid-file``: the properties are no object.
        """
        properties = feature.get("properties")
        if properties is not None and not isinstance(properties, dict):
            raise Refusal(
                "invalid-file", f"the properties of a feature are {type_name(properties)}"
            )
        geometry = feature.get("geometry")
        members = {name: value for name, value in feature.items() if name not in _OWN}
        members["geometry"] = None if geometry is None else encode_json(geometry)
        members |= zip(BOX, find_box(geometry), strict=True)
        record = {"id": members["id"]} if "id" in members and "id" not in self._renamed else {}
        record |= properties or {}
        for name, value in members.items():
            column = self._renamed.get(name, name)
            if column in (properties or {}) and record[column] != value:
                raise _NameTakenError(name)
            record[column] = value
        return record


def without_conflict(output: Path, convert_features: Callable[[Features], T]) -> T:
    """Convert with names that no property has: from the start again for each that one turns up for.

    Args:
        output: The staging database, which is made anew each time.
        convert_features: Converts the file.
    """
    renamed: dict[str, str] = {}
    while True:
        try:
            return convert_features(Features(renamed))
        except _NameTakenError as exc:
            name = str(exc)
            renamed[name] = f"feature_{renamed.get(name, name)}"
            output.unlink(missing_ok=True)


def convert(conversion: Conversion) -> Converted:
    """Convert a collection of features, one feature or geometry, or a text sequence of features.

    Raises:
        Refusal: ``invalid-file`` with line and column, ``no-rows``, ``limit-exceeded``.
    """
    warnings: list[str] = []

    def load(features: Features) -> Converted:
        def batches() -> Iterator[list[Record]]:
            warnings.clear()
            with open_text(conversion.input) as file:
                found = _find_features(file, warnings)
                yield from _batches(found, features, conversion)

        return convert_batches({conversion.table: batches}, conversion)

    converted = without_conflict(conversion.output, load)
    return Converted(tables=converted.tables, warnings=(*converted.warnings, *warnings))


def _batches(
    found: Iterable[tuple[Any, int]], features: Features, conversion: Conversion
) -> Iterator[list[Record]]:
    """Make rows of features, and cut them into batches."""
    batch: list[Record] = []
    start = end = count = 0
    for count, (feature, end) in enumerate(found, start=1):
        if not is_feature(feature):
            raise Refusal("invalid-file", f"item {count} is not a GeoJSON feature")
        batch.append(features.record(feature))
        if len(batch) >= BATCH_ROWS or end - start >= _BATCH_CHARACTERS:
            yield batch
            conversion.report(count, end)
            batch, start = [], end
    if batch:
        yield batch
        conversion.report(count, end)


def is_geojson(path: Path) -> bool:
    """Say whether a JSON object is a feature, a collection of features, or a geometry."""
    with open_text(path) as file:
        if not _LOOKS_SO.search(file.read(CHUNK_CHARACTERS)):
            return False
    with open_text(path) as file:
        reader = JsonReader(file.read)
        kind: Any = None
        placed = False
        for key in reader.keys():  # noqa: SIM118 - no mapping
            placed = placed or key in ("coordinates", "geometries")
            if key == "type":
                kind = reader.value()
                if kind in ("Feature", "FeatureCollection"):
                    return True
            elif reader.peek() == "[":
                for _ in reader.items():
                    pass
            else:
                reader.value()
    return placed and isinstance(kind, str) and kind in GEOMETRIES


def is_feature(record: Any) -> bool:
    """Say whether a JSON object is a GeoJSON feature."""
    return isinstance(record, dict) and record.get("type") == "Feature" and "geometry" in record


def _find_features(file: TextIO, warnings: list[str]) -> Iterator[tuple[Any, int]]:
    """Give each feature of a file, and how many characters of it are read when it ends."""
    first = file.read(1)
    if first == SEPARATOR:
        yield from _sequence(file)
        return
    reader = JsonReader(lambda size: held.pop() if held else file.read(size))
    held = [first]
    alone: dict[str, Any] = {}
    for key in reader.keys():  # noqa: SIM118 - no mapping
        if key == "features" and reader.peek() == "[":
            yield from reader.items()
        else:
            alone[key] = reader.value()
    reader.end()
    kind = alone.pop("type", None)
    if kind == "Feature":
        yield {"type": "Feature", **alone}, 0
    elif kind in GEOMETRIES:
        yield {"type": "Feature", "geometry": {"type": kind, **alone}}, 0
    elif alone:
        names = ", ".join(repr(name) for name in alone)
        warnings.append(f"what the collection says of itself is not in the table: {names[:200]}")


def _sequence(file: TextIO) -> Iterator[tuple[Any, int]]:
    """Read a text sequence; its first separator is read already."""
    pending, line, done = "", 1, 1
    while True:
        chunk = file.read(CHUNK_CHARACTERS)
        *texts, pending = (pending + chunk).split(SEPARATOR)
        if not chunk:
            texts, pending = [pending], ""
        for text in texts:
            done += len(text) + 1
            if text.strip():
                yield decode_json(text, first_line=line), done
            line += text.count("\n")
        if not chunk:
            return


def find_box(geometry: Any) -> tuple[float | None, ...]:
    """Find the box around a geometry: least longitude and latitude, and greatest.

    Returns:
        Four numbers, or four times None where there are no coordinates.
    """
    try:
        lons, lats = zip(
            *((_number(at[0]), _number(at[1])) for at in _positions(geometry)), strict=True
        )
        box = (min(lons), min(lats), max(lons), max(lats))
    except (ValueError, TypeError, LookupError, OverflowError):  # none, or none to be drawn
        return (None, None, None, None)
    return box if all(map(math.isfinite, box)) else (None, None, None, None)


def _number(value: Any) -> float:
    """Give a coordinate."""
    return float(value.text) if isinstance(value, ExactNumber) else 0.0 + value


def _positions(geometry: Any) -> Iterator[list[Any]]:
    """Give each position of a geometry."""
    if not isinstance(geometry, dict):
        return
    for part in geometry.get("geometries") or ():
        yield from _positions(part)
    pending = [geometry.get("coordinates") or []]
    while pending:
        item = pending.pop()
        if not isinstance(item, list):
            raise TypeError(item)
        if item and not isinstance(item[0], list):
            yield item
        else:
            pending.extend(item)
