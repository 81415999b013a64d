"""A stored value as another type: the same value, or an error; nothing is rounded or cut."""

from __future__ import annotations

from ingest.converters.lossless import MAX_EXACT_INTEGER, parse_integer, parse_real

Value = int | float | str | bytes | None


def cast_value(value: Value, wanted: str, *, empty_is_null: bool = True) -> Value:
    """Give a value as the type that is wanted.

    Args:
        value: As SQLite stores it.
        wanted: ``text``, ``integer``, ``real`` or ``blob``.
        empty_is_null: Whether an empty text is NULL in a numeric column.

    Raises:
        ValueError: It cannot be had without loss.
    """
    if value is None:
        return None
    if wanted == "text":
        return _to_text(value)
    if wanted == "blob":
        return _to_blob(value)
    if value == "" and empty_is_null:
        return None
    return _to_integer(value) if wanted == "integer" else _to_real(value)


def _to_text(value: Value) -> str:
    """Give the text that a value is written as."""
    if isinstance(value, bytes):
        return value.decode()
    return value if isinstance(value, str) else repr(value)


def _to_blob(value: Value) -> bytes:
    """Give the bytes of a text; numbers have none of their own."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    raise ValueError("a number is no blob")


def _to_integer(value: Value) -> int:
    """Give the integer that a text is written as, or that a double is equal to."""
    found: int | None = None
    if isinstance(value, int):
        found = value
    elif isinstance(value, str):
        found = parse_integer(value)
    elif isinstance(value, float) and value.is_integer() and abs(value) <= MAX_EXACT_INTEGER:
        found = int(value)
    if found is None:
        raise ValueError("no integer")
    return found


def _to_real(value: Value) -> float:
    """Give the double that a text is written as, or that an integer is equal to."""
    found: float | None = None
    if isinstance(value, float):
        found = value
    elif isinstance(value, str):
        found = parse_real(value)
    elif isinstance(value, int) and abs(value) <= MAX_EXACT_INTEGER:
        found = float(value)
    if found is None:
        raise ValueError("no number that a double holds")
    return found
