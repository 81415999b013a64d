"""Delimited text as Python's csv module reads it: header, rows, and which rows are bad and why."""

from __future__ import annotations

import csv
from collections.abc import Callable
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
_HINT = (
    "is a quote or a delimiter missing, or one too many?"
    " on_bad_rows=quarantine loads the other rows"
)
_TYPE_HINT = "text keeps every value as it is; on_bad_rows=quarantine loads the other rows"

Complaint = Callable[[list[str]], str | None]  # why a row is bad, or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What comes before the first row.

    Attributes:
        names: The columns as they are written.
        end_bytes: Where the first row begins.
        lines: How many lines come before it.
    """

    names: list[str]
    end_bytes: int
    lines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A delimited file, ready to be read from its first row.

    Attributes:
        path: The file, UTF-8.
        header: What comes before the first row.
        delimiter: One character.
        complaint: What else is asked of a row of the right width.
    """

    path: Path
    header: Header
    delimiter: str
    complaint: Complaint


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """A row that cannot be loaded.

    Attributes:
        line: The line that it begins on; 1 is the first one.
        raw: What is written there, without the line's end.
        reason: What is wrong, to be read after "line 7".
        column: The character of the line that is wrong, where it is one; 1 is the first.
        code: What a file is refused with because of it.
    """

    line: int
    raw: str
    reason: str
    column: int | None = None
    code: str = "invalid-file"


class _Reader:
    """Reads records, and knows where in the file they stand.

    Attributes:
        line: The line that was read last; 1 is the first one.
        size_bytes: What has been read so far.
    """

    def __init__(self, file: TextIO, delimiter: str, *, lines_before: int = 0) -> None:
        self._file = file
        self._delimiter = delimiter
        self._held: list[str] = []  # lines of the record in hand
        self._has_nul = False  # the record in hand
        self._ended = False
        self.line = lines_before
        self.size_bytes = 0

    def records(self) -> Iterator[tuple[list[str] | BadRow, list[str]]]:
        """Give each record, or what is wrong with it, and its lines; a blank line's is empty.

        Raises:
            Refusal: ``limit-exceeded``: a value is too long.
        """
        csv.field_size_limit(MAX_VALUE_CHARACTERS)
        try:
            for record in csv.reader(self._lines(), delimiter=self._delimiter):
                held, self._held = self._held, []
                if self._ended:  # the csv module asks for one more line only within quotes
                    yield self._bad(held, "has a quote that is never closed"), held
                elif self._has_nul:
                    self._has_nul = False
                    yield self._bad(held, "has a NUL character"), held
                else:
                    yield record, held
        except csv.Error as exc:
            first = self.line - len(self._held) + 1
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
            self._held.append(line)
            self.size_bytes += len(line) if line.isascii() else len(line.encode())
            self._has_nul = self._has_nul or "\0" in line
            yield line
        self._ended = True

    def _bad(self, held: list[str], reason: str) -> BadRow:
        first = self.line - len(held) + 1
        return make_bad_row(first, held, reason)


def make_bad_row(line: int, held: list[str], reason: str, code: str = "invalid-file") -> BadRow:
    """Make a bad row of its lines."""
    column = held[0].find("\0") + 1 if held else 0
    raw = "".join(held).removesuffix("\n").removesuffix("\r")
    return BadRow(line=line, raw=raw, reason=reason, column=column or None, code=code)


def read_header(path: Path, delimiter: str, *, lines_before: int = 0) -> Header:
    """Read the header row: the first line that is not blank, after those before it.

    Raises:
        Refusal: ``no-rows``: every line is blank; ``invalid-file``: it cannot be read.
    """
    start_bytes = _start_bytes(path, lines_before)
    with open_text(path) as file:
        for _ in range(lines_before):
            file.readline()
        reader = _Reader(file, delimiter, lines_before=lines_before)
        for names, _ in reader.records():
            if isinstance(names, BadRow):
                raise refuse_rows([names])
            if not names:
                continue
            end_bytes = start_bytes + reader.size_bytes
            return Header(names=names, end_bytes=end_bytes, lines=reader.line)
    raise Refusal("no-rows", "the file holds no header row")


def no_header(path: Path, columns: int, *, lines_before: int = 0) -> Header:
    """Stand in for the header of a file without one: ``column_1``, ``column_2``, and so on."""
    names = [f"column_{number}" for number in range(1, columns + 1)]
    return Header(names=names, end_bytes=_start_bytes(path, lines_before), lines=lines_before)


def read_rows(source: Source) -> Iterator[list[str] | BadRow]:
    """Read the rows, good and bad.

    Blank lines are none, but between those of one column: there each is an empty value.
    """
    lines_before = source.header.lines
    with open_text(source.path) as file:
        for _ in range(lines_before):
            file.readline()
        reader = _Reader(file, source.delimiter, lines_before=lines_before)
        blank = 0  # lines in a row
        for row, held in reader.records():
            if not row:
                blank += 1
                continue
            first = reader.line - len(held) + 1
            if len(source.header.names) == 1:
                yield from (
                    _judge(source, [""], line, [""]) for line in range(first - blank, first)
                )
            blank = 0
            yield row if isinstance(row, BadRow) else _judge(source, row, first, held)


def _judge(source: Source, row: list[str], line: int, held: list[str]) -> list[str] | BadRow:
    """Give a row, or what is wrong with it."""
    wanted = len(source.header.names)
    if len(row) != wanted:
        values = "1 value" if len(row) == 1 else f"{len(row):,} values"
        return make_bad_row(line, held, f"has {values} where the header has {wanted:,}")
    if reason := source.complaint(row):
        return make_bad_row(line, held, reason, "wrong-type")
    return row


def read_records(source: Source) -> Iterator[list[str]]:
    """Read the rows of a file in which none may be bad.

    Raises:
        Refusal: ``invalid-file``: the first ``MAX_NAMED_LINES`` bad rows are named.
    """
    bad: list[BadRow] = []
    for row in read_rows(source):
        if isinstance(row, BadRow):
            bad.append(row)
            if len(bad) == MAX_NAMED_LINES:
                break
        elif not bad:
            yield row
    if bad:
        raise refuse_rows(bad)


def refuse_rows(bad: list[BadRow], *, hint: str | None = None) -> Refusal:
    """Give the refusal that names the lines, and what is wrong with the first.

    Args:
        bad: The first bad rows, at most ``MAX_NAMED_LINES``.
        hint: What to do, if not what is usual for delimited text.
    """
    first = bad[0]
    detail = f"line {first.line} {first.reason}"
    if len(bad) > 1:
        others = ", ".join(str(row.line) for row in bad[1:])
        lines = f"lines {others} are" if len(bad) > 2 else f"line {others} is"  # noqa: PLR2004
        more = ", perhaps more" if len(bad) == MAX_NAMED_LINES else ""
        detail += f"; {lines} wrong as well{more}"
    return Refusal(
        first.code,
        detail,
        hint=hint or (_TYPE_HINT if first.code == "wrong-type" else _HINT),
        line=first.line,
        column=first.column,
        extra={"lines": [row.line for row in bad]},
    )


def _start_bytes(path: Path, lines_before: int) -> int:
    """Give where a file's text begins, after its mark and some lines."""
    with path.open("rb") as raw:
        if raw.read(len(BOM)) != BOM:
            raw.seek(0)
        for _ in range(lines_before):
            raw.readline()
        return raw.tell()
