"""The delimiter of a delimited text file, found in its first lines."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

DELIMITERS = (",", "\t", ";", "|")
_MAX_RECORDS = 200


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
    best: tuple[float, int] = (0.0, 0)
    found: Sniffed | None = None
    for delimiter in DELIMITERS:
        records = _records(sample, delimiter, complete=complete)
        if not records or len(records[0]) < 2:  # noqa: PLR2004 - one column has no delimiter
            continue
        columns = len(records[0])
        share = sum(len(record) == columns for record in records) / len(records)
        if (share, columns) > best:
            best = (share, columns)
            named = all(name.strip() for name in records[0])
            even = share == 1.0 and len(records) > 1 and named
            found = Sniffed(delimiter=delimiter, columns=columns, even=even)
    return found


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
