"""Workbooks (``.xlsx``, ``.xlsm``, ``.xls``, OpenDocument): a sheet is a table.

The first row that is not empty names the columns; a title that is merged over all of them is left
out, and a merged header names each of its columns. Formulas are the values that were saved.
"""

from __future__ import annotations

import datetime as dt
import mmap
import os
import zipfile
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import python_calamine
from python_calamine import SheetTypeEnum, SheetVisibleEnum

from headrace.errors import Refusal
from ingest.converters import Conversion, Converted, TableRows
from ingest.converters.durations import duration_text
from ingest.converters.lossless import MAX_EXACT_INTEGER
from ingest.converters.odd_cells import OddCells, find_odd_cells
from ingest.converters.records import BATCH_ROWS, take_table_name
from ingest.converters.signatures import OLE, OLE_NAMES
from ingest.converters.staging import (
    Kind,
    create_table,
    load_records,
    open_staging,
    unique_columns,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ingest.converters.staging import Record

_WORKBOOK, _OLD_WORKBOOK, _ENCRYPTED = OLE_NAMES
Range = tuple[tuple[int, int], tuple[int, int]]  # first and last cell, each row and column, from 0
_MICROSECOND_DIGITS = 6


class _Sheet:
    """The cells of a sheet that are in use.

    Attributes:
        name: As in the file.
        header: A name for each column; empty for one without.
        rows: As wide as the header, none of them empty.
        warnings: What is not in them.
    """

    def __init__(
        self,
        sheet: python_calamine.CalamineSheet,
        odd: OddCells,
        report: Callable[[int], None],
        *,
        header: bool,
    ) -> None:
        self.name = sheet.name
        self.warnings: list[str] = []
        top, left = sheet.start or (0, 0)
        cells = _read_cells(sheet, report)
        for (row, column), text in odd.errors.items():
            if 0 <= row - top < len(cells) and 0 <= column - left < len(cells[0]):
                cells[row - top][column - left] = text
        if odd.unsaved:
            formulas = "formula has" if odd.unsaved == 1 else "formulas have"
            self._warn(f"{odd.unsaved:,} {formulas} no saved value")
        merged = [_shifted(each, top, left) for each in sheet.merged_cell_ranges or ()]
        width = len(cells[0]) if cells else 0
        self.header = ["" if header else f"column_{n}" for n in range(1, width + 1)]
        if header:
            cells = self._take_header(cells, merged)
        kept = [row for row in cells if any(value != "" for value in row)]
        if cells and len(kept) < len(cells):
            empty = len(cells) - len(kept)
            rows = "1 empty row was" if empty == 1 else f"{empty:,} empty rows were"
            self._warn(f"{rows} left out")
        used = [
            column
            for column in range(width)
            if self.header[column] or any(row[column] != "" for row in kept)
        ]
        self.header = [self.header[column] for column in used]
        self.rows = [[row[column] for column in used] for row in kept]

    def _warn(self, what: str) -> None:
        self.warnings.append(f"sheet {self.name!r}: {what}")

    def _take_header(self, cells: list[list[Any]], merged: list[Range]) -> list[list[Any]]:
        """Take the names of the columns from the first rows; give the rows below."""
        width = len(self.header)
        first = next((n for n, row in enumerate(cells) if any(v != "" for v in row)), len(cells))
        while width > 1 and ((first, 0), (first, width - 1)) in merged:
            self._warn(f"the title in row {first + 1} was left out")
            first += 1
        if first >= len(cells):
            return []
        over = [each for each in merged if each[0][0] == first]
        last = max((bottom for _, (bottom, _) in over), default=first)
        for number in range(first, min(last + 1, len(cells))):
            names = [_header_text(value) for value in cells[number]]
            for (row, start), (_, end) in merged:
                if row == number and start < width:
                    names[start : end + 1] = [names[start]] * (min(end, width - 1) - start + 1)
            self.header = [
                f"{above} {name}".strip() if name != above else name
                for above, name in zip(self.header, names, strict=True)
            ]
        return cells[last + 1 :]


def convert(conversion: Conversion) -> Converted:
    """Convert a workbook; hidden sheets too, with a warning.

    Raises:
        Refusal: ``invalid-file``, ``encrypted-file``, ``no-rows``, ``limit-exceeded``.
    """
    _check_ole(conversion.input)
    _check_binary(conversion.input)
    try:
        return _convert(conversion)
    except python_calamine.PasswordError as exc:
        raise _encrypted() from exc
    except python_calamine.CalamineError as exc:
        raise Refusal("invalid-file", f"the workbook is broken: {str(exc)[:200]}") from exc
    except BaseException as exc:
        if type(exc).__name__ != "PanicException":  # Rust's; it is no Exception
            raise
        raise Refusal("invalid-file", "the workbook is broken") from exc


def _convert(conversion: Conversion) -> Converted:
    made: list[TableRows] = []
    warnings: list[str] = []
    taken: set[str] = set()
    with (
        python_calamine.CalamineWorkbook.from_path(os.fspath(conversion.input)) as workbook,
        open_staging(conversion.output) as staging,
    ):
        sheets = [
            (number, each)
            for number, each in enumerate(workbook.sheets_metadata)
            if each.typ is SheetTypeEnum.WorkSheet
        ]
        for number, each in sheets:
            conversion.begin("look")
            odd = find_odd_cells(conversion.input, number)
            conversion.begin("read")
            before = sum(one.rows for one in made)
            report = partial(_report, conversion, before)
            cells = workbook.get_sheet_by_index(number)
            sheet = _Sheet(cells, odd, report, header=conversion.wishes.header is not False)
            if not sheet.header:
                warnings.append(f"sheet {each.name!r} was left out: it is empty")
                continue
            if each.visible is not SheetVisibleEnum.Visible:
                warnings.append(f"sheet {each.name!r} is hidden in the file; it was loaded as well")
            wanted = conversion.table if len(sheets) == 1 else each.name
            table = take_table_name(wanted, taken, warnings)
            conversion.begin("write")
            stays_text = partial(conversion.stays_text, table)
            rows, changes = _load(staging, table, sheet, report, stays_text)
            made.append(TableRows(name=table, rows=rows))
            warnings += (*sheet.warnings, *changes)
    if not made:
        raise Refusal("no-rows", "the workbook has no cells")
    return Converted(tables=tuple(made), warnings=tuple(warnings))


def _report(conversion: Conversion, before: int, rows: int) -> None:
    conversion.report(before + rows, 0)


def _read_cells(
    sheet: python_calamine.CalamineSheet, report: Callable[[int], None]
) -> list[list[Any]]:
    """Read the rows from the first that is in use; calamine gives those above it as well."""
    top, _left = sheet.start or (0, 0)
    cells: list[list[Any]] = []
    for row in islice(sheet.iter_rows(), top, None):
        cells.append(row)
        if len(cells) % BATCH_ROWS == 0:
            report(len(cells))
    return cells


def _load(
    staging: sqlite3.Connection,
    table: str,
    sheet: _Sheet,
    report: Callable[[int], None],
    stays_text: Callable[[str], bool],
) -> tuple[int, list[str]]:
    """Load a sheet; give its rows and warnings."""
    done = 0
    names, warnings = unique_columns(sheet.header, table=table)
    if not sheet.rows:
        create_table(staging, table, names, [Kind.EMPTY] * len(names))
        return 0, warnings
    types = [{type(row[n]) for row in sheet.rows} for n in range(len(names))]
    with_times = [dt.datetime in each for each in types]
    warnings += [
        f"table {table!r}: the column {name!r} has times among its dates; a date before the first"
        " of the workbook's calendar is read as its time of day"
        for name, each in zip(names, types, strict=True)
        if dt.time in each and each & {dt.date, dt.datetime}
    ]

    def batches() -> Iterator[list[Record]]:
        nonlocal done
        for start in range(0, len(sheet.rows), BATCH_ROWS):
            rows = sheet.rows[start : start + BATCH_ROWS]
            columns = [
                _values([row[n] for row in rows], with_times=with_times[n])
                for n in range(len(names))
            ]
            yield [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
            done = max(done, start)  # the first batch is read twice, all where types do not fit
            report(done)

    rows, _ = load_records(staging, table, batches, stays_text=stays_text, again=lambda: None)
    report(rows)
    return rows, warnings


def _values(cells: list[Any], *, with_times: bool) -> list[Any]:
    """Give cells of a column as what JSON has; every number in a sheet is a double.

    Args:
        cells: Some of the column's.
        with_times: Whether a date gets a time as well, since others of the column have one.
    """
    if set(map(type, cells)) <= {str, float}:
        return [
            value if type(value) is str and value else None if value == "" else _number(value)
            for value in cells
        ]
    return [_value(value, with_times=with_times) for value in cells]


def _value(value: Any, *, with_times: bool) -> Any:
    """Give one cell as what JSON has."""
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, dt.timedelta):
        return duration_text(value // dt.timedelta(microseconds=1), _MICROSECOND_DIGITS)
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime) and with_times:
        return f"{value.isoformat()}T00:00:00"
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return None if value == "" else value


def _number(value: float) -> float:
    """Give an integer where the double is one."""
    whole = value.is_integer() and abs(value) <= MAX_EXACT_INTEGER
    return int(value) if whole else value


def _header_text(value: Any) -> str:
    """Give the text of a cell that names a column."""
    return str(_value(value, with_times=False) or "" if value != 0 else 0).strip()


def _shifted(merged: Range, top: int, left: int) -> Range:
    """Give a range counted from the first cell in use."""
    (first_row, first_column), (last_row, last_column) = merged
    return (first_row - top, first_column - left), (last_row - top, last_column - left)


def _check_ole(path: Path) -> None:
    """Refuse a file of Office's older container that is no workbook, or an encrypted one."""
    with path.open("rb") as file:
        if file.read(len(OLE)) != OLE:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(_ENCRYPTED) >= 0:
                raise _encrypted()
            if content.find(_WORKBOOK) < 0 and content.find(_OLD_WORKBOOK) < 0:
                raise Refusal("unknown-format", "the file is of Office, and holds no sheets")


def _check_binary(path: Path) -> None:
    """Refuse an ``.xlsb``: calamine reads texts of some as empty cells."""
    try:
        with zipfile.ZipFile(path) as archive:
            binary = "xl/workbook.bin" in archive.namelist()
    except (zipfile.BadZipFile, ValueError):
        return
    if binary:
        raise Refusal(
            "unknown-format", "a binary workbook (.xlsb) cannot be read", hint="save it as .xlsx"
        )


def _encrypted() -> Refusal:
    return Refusal("encrypted-file", "the workbook is encrypted", hint="save it without a password")
