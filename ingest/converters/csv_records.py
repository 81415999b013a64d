"""Delimited text as Python's csv module reads it: header, rows, and which lines are wrong."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

from headrace.errors import Refusal
from ingest.converters.text import open_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_NAMED_LINES = 10
MAX_VALUE_CHARACTERS = 64 * 1024 * 1024
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The header row.

    Attributes:
        names: The columns as they are written.
        end_bytes: Where the first row begins.
        lines: How many lines come before it.
    """

    names: list[str]
    end_bytes: int
    lines: int


class _Reader:
    """Reads records, and knows where in the file they stand.

    Attributes:
        line: The line that was read last; 1 is the first one.
        size_bytes: What has been read so far.
    """

    def __init__(self, file: TextIO, delimiter: str, *, lines_before: int = 0) -> None:
        self._file = file
        self._delimiter = delimiter
        self._in_hand = 0  # lines of the record in hand
        self._ended = False
        self.line = lines_before
        self.size_bytes = 0

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Give each record with the line that it begins on; blank lines are none."""
        csv.field_size_limit(MAX_VALUE_CHARACTERS)
        try:
            for record in csv.reader(self._lines(), delimiter=self._delimiter):
                first = self.line - self._in_hand + 1
                self._in_hand = 0
                if self._ended:  # the csv module asks for one more line only within quotes
                    raise Refusal(
                        "invalid-file",
                        f"the row that begins on line {first} has a quote that is never closed",
                        line=first,
                    )
                if record:
                    yield first, record
        except csv.Error as exc:
            first = self.line - self._in_hand + 1
            raise Refusal(
                "limit-exceeded",
                f"the row that begins on line {first} has a value of more than"
                f" {MAX_VALUE_CHARACTERS:,} characters",
                hint="is a closing quote missing?",
                line=first,
                extra={"limit": "value"},
            ) from exc

    def _lines(self) -> Iterator[str]:
        """Give each line to the csv module."""
        for line in self._file:
            self.line += 1
            self._in_hand += 1
            self.size_bytes += len(line) if line.isascii() else len(line.encode())
            if "\0" in line:
                raise Refusal(
                    "invalid-file",
                    f"line {self.line} has a NUL character",
                    hint="text files have none: is this another format, or another encoding?",
                    line=self.line,
                    column=line.index("\0") + 1,
                )
            yield line
        self._ended = True


def read_header(path: Path, delimiter: str) -> Header:
    """Read the header row: the first line that is not blank.

    Raises:
        Refusal: ``no-rows``: every line is blank; ``invalid-file``: it cannot be read.
    """
    with path.open("rb") as raw:
        mark_bytes = len(BOM) if raw.read(len(BOM)) == BOM else 0
    with open_text(path) as file:
        reader = _Reader(file, delimiter)
        for _, names in reader.records():
            end_bytes = mark_bytes + reader.size_bytes
            return Header(names=names, end_bytes=end_bytes, lines=reader.line)
    raise Refusal("no-rows", "the file holds no header row")


def read_records(path: Path, delimiter: str, header: Header) -> Iterator[list[str]]:
    """Read the rows; blank lines are none.

    Raises:
        Refusal: ``invalid-file``: rows have another number of values than the header; the first
            ``MAX_NAMED_LINES`` of them are named.
    """
    wanted = len(header.names)
    ragged: list[tuple[int, int]] = []
    with open_text(path) as file:
        for _ in range(header.lines):
            file.readline()
        for line, record in _Reader(file, delimiter, lines_before=header.lines).records():
            if len(record) != wanted:
                ragged.append((line, len(record)))
                if len(ragged) == MAX_NAMED_LINES:
                    break
            elif not ragged:
                yield record
    if ragged:
        raise _ragged_rows(ragged, wanted)


def _ragged_rows(ragged: list[tuple[int, int]], wanted: int) -> Refusal:
    """Give the refusal that names the lines and how many values they have."""
    line, values = ragged[0]
    detail = f"line {line} has {values:,} values where the header has {wanted:,}"
    if len(ragged) > 1:
        others = ", ".join(str(other) for other, _ in ragged[1:])
        more = ", perhaps more" if len(ragged) == MAX_NAMED_LINES else ""
        detail += f"; lines {others} are wrong as well{more}"
    return Refusal(
        "invalid-file",
        detail,
        hint="is a quote or a delimiter missing, or one too many?",
        line=line,
        extra={"lines": [number for number, _ in ragged]},
    )
