from __future__ import annotations

import datetime as dt
import re
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from headrace.errors import Refusal
from headrace.wishes import Wishes
from ingest.converters import Conversion, Converted, TableRows
from ingest.converters.sheets import convert
from ingest.converters.signatures import OLE

DATA = Path(__file__).parents[1] / "data" / "sheets"


def _convert(path: Path, output: Path, **wishes: Any) -> Converted:
    return convert(
        Conversion(input=path, output=output, format="sheets", table="t", wishes=Wishes(**wishes))
    )


def _read(path: Path, table: str = "t") -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f'SELECT * FROM "{table}"').fetchall()


def _columns(path: Path, table: str = "t") -> dict[str, str]:
    with closing(sqlite3.connect(path)) as connection:
        return {row[1]: row[2] for row in connection.execute(f'PRAGMA table_info("{table}")')}


def _book(folder: Path, *rows: list[Any]) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(folder / "in.xlsx")
    return folder / "in.xlsx"


@pytest.mark.parametrize(
    ("cells", "declared", "stored"),
    [
        ([1, 2.0, None], "INTEGER", [1, 2, None]),
        ([1, 2.5], "REAL", [1.0, 2.5]),
        (["01234", "7"], "TEXT", ["01234", "7"]),
        (["x", 1, 2.5], "TEXT", ["x", "1", "2.5"]),
        ([True, False], "INTEGER", [1, 0]),
        ([1e300, 2.0**60], "REAL", [1e300, 2.0**60]),
        ([dt.date(2024, 1, 31)], "TEXT", ["2024-01-31"]),
        (
            [dt.datetime(2024, 1, 31, 12, 30, 15), dt.date(2024, 2, 1)],  # noqa: DTZ001 - no zone
            "TEXT",
            ["2024-01-31T12:30:15", "2024-02-01T00:00:00"],
        ),
        ([dt.time(10, 20, 30)], "TEXT", ["10:20:30"]),
        ([dt.timedelta(hours=36, minutes=5)], "TEXT", ["PT36H5M"]),
        ([dt.timedelta(seconds=2.5)], "TEXT", ["PT2.5S"]),
        ([1, "#N/A", "#DIV/0!"], "TEXT", ["1", "#N/A", "#DIV/0!"]),
    ],
)  # fmt: skip
def test_sheet_values_are_kept_as_what_they_are(
    tmp_path: Path, cells: list[Any], declared: str, stored: list[Any]
) -> None:
    """A cell is stored as what it is: no number is rounded, no date is a number, no error empty."""
    path = _book(tmp_path, ["n", "a"], *([n, cell] for n, cell in enumerate(cells)))
    _convert(path, tmp_path / "out.db")
    assert _columns(tmp_path / "out.db")["a"] == declared
    assert [row[1] for row in _read(tmp_path / "out.db")] == stored


@pytest.mark.parametrize("day", [dt.date(2024, 1, 31), dt.datetime(2024, 1, 31, 12, 30)])  # noqa: DTZ001 - no zone
@pytest.mark.parametrize("serial", [0, -1, -3.5])
def test_sheet_with_dates_before_its_calendar_says_so(
    tmp_path: Path, day: dt.date, serial: float
) -> None:
    """The library gives the time of such a day alone; that is not passed on without a word."""
    path = _book(tmp_path, ["when", "other"], [day, day], [serial, day])
    book = openpyxl.load_workbook(path)
    book.active["A3"].number_format = "yyyy-mm-dd"
    book.save(path)
    (warning,) = _convert(path, tmp_path / "out.db").warnings
    assert warning.startswith("table 't': the column 'when' has times among its dates")


def test_sheet_with_times_alone_has_no_warning(tmp_path: Path) -> None:
    """A column of times is one."""
    path = _book(tmp_path, ["at", "day"], [dt.time(10, 20), dt.date(2024, 1, 31)])
    assert _convert(path, tmp_path / "out.db").warnings == ()


def test_sheets_are_a_table_each(tmp_path: Path) -> None:
    """Every sheet is a table by its name, hidden ones too; that an empty one is none is said."""
    book = openpyxl.Workbook()
    book.active.title = "Q1 é"
    book.active.append(["a"])
    book.active.append([1])
    hidden = book.create_sheet("Lookup")
    hidden.append(["b"])
    hidden.sheet_state = "hidden"
    book.create_sheet("Empty")
    book.create_chartsheet("Chart")
    book.save(tmp_path / "in.xlsx")
    converted = _convert(tmp_path / "in.xlsx", tmp_path / "out.db")
    assert converted.tables == (TableRows(name="Q1 é", rows=1), TableRows(name="Lookup", rows=0))
    assert any("'Lookup' is hidden" in warning for warning in converted.warnings)
    assert any("'Empty' was left out" in warning for warning in converted.warnings)


def test_sheet_that_begins_lower_loses_only_what_is_empty(tmp_path: Path) -> None:
    """Empty rows and columns are left out, a column without a name is not."""
    rows: list[list[Any]] = [[], [None, "a", None, None, "a"], [], [None, 1, None, 2, 3]]
    converted = _convert(_book(tmp_path, *rows), tmp_path / "out.db")
    assert list(_columns(tmp_path / "out.db")) == ["a", "column_2", "a_2"]
    assert _read(tmp_path / "out.db") == [(1, 2, 3)]
    assert any("1 empty row was left out" in warning for warning in converted.warnings)


def test_sheet_with_merged_header_names_every_column(tmp_path: Path) -> None:
    """A title over the table is left out; groups over names are put before them."""
    path = _book(
        tmp_path,
        ["Report", None, None],
        ["id", "2024", None],
        [None, "Q1", "Q2"],
        [1, 10, 20],
    )
    book = openpyxl.load_workbook(path)
    for cells in ("A1:C1", "A2:A3", "B2:C2"):
        book.active.merge_cells(cells)
    book.save(path)
    converted = _convert(path, tmp_path / "out.db")
    assert list(_columns(tmp_path / "out.db")) == ["id", "2024 Q1", "2024 Q2"]
    assert _read(tmp_path / "out.db") == [(1, 10, 20)]
    assert any("title in row 1" in warning for warning in converted.warnings)


def test_sheet_without_header_is_loaded_whole(tmp_path: Path) -> None:
    """With header=0 the first row is data."""
    _convert(_book(tmp_path, [1, "x"], [2, "y"]), tmp_path / "out.db", header=False)
    assert list(_columns(tmp_path / "out.db")) == ["column_1", "column_2"]
    assert _read(tmp_path / "out.db") == [(1, "x"), (2, "y")]


def test_sheet_with_unsaved_formulas_says_so(tmp_path: Path) -> None:
    """A formula that no program has calculated is empty, and the receipt says it."""
    converted = _convert(_book(tmp_path, ["a", "b"], [1, "=A2+1"]), tmp_path / "out.db")
    assert _read(tmp_path / "out.db") == [(1, None)]
    assert any("1 formula has no saved value" in warning for warning in converted.warnings)


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        (
            "founders.xlsx",
            [("John", "Adams", 90), ("George", "Washington", 67), ("Thomas", "Jefferson", 50)],
        ),
        ("dates.xls", [("2015-04-12",)]),
        ("errors.xls", [("#DIV/0!", "#NAME?", "#N/A", "#N/A")]),
    ],
)  # fmt: skip
def test_sheet_of_another_program_is_read(
    tmp_path: Path, name: str, rows: list[tuple[Any, ...]]
) -> None:
    """Files that others made are read as they meant them."""
    _convert(DATA / name, tmp_path / "out.db")
    assert _read(tmp_path / "out.db") == rows


def test_sheet_of_open_document_keeps_dates_and_times(tmp_path: Path) -> None:
    """OpenDocument's dates, times, durations and booleans are what they are there."""
    _convert(DATA / "ods_formats.ods", tmp_path / "out.db")
    first, *_, fourth, _ = _read(tmp_path / "out.db", "Sheet1")
    assert first == ("2014-11-11", "11:12:12", 1, 11.11, 1, 2, 3, 100000, 1.25, "abc")
    assert fourth[1] == "PT27H17M54S"


def _changed(path: Path, changed: Path, part: str, old: bytes, new: bytes) -> Path:
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, re.sub(old, new, data, flags=re.DOTALL) if name == part else data)
    return changed


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"PK\x03\x04 no zip", "invalid-file"),
        (OLE + b"\0" * 600, "unknown-format"),
        (OLE + "EncryptedPackage".encode("utf-16-le"), "encrypted-file"),
        (OLE + "Workbook".encode("utf-16-le"), "invalid-file"),
    ],
)  # fmt: skip
def test_sheet_that_is_broken_is_refused(tmp_path: Path, content: bytes, code: str) -> None:
    """A file that is no workbook, or an encrypted one, is refused with what it is."""
    (tmp_path / "in").write_bytes(content)
    with pytest.raises(Refusal) as caught:
        _convert(tmp_path / "in", tmp_path / "out.db")
    assert caught.value.code == code


def test_sheet_of_broken_xml_is_refused(tmp_path: Path) -> None:
    """A sheet whose XML ends too early is refused; nothing of it is taken."""
    path = _changed(
        _book(tmp_path, ["a"], [1]), tmp_path / "b.xlsx", "xl/worksheets/sheet1.xml",
        rb"</sheetData>.*", b"<row r='x",
    )  # fmt: skip
    with pytest.raises(Refusal) as caught:
        _convert(path, tmp_path / "out.db")
    assert caught.value.code == "invalid-file"


def test_sheet_that_is_binary_is_refused(tmp_path: Path) -> None:
    """An .xlsb is refused with what to do: its reader leaves texts out without a word."""
    with zipfile.ZipFile(tmp_path / "in.xlsb", "w") as archive:
        archive.writestr("xl/workbook.bin", b"")
    with pytest.raises(Refusal) as caught:
        _convert(tmp_path / "in.xlsb", tmp_path / "out.db")
    assert caught.value.code == "unknown-format"
    assert "xlsx" in str(caught.value.hint)
