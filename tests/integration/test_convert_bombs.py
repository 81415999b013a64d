"""Files of a few bytes that ask for more memory than there is: refused, and nothing is left."""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING

import openpyxl
import pyarrow as pa
import pyarrow.parquet
import pytest

from headrace.errors import Refusal
from ingest.converters import Conversion, Limits
from tests.converting import convert_alone

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIMITS = Limits(memory_bytes=512 * 1024**2, wall_s=90)
_CORNERS = ((1, "A"), (1_048_576, "XFD"))
_SHEET = "xl/worksheets/sheet1.xml"


def _workbook(path: Path, cells: bytes, times: int = 1) -> None:
    """Write a workbook whose sheet holds these cells, so many times."""
    plain = path.with_name("plain.xlsx")
    book = openpyxl.Workbook()
    book.active.append([1])
    book.save(plain)
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target,
    ):
        for name in source.namelist():
            if name != _SHEET:
                target.writestr(name, source.read(name))
        before, after = re.split(
            rb"<sheetData>.*</sheetData>", source.read(_SHEET), flags=re.DOTALL
        )
        with target.open(_SHEET, "w", force_zip64=True) as sheet:
            sheet.write(before + b"<sheetData>")
            for _ in range(times):
                sheet.write(cells)
            sheet.write(b"</sheetData>" + after)


def _far_cell(path: Path) -> None:
    """A first cell and a last one: a grid of 17 thousand million cells between them."""
    cells = ('<row r="{0}"><c r="{1}{0}"><v>1</v></c></row>'.format(*at) for at in _CORNERS)
    _workbook(path, "".join(cells).encode())


def _long_text(path: Path) -> None:
    """One cell with a text of a thousand megabytes."""
    _workbook(path, b"x" * 1024**2, 1000)


def _many_cells(path: Path) -> None:
    """Twelve million cells without an address."""
    _workbook(
        path, b"<row>" + b'<c t="inlineStr"><is><t>abcdefgh</t></is></c>' * 2000 + b"</row>", 6_000
    )


def _repeated_text(path: Path) -> None:
    """A Parquet file that says a megabyte a hundred thousand times."""
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), ["x" * 1024**2])
    pyarrow.parquet.write_table(pa.table({"a": column}), path)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (_far_cell, "sheets"),
        (_long_text, "sheets"),
        (_many_cells, "sheets"),
        (_repeated_text, "parquet"),
    ],
)
async def test_bomb_ends_as_a_limit(
    tmp_path: Path, make: Callable[[Path], None], kind: str
) -> None:
    """What a file unpacks to counts, not what it is; the process ends, and says which limit."""
    path, output = tmp_path / "in", tmp_path / "out.db"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    make(path)
    assert path.stat().st_size < 20_000_000
    conversion = Conversion(input=path, output=output, format=kind, table="t")
    with pytest.raises(Refusal) as caught:
        await convert_alone(conversion, limits=LIMITS, scratch=scratch)
    assert caught.value.code == "limit-exceeded"
    assert not output.exists()
