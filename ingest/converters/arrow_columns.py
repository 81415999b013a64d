"""Columns of every Arrow type as what SQLite can hold, without loss.

Texts are what a person would write: ISO 8601 for dates, times and durations, JSON for what is
nested.
"""

from __future__ import annotations

import base64
import itertools
import math
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ingest.converters.durations import duration_text
from ingest.converters.json_text import ExactNumber, encode_json
from ingest.converters.lossless import EXACT_DIGITS, parse_real
from ingest.converters.staging import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

STORED = {Kind.INTEGER: pa.int64(), Kind.REAL: pa.float64(), Kind.BLOB: pa.binary()}
_FRACTIONS = {"s": 0, "ms": 3, "us": 6, "ns": 9}  # digits
_UTC = "UTC"


def type_column(column: pa.Array, kind: Kind) -> tuple[Kind, pa.Array]:
    """Find the first kind, from this one on, that holds a column, and give the column as that.

    Args:
        column: Of any type.
        kind: What the column's values before these need; ``EMPTY`` where there are none.

    Returns:
        The kind, and int64, double, binary or else string.
    """
    column = _plain(column)
    of = column.type
    if pa.types.is_null(of):
        return Kind.TEXT, column.cast(pa.string())
    if pa.types.is_boolean(of) or pa.types.is_integer(of):
        return _type_integers(column, kind)
    if pa.types.is_floating(of):
        return _type_floats(column, kind)
    if pa.types.is_decimal(of):
        return _type_decimals(column, kind)
    if _is_binary(of):
        return Kind.BLOB, column.cast(pa.binary())
    return Kind.TEXT, _texts(column)


def _plain(column: pa.Array) -> pa.Array:
    """Give a column without what only says how it is stored."""
    of = column.type
    if isinstance(of, pa.UuidType):
        return pa.array(None if value is None else str(value) for value in column.to_pylist())
    if isinstance(of, pa.BaseExtensionType):
        return _plain(column.storage)
    if pa.types.is_dictionary(of):
        return _plain(column.dictionary_decode())
    if pa.types.is_run_end_encoded(of):
        return _plain(pc.run_end_decode(column))
    return column


def _type_integers(column: pa.Array, kind: Kind) -> tuple[Kind, pa.Array]:
    if kind is not Kind.TEXT:
        try:
            return Kind.INTEGER, column.cast(pa.int64())
        except pa.ArrowInvalid:  # more than 63 bits
            pass
    return Kind.TEXT, column.cast(pa.string())


def _type_floats(column: pa.Array, kind: Kind) -> tuple[Kind, pa.Array]:
    reals = column.cast(pa.float64())
    if kind is not Kind.TEXT and not pc.any(pc.invert(pc.is_finite(reals))).as_py():
        return Kind.REAL, reals
    # SQLite makes NULL of NaN, and Datasette writes an infinity as what is no JSON.
    return Kind.TEXT, pa.array(map(_float_text, reals.to_pylist()), pa.string())


def _float_text(value: float | None) -> str | None:
    if value is None or math.isfinite(value):
        return None if value is None else repr(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _type_decimals(column: pa.Array, kind: Kind) -> tuple[Kind, pa.Array]:
    texts = _decimal_texts(column)
    if kind is Kind.TEXT:
        return kind, texts
    if column.type.scale <= 0:
        try:
            return Kind.INTEGER, texts.cast(pa.int64())
        except pa.ArrowInvalid:
            return Kind.TEXT, texts
    long = texts.filter(pc.greater(pc.binary_length(texts), EXACT_DIGITS))
    if any(parse_real(text) is None for text in long.to_pylist()):
        return Kind.TEXT, texts
    return Kind.REAL, texts.cast(pa.float64())


def _decimal_texts(column: pa.Array) -> pa.Array:
    """Give decimals as plain digits; Arrow writes some with an exponent."""
    texts = column.cast(pa.string())
    if pc.any(pc.match_substring(texts, "E")).as_py():
        values = column.to_pylist()
        return pa.array(None if value is None else format(value, "f") for value in values)
    return texts


def _texts(column: pa.Array) -> pa.Array:
    """Give texts, dates, times, and whatever is nested as texts."""
    of = column.type
    if pa.types.is_timestamp(of):
        return _timestamp_texts(column)
    if pa.types.is_time(of):
        return _without_zeros(column.cast(pa.string()), of.unit)
    if pa.types.is_duration(of):
        values = column.cast(pa.int64()).to_pylist()
        digits = _FRACTIONS[of.unit]
        return pa.array(
            (None if value is None else duration_text(value, digits) for value in values),
            pa.string(),
        )
    if pa.types.is_interval(of):
        return pa.array(map(_interval_text, column.to_pylist()), pa.string())
    if pa.types.is_nested(of):
        values = json_values(column)
        return pa.array(
            (None if value is None else encode_json(value) for value in values), pa.string()
        )
    return column.cast(pa.string())


def _timestamp_texts(column: pa.Array) -> pa.Array:
    """Give timestamps as ``2024-01-31T12:00:00.5+01:00``; an offset only where there is a zone."""
    unit, zone = column.type.unit, column.type.tz
    try:
        column = column.cast(pa.timestamp("s", zone))
        unit = "s"
    except pa.ArrowInvalid:  # there are fractions of seconds
        pass
    try:
        texts = column.cast(pa.string())
    except pa.ArrowInvalid:  # a zone that this machine does not know
        texts = column.cast(pa.timestamp(unit, _UTC)).cast(pa.string())
    texts = _without_zeros(pc.replace_substring(texts, " ", "T", max_replacements=1), unit)
    if zone is not None:
        texts = pc.replace_substring_regex(texts, "([+-][0-9]{2})([0-9]{2})$", r"\1:\2")
    return texts


def _without_zeros(texts: pa.Array, unit: str) -> pa.Array:
    """Drop the zeros at the end of fractions of seconds."""
    if unit == "s":
        return texts
    texts = pc.replace_substring_regex(texts, r"(\.[0-9]*?)0+(Z|[+-][0-9]{4}|)$", r"\1\2")
    return pc.replace_substring_regex(texts, r"\.(Z|[+-][0-9]{4}|)$", r"\1")


def _interval_text(value: Any) -> str | None:
    """Give a calendar interval in ISO 8601: ``P1M2DT0.5S``."""
    if value is None:
        return None
    time = duration_text(value.nanoseconds, 9)
    if time.startswith("-"):  # a sign stands before each number
        time = "PT-" + time.removeprefix("-PT").replace("H", "H-").replace("M", "M-").rstrip("-")
    date = f"{value.months}M{value.days}D"
    return f"P{date}{'' if value.nanoseconds == 0 else time.removeprefix('P')}"


def json_values(column: pa.Array) -> list[Any]:  # noqa: PLR0911 - a return for each type
    """Give a column as values that JSON has; bytes as base64."""
    column = _plain(column)
    of = column.type
    if pa.types.is_struct(of):
        return _objects(column)
    if pa.types.is_map(of):
        return _maps(column)
    if pa.types.is_union(of):
        return [encode_union(value) for value in column.to_pylist()]
    if pa.types.is_nested(of):
        return _lists(column)
    if pa.types.is_boolean(of) or pa.types.is_integer(of) or pa.types.is_null(of):
        values: list[Any] = column.to_pylist()
        return values
    if pa.types.is_decimal(of):
        texts = _decimal_texts(column).to_pylist()
        return [None if text is None else ExactNumber.of(text) for text in texts]
    if _is_binary(of):
        found = column.cast(pa.binary()).to_pylist()
        return [None if value is None else base64.b64encode(value).decode() for value in found]
    if pa.types.is_floating(of):
        found = column.cast(pa.float64()).to_pylist()
        return [v if v is None or math.isfinite(v) else _float_text(v) for v in found]
    texts = _texts(column).to_pylist()
    return list(texts)


def _is_binary(of: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(of)
        or pa.types.is_large_binary(of)
        or pa.types.is_fixed_size_binary(of)
        or pa.types.is_binary_view(of)
    )


def encode_union(value: Any) -> Any:
    """Give a member of a union, as JSON where it is of a plain type, else as Python writes it."""
    plain = value is None or isinstance(value, bool | int | str)
    return value if plain else _float_text(value) if isinstance(value, float) else str(value)


def _objects(column: pa.Array) -> list[Any]:
    """Give structs as objects; as pairs where a name occurs twice."""
    names = [field.name for field in column.type]
    rows = zip(*map(json_values, column.flatten()), strict=True) if names else itertools.repeat(())
    make: Any = dict if len(set(names)) == len(names) else lambda pairs: [list(p) for p in pairs]
    there = column.is_valid().to_pylist()
    return [
        make(zip(names, row, strict=True)) if valid else None
        for valid, row in zip(there, rows, strict=bool(names))
    ]


def _maps(column: pa.Array) -> list[Any]:
    """Give maps as objects where all keys are texts, and else as pairs."""
    of = column.type.key_type
    keys, items = json_values(column.keys), json_values(column.items)
    texts = pa.types.is_string(of) or pa.types.is_large_string(of)
    made: list[Any] = []
    bounds = itertools.pairwise(column.offsets.to_pylist())
    for valid, (start, end) in zip(column.is_valid().to_pylist(), bounds, strict=True):
        pairs = list(zip(keys[start:end], items[start:end], strict=True))
        unique = texts and len({key for key, _ in pairs}) == len(pairs)
        made.append((dict(pairs) if unique else [list(p) for p in pairs]) if valid else None)
    return made


def _lists(column: pa.Array) -> list[Any]:
    """Give lists of any kind as arrays."""
    values: Iterator[Any] = iter(json_values(column.flatten()))
    lengths = pc.list_value_length(column).to_pylist()
    return [
        None if length is None else list(itertools.islice(values, length)) for length in lengths
    ]
