"""The delimiter of a delimited text file, and whether it has a header, found in its first lines."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from itertools import pairwise

from ingest.converters.lossless import parse_integer, parse_real

DELIMITERS = (",", "\t", ";", "|")
_MAX_RECORDS = 200
_SEPARATOR_LINE = re.compile(r'"?sep=([ -~\t])"?\r?\n', re.IGNORECASE)
_YEAR = re.compile("1[5-9][0-9]{2}|2[01][0-9]{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sniffed:
    """What the first lines say.

    Attributes:
        delimiter: The one that divides them most evenly.
        columns: How many columns the first line has.
        even: Whether there are more lines and all have as many columns, and all columns a name.
    """

    delimiter: str
    columns: int
    even: bool


def sniff(sample: str, *, complete: bool) -> Sniffed | None:
    """Find the delimiter of a text; None if no delimiter divides its first line.

    Args:
        sample: The beginning of the text, without a byte order mark.
        complete: Whether that is the whole text; else its last line is not trusted.
    """
    separator, sample = split_separator(sample)
    best: tuple[float, int, bool] = (0.0, 0, False)
    found: Sniffed | None = None
    for delimiter in (separator,) if separator else DELIMITERS:
        records = _records(sample, delimiter, complete=complete)
        if not records or len(records[0]) < 2:  # noqa: PLR2004 - one column has no delimiter
            continue
        columns = len(records[0])
        share = sum(len(record) == columns for record in records) / len(records)
        rank = (share, columns, not (delimiter == "," and _is_decimal(records)))
        if rank > best:
            best = rank
            named = all(name.strip() for name in records[0])
            even = share == 1.0 and len(records) > 1 and named
            found = Sniffed(delimiter=delimiter, columns=columns, even=even)
    return found


def split_separator(text: str) -> tuple[str | None, str]:
    """Take off a first line ``sep=;``, by which Excel is told the delimiter; give that as well."""
    match = _SEPARATOR_LINE.match(text)
    return (match[1], text[match.end() :]) if match else (None, text)


def has_header(sample: str, delimiter: str, *, complete: bool) -> bool:
    """Say whether the first row names the columns.

    It does, unless a column has a number in every row, the first one included, and none has a
    number in every row but the first. Years (``country,2019,2020``) and ``0,1,2`` or ``1,2,3`` over
    all columns are taken for names.
    """
    records = _records(sample, delimiter, complete=complete)
    if len(records) < 2:  # noqa: PLR2004 - nothing to compare with
        return True
    first, *others = records
    numbers: list[str] = []
    for place, name in enumerate(first):
        values = [record[place] for record in others if place < len(record) and record[place]]
        if not name or not values or not all(map(_is_number, values)):
            continue
        if not _is_number(name):
            return True
        numbers.append(name)
    if not numbers or all(_YEAR.fullmatch(name) for name in numbers):
        return True
    counted = [str(number) for number in range(len(first) + 1)]
    return first in (counted[:-1], counted[1:])


def _is_decimal(records: list[list[str]]) -> bool:
    """Say whether a comma stands between digits in every row after the first, as in ``1,5``."""
    return len(records) > 1 and all(
        any(left[-1:].isdigit() and right[:1].isdigit() for left, right in pairwise(record))
        for record in records[1:]
    )


def _is_number(text: str) -> bool:
    return parse_integer(text) is not None or parse_real(text) is not None


def _records(sample: str, delimiter: str, *, complete: bool) -> list[list[str]]:
    """Read the first records; blank lines are none."""
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
    records: list[list[str]] = []
    try:
        for record in reader:
            if record:
                records.append(record)
            if len(records) > _MAX_RECORDS:
                return records[:-1]
    except csv.Error:  # a value longer than the csv module's limit
        return records
    return records if complete or len(records) < 2 else records[:-1]  # noqa: PLR2004
