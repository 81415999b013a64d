"""What calamine does not tell: error values, and formulas of an ``.xlsx`` without a saved value."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import xlrd

from ingest.converters.signatures import OLE

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK_BYTES = 1024 * 1024
_CELL_BYTES = 64 * 1024  # a cell that is longer, with its formula, may be missed
_PART_BYTES = 16 * 1024 * 1024
_SHEET = re.compile(rb"<(?:\w+:)?sheet\b[^>]*?\b(?:\w+:)?id=\"([^\"]+)\"")
_RELATION = re.compile(rb"<(?:\w+:)?Relationship\b[^>]*>")
_ERROR = re.compile(
    rb"<(?:\w+:)?c\b(?=[^>]*\bt=\"e\")[^>]*?\br=\"([A-Z]{1,3})([0-9]{1,7})\"[^>]*>"
    rb"(?:(?!</(?:\w+:)?c>).)*?<(?:\w+:)?v>([^<]{1,20})</",
    re.DOTALL,
)
_UNSAVED = re.compile(
    rb"(?:</(?:\w+:)?f>|<(?:\w+:)?f\b[^>]*/>)\s*"
    rb"(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v>\s*</(?:\w+:)?v>)?\s*</(?:\w+:)?c>"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OddCells:
    """Cells of a sheet that calamine gives as empty.

    Attributes:
        errors: Text of an error value (``#N/A``) by its row and column, from 0.
        unsaved: How many formulas have no value.
    """

    errors: dict[tuple[int, int], str] = field(default_factory=dict)
    unsaved: int = 0


def find_odd_cells(path: Path, number: int) -> OddCells:
    """Look for them in a sheet, by its number from 0; in an OpenDocument, errors are texts."""
    with path.open("rb") as file:
        if file.read(len(OLE)) == OLE:
            return OddCells(errors=_xls_errors(path, number))
    try:
        with zipfile.ZipFile(path) as archive:
            return _find(archive, number)
    except (zipfile.BadZipFile, KeyError, IndexError, zlib.error, EOFError, NotImplementedError):
        return OddCells()  # calamine says what is wrong


def _xls_errors(path: Path, number: int) -> dict[tuple[int, int], str]:
    """Find the error values of an ``.xls``; none where xlrd cannot read what calamine can."""
    with Path(os.devnull).open("w") as log:
        try:
            book = xlrd.open_workbook(os.fspath(path), logfile=log, on_demand=True)
            sheet = book.sheet_by_index(number)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - whatever a broken file makes of it
            return {}
    return {
        (row, column): xlrd.error_text_from_code.get(sheet.cell_value(row, column), "#N/A")
        for row in range(sheet.nrows)
        for column, kind in enumerate(sheet.row_types(row))
        if kind == xlrd.XL_CELL_ERROR
    }


def _find(archive: zipfile.ZipFile, number: int) -> OddCells:
    errors: dict[tuple[int, int], str] = {}
    unsaved = 0
    for text, fresh in _chunks(archive, _part(archive, number)):
        if b't="e"' in text:
            for letters, row, value in _ERROR.findall(text):
                errors[int(row) - 1, _column(letters)] = value.decode(errors="replace")
        if b"f>" in text or b"<f" in text:
            unsaved += sum(match.end() > fresh for match in _UNSAVED.finditer(text))
    return OddCells(errors=errors, unsaved=unsaved)


def _part(archive: zipfile.ZipFile, number: int) -> str:
    """Give the name of the part that holds a sheet."""
    with archive.open("xl/workbook.xml") as file:
        wanted = _SHEET.findall(file.read(_PART_BYTES))[number]
    with archive.open("xl/_rels/workbook.xml.rels") as file:
        for relation in _RELATION.findall(file.read(_PART_BYTES)):
            target = re.search(rb"\bTarget=\"([^\"]+)\"", relation)
            if target and b'Id="' + wanted + b'"' in relation:
                name = target[1].decode()
                return name[1:] if name.startswith("/") else f"xl/{name}"
    raise KeyError(number)


def _chunks(archive: zipfile.ZipFile, part: str) -> Iterator[tuple[bytes, int]]:
    """Read a part in chunks that overlap; gives each, and how much of it was there before."""
    kept = b""
    with archive.open(part) as file:
        while chunk := file.read(_CHUNK_BYTES):
            text = kept + chunk
            yield text, len(kept)
            kept = text[-_CELL_BYTES:]


def _column(letters: bytes) -> int:
    """Give the number of a column, from 0: ``A`` is 0, ``AA`` is 26."""
    number = 0
    for letter in letters:
        number = number * 26 + letter - ord("A") + 1
    return number - 1
