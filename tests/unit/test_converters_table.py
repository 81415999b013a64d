"""The name that an uploader gives to the table of a file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ingest.converters import Conversion, Converted, TableRows, run_converter

DATA = Path(__file__).parents[1] / "data"


def convert(folder: Path, data: bytes, kind: str) -> Converted:
    """Convert a file for the table ``sales``, which its uploader asked for."""
    (folder / "in").write_bytes(data)
    return run_converter(
        Conversion(
            input=folder / "in",
            output=folder / "out.db",
            format=kind,
            table="sales",
            table_given=True,
        )
    )


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("csv", b"a\n1\n"),
        ("json", b'{"items": [{"a": 1}]}'),
        ("yaml", b"items:\n- a: 1\n"),
        ("html", b"<table><caption>Mine</caption><tr><th>a<th>b<tr><td>1<td>2</table>"),
        ("sheets", (DATA / "sheets" / "date_field.xls").read_bytes()),
    ],
)
def test_only_table_of_a_file_has_the_name_asked_for(
    tmp_path: Path, kind: str, data: bytes
) -> None:
    """A name in the file, a sheet's or a caption's, gives way to the one that was asked for."""
    converted = convert(tmp_path, data, kind)
    assert [table.name for table in converted.tables] == ["sales"]
    with closing(sqlite3.connect(tmp_path / "out.db")) as db:
        assert db.execute("SELECT count(*) FROM sales").fetchone() == (converted.tables[0].rows,)


@pytest.mark.parametrize(
    ("kind", "data", "why"),
    [
        ("json", b'{"one": [{"a": 1}], "two": [{"a": 1}]}', "it is for a file of one"),
        ("sql", b"CREATE TABLE one (a); CREATE TABLE two (a);", "keeps the names"),
    ],
)
def test_name_for_a_file_of_several_tables_is_a_warning(
    tmp_path: Path, kind: str, data: bytes, why: str
) -> None:
    """It is not passed over in silence."""
    converted = convert(tmp_path, data, kind)
    assert [table.name for table in converted.tables] == ["one", "two"]
    (warning,) = converted.warnings
    assert warning.startswith("table='sales' was not used: ")
    assert why in warning


def test_name_for_a_file_that_made_it_is_no_news(tmp_path: Path) -> None:
    """A file of several tables may well have one of that name."""
    converted = convert(tmp_path, b'{"sales": [{"a": 1}], "two": [{"a": 1}]}', "json")
    assert converted.tables == (TableRows(name="sales", rows=1), TableRows(name="two", rows=1))
    assert converted.warnings == ()
