from __future__ import annotations

import json
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openpyxl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.converters import Conversion, load_converter

if TYPE_CHECKING:
    from collections.abc import Callable

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NAMES = st.text("abcdefgh_", min_size=1, max_size=4)
REALS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = {
    "integer": st.integers(-(2**63), 2**63 - 1),
    "real": REALS,
    "text": TEXTS,
    "digits": st.text("0123456789+-.e", max_size=8),
    "huge": st.integers(-(10**40), 10**40),
}
NESTED = st.recursive(st.none() | st.booleans() | st.integers() | TEXTS, st.lists, max_leaves=4)


@st.composite
def _tables(draw: st.DrawFn, kinds: tuple[str, ...]) -> dict[str, list[Any]]:
    """Make a table of columns of one kind each, with nulls, and at least one row."""
    rows = draw(st.integers(1, 12))
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique_by=str.lower))
    table = {}
    for name in names:
        values = NESTED if (kind := draw(st.sampled_from(kinds))) == "nested" else SCALARS[kind]
        table[name] = draw(st.lists(st.none() | values, min_size=rows, max_size=rows))
    return table


def _convert(data: bytes | Path, kind: str, columns: str = "*") -> list[tuple[Any, ...]]:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "in")
        path.write_bytes(data if isinstance(data, bytes) else data.read_bytes())
        output = Path(name, "out.db")
        load_converter(kind)(Conversion(input=path, output=output, format=kind, table="t"))
        with closing(sqlite3.connect(output)) as connection:
            return connection.execute(f"SELECT {columns} FROM t").fetchall()


def _same(stored: Any, written: Any) -> bool:
    """Say whether a value is the one that was written, itself or as its JSON text."""
    if written is None or isinstance(written, str):
        return bool(stored == written)
    if isinstance(stored, str):
        return bool(json.loads(stored) == written)
    return bool(stored == written)


def _rows(table: dict[str, list[Any]]) -> list[tuple[Any, ...]]:
    return list(zip(*table.values(), strict=True))


def _feature(record: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Feature", "geometry": None, "properties": record}


WRITERS: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "json": json.dumps,
    "ndjson": lambda records: "\n".join(map(json.dumps, records)),
    "geojson": lambda records: json.dumps(
        {"type": "FeatureCollection", "features": list(map(_feature, records))}
    ),
    "yaml": yaml.safe_dump,
    "markdown": lambda records: f"---\n{yaml.safe_dump(records[0])}---\n",  # one row a file
}


@pytest.mark.parametrize("kind", WRITERS)
@settings(max_examples=60)
@given(table=_tables(("integer", "real", "text", "digits", "huge", "nested")))
def test_text_table_of_any_values_is_read_back(kind: str, table: dict[str, list[Any]]) -> None:
    """Whatever values a table has, those and no others are in the staging database."""
    rows = _rows(table)[: 1 if kind == "markdown" else None]
    text = WRITERS[kind]([dict(zip(table, row, strict=True)) for row in rows])
    columns = ", ".join(f'"{name}"' for name in table)
    for stored, written in zip(_convert(text.encode(), kind, columns), rows, strict=True):
        assert all(map(_same, stored, written)), (stored, written)


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
@settings(max_examples=40)
@given(table=_tables(("integer", "real", "text", "digits")))
def test_arrow_table_of_any_values_is_read_back(kind: str, table: dict[str, list[Any]]) -> None:
    """Whatever values a table has, those and no others are in the staging database."""
    written = pa.table(table)
    sink = pa.BufferOutputStream()
    if kind == "parquet":
        pyarrow.parquet.write_table(written, sink)
    else:
        make = pyarrow.ipc.new_file if kind == "file" else pyarrow.ipc.new_stream
        with make(sink, written.schema) as writer:
            writer.write_table(written)
    assert _convert(sink.getvalue().to_pybytes(), "arrow") == _rows(table)


_CELLS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Cn", "Co"]),
    min_size=1,
    max_size=8,
).filter(lambda text: text.strip() == text and not text.startswith(("=", "#", "_x")))


@settings(max_examples=30)
@given(
    numbers=st.lists(st.integers(-(2**53), 2**53), min_size=1, max_size=8),
    texts=st.lists(_CELLS | st.text("0123456789", min_size=1, max_size=20), min_size=8, max_size=8),
)
def test_sheet_of_any_values_is_read_back(numbers: list[int], texts: list[str]) -> None:
    """Integers that a sheet can hold, and texts, come back as they are, also those of digits."""
    book = openpyxl.Workbook()
    book.active.append(["n", "t"])
    written = list(zip(numbers, texts, strict=False))
    for row in written:
        book.active.append(row)
    with tempfile.TemporaryDirectory() as folder:
        book.save(Path(folder, "in.xlsx"))
        assert _convert(Path(folder, "in.xlsx"), "sheets") == written
