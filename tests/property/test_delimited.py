from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.wishes import Wishes
from ingest.converters import Conversion, Converted
from ingest.converters.delimited import convert

Table = list[list[str]]

WIDE = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030")
NARROW = ("cp1252", "cp1251", "cp932", "big5", "cp949", "iso8859_2", "koi8_r")
ONE_WAY = "¢£¬‖−〜"  # characters of cp932 that Python's codec does not read back

_NUMBERS = st.one_of(
    st.integers().map(str),
    st.floats().map(repr),
    st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str),
    st.sampled_from(["", "0", "007", "+1", "1e5", "1_000", "NaN", "-0", "1.50", " 1", "1 "]),
)
_CHARACTERS = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
_TEXTS = st.one_of(
    st.text(_CHARACTERS, max_size=20),
    st.text(st.sampled_from("\",;|\t\r\n '\\#a1é\ufeff"), max_size=8),
)


@st.composite
def tables(draw: st.DrawFn, texts: st.SearchStrategy[str] = _TEXTS) -> Table:
    """Make a table of texts: some columns of what may be numbers, some of anything."""
    width = draw(st.integers(1, 5))
    columns = [draw(st.sampled_from([_NUMBERS, texts])) for _ in range(width)]
    rows = draw(st.lists(st.tuples(*columns).map(list), max_size=12))
    # A blank line is no row: one column alone must have a text.
    return [row for row in rows if width > 1 or row[0]] or [["x"] * width]


def _encode(rows: Table, delimiter: str, end: str, *, quote_all: bool) -> str:
    """Write a table; Python 3.11's own writer leaves a lone carriage return without quotes."""

    def quote(text: str) -> str:
        plain = not quote_all and not set(text) & {delimiter, '"', "\r", "\n"}
        return text if plain else '"' + text.replace('"', '""') + '"'

    header = [f"n{number}" for number in range(len(rows[0]))]
    return "".join(delimiter.join(map(quote, row)) + end for row in (header, *rows))


def _load(data: bytes, **wishes: Any) -> tuple[list[tuple[Any, ...]], Converted]:
    with TemporaryDirectory() as name:
        source, output = Path(name, "in"), Path(name, "out.db")
        source.write_bytes(data)
        converted = convert(
            Conversion(
                input=source, output=output, format="csv", table="t", wishes=Wishes(**wishes)
            )
        )
        with closing(sqlite3.connect(output)) as db:
            return db.execute("SELECT * FROM t ORDER BY rowid").fetchall(), converted


def _assert_same(rows: Table, found: list[tuple[Any, ...]]) -> None:
    assert len(found) == len(rows)
    for row, values in zip(rows, found, strict=True):
        for text, value in zip(row, values, strict=True):
            if isinstance(value, str):
                assert value == text
            elif value is None:
                assert text == ""
            elif isinstance(value, int):
                assert str(value) == text
            else:  # zeros at the end of a decimal may go: the value is the same
                assert repr(value) == text or repr(value) == repr(float(text))
                assert not text.startswith(("+", "00", " "))
                assert text.strip("-0123456789.") == ""


@given(
    rows=tables(),
    delimiter=st.sampled_from(",;|\t"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(WIDE),
    quote_all=st.booleans(),
)
@settings(deadline=None, max_examples=80, derandomize=True)
def test_any_table_in_any_dialect_and_encoding_is_read_back(
    rows: Table, delimiter: str, end: str, encoding: str, quote_all: bool
) -> None:
    """What was written is what is read: every text, and every number with its value."""
    data = _encode(rows, delimiter, end, quote_all=quote_all).encode(encoding)
    found, converted = _load(data, delimiter=delimiter, header=True, encoding=encoding)
    _assert_same(rows, found)
    assert converted.encoding


@pytest.mark.parametrize("encoding", NARROW)
@given(data=st.data())
@settings(deadline=None, max_examples=10, derandomize=True)
def test_any_table_in_a_code_page_is_read_back(encoding: str, data: st.DataObject) -> None:
    """Each character that a code page has comes back out of it."""
    characters = st.characters(codec=encoding, exclude_characters=f"\0{ONE_WAY}")
    rows = data.draw(tables(st.text(characters, max_size=20)))
    body = _encode(rows, ",", "\n", quote_all=False).encode(encoding)
    found, _ = _load(body, delimiter=",", header=True, encoding=encoding)
    _assert_same(rows, found)


@given(rows=tables(), delimiter=st.sampled_from(",;|\t"), marked=st.booleans())
@settings(deadline=None, max_examples=40, derandomize=True)
def test_any_table_of_two_columns_with_nothing_said_is_read_back(
    rows: Table, delimiter: str, marked: bool
) -> None:
    """Delimiter, header and encoding are found out for a file whose every value is quoted."""
    rows = [[row[0], row[-1]] for row in rows]
    text = _encode(rows, delimiter, "\n", quote_all=True)
    found, _ = _load(text.encode("utf-8-sig" if marked else "utf-8"))
    _assert_same(rows, found)
