"""Documents of records (JSON, YAML): which tables a document holds."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.errors import Refusal
from headrace.names import MAX_COLUMN_NAME, allowed_table_name, free_name
from ingest.converters import Conversion, Converted, TableRows
from ingest.converters.staging import Batches, Record, load_records, open_staging

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

T = TypeVar("T")

BATCH_ROWS = 2000
_MAX_SHOWN = 5  # names in a warning

_SHAPES = "an array of objects, an object of such arrays, or one object"


def convert_document(document: Any, conversion: Conversion) -> Converted:
    """Load a document: an array of objects, an object of such arrays, or one object (one row).

    Raises:
        Refusal: ``no-rows`` or ``invalid-file``.
    """
    warnings: list[str] = []
    named = find_tables(document, conversion.table)
    found = dict(name_tables([(name, any(rows), rows) for name, rows in named], warnings))
    if isinstance(document, dict) and list(found.values()) == [[document]]:
        warnings += _warn_of_lists(document)
    batches = {table: lambda rows=rows: _batches(rows, conversion) for table, rows in found.items()}
    converted = convert_batches(batches, conversion)
    return Converted(tables=converted.tables, warnings=(*warnings, *converted.warnings))


def convert_batches(tables: Mapping[str, Batches], conversion: Conversion) -> Converted:
    """Load tables, each from its batches of records."""
    made: list[TableRows] = []
    warnings: list[str] = []
    with open_staging(conversion.output) as connection:
        for table, all_batches in tables.items():
            batches = flattened(all_batches, conversion)
            renamed = conversion.table_given and len(tables) == 1
            live = conversion.table if renamed else table
            rows, changes = load_records(
                connection,
                table,
                batches,
                stays_text=partial(conversion.stays_text, live),
                again=lambda: conversion.begin("read again"),
            )
            made.append(TableRows(name=table, rows=rows))
            warnings += changes
    return Converted(tables=tuple(made), warnings=tuple(warnings))


def flattened(batches: Batches, conversion: Conversion) -> Batches:
    """Give batches with objects within records made columns, if the uploader wishes it."""
    if conversion.wishes.nested != "flatten":
        return batches
    return lambda: ([flatten(record) for record in batch] for batch in batches())


def flatten(record: Record) -> Record:
    """Make ``{"a": {"b": 1}}`` into ``{"a_b": 1}``; arrays and empty objects stay.

    Raises:
        Refusal: ``invalid-file``: two values would be in one column.
    """
    flat: dict[str, Any] = {}
    for key, value in _leaves(record, ""):
        if key in flat:
            raise Refusal(
                "invalid-file",
                f"two values of one record would be in the column {key[:MAX_COLUMN_NAME]!r}",
                hint="nested=json keeps them apart",
            )
        flat[key] = value
    return flat


def _leaves(record: Record, prefix: str) -> Iterator[tuple[str, Any]]:
    """Give each value within an object, and the names on the way to it, joined by ``_``."""
    for key, value in record.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}_")
        else:
            yield f"{prefix}{key}", value


def find_tables(document: Any, table: str) -> list[tuple[str, list[Record]]]:
    """Find the tables of a document, with the names that it gives them.

    An object is several tables if all its values are arrays of objects; otherwise it is one row of
    the table that is named.
    """
    if document is None or document in ([], {}):
        raise Refusal("no-rows", "the file holds no rows")
    if isinstance(document, dict):
        values = list(document.values())
        if all(_is_table(value) for value in values):
            return list(document.items())
        return [(table, [document])]
    if isinstance(document, list):
        check_records(document, first=1)
        return [(table, document)]
    raise Refusal(
        "invalid-file", f"the file holds {type_name(document)}, and not records", hint=_hint()
    )


def _warn_of_lists(document: Record) -> list[str]:
    """Say which members of the one object that a file is look like tables, and are none."""
    lists = [repr(name) for name, value in document.items() if value and _is_table(value)]
    if not lists:
        return []
    names = f"{', '.join(lists[:_MAX_SHOWN])}{' and others' if len(lists) > _MAX_SHOWN else ''}"
    return [f"the file is one object, so it is one row; JSON in that row are its lists {names}"]


def check_records(values: Iterable[Any], *, first: int) -> None:
    """Refuse values that are not objects; ``first`` is the number of the first one."""
    for number, value in enumerate(values, start=first):
        if not isinstance(value, dict):
            raise Refusal(
                "invalid-file",
                f"item {number} is {type_name(value)}, and not an object",
                hint=_hint(),
            )


def type_name(value: Any) -> str:
    """Name a value's type as JSON does, with its article."""
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    if value is None:
        return "null"
    return "an array" if isinstance(value, list) else names.get(type(value), "an object")


def _hint() -> str:
    """Say what a document may be."""
    return f"send {_SHAPES}"


def _is_table(value: Any) -> bool:
    """Say whether a member of an object is a table of its own; an empty array may be one."""
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def name_tables(
    found: Iterable[tuple[str, bool, T]], warnings: list[str]
) -> Iterator[tuple[str, T]]:
    """Give the tables that have rows, with names that SQLite takes.

    Args:
        found: Of each table its name, whether it has rows, and what it is.
        warnings: What is to be told is added.

    Raises:
        Refusal: ``no-rows``: none has.
    """
    taken: set[str] = set()
    for name, filled, table in found:
        if not filled:
            warnings.append(f"table {name!r} was left out: it has no rows")
            continue
        yield take_table_name(name, taken, warnings), table
    if not taken:
        raise Refusal("no-rows", "the file holds no rows")


def take_table_name(name: str, taken: set[str], warnings: list[str]) -> str:
    """Give a name that SQLite takes and no other table has; it is added to those taken."""
    table = free_name(allowed_table_name(name), taken)
    taken.add(table.lower())
    if table != name:
        warnings.append(f"table {name!r} was renamed to {table!r}")
    return table


def _batches(rows: Sequence[Record], conversion: Conversion) -> Iterator[Sequence[Record]]:
    """Cut rows into batches."""
    for start in range(0, len(rows), BATCH_ROWS):
        yield rows[start : start + BATCH_ROWS]
        conversion.report(min(start + BATCH_ROWS, len(rows)), 0)
