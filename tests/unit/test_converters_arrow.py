from __future__ import annotations

import datetime as dt
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from headrace.errors import Refusal
from headrace.wishes import Wishes
from ingest.converters import Conversion, Converted, TableRows
from ingest.converters import arrow_files as converter

DATA = Path(__file__).parents[1] / "data"


def _write(path: Path, table: pa.Table, kind: str) -> None:
    if kind == "parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        open_writer = pyarrow.ipc.new_file if kind == "file" else pyarrow.ipc.new_stream
        with open_writer(path, table.schema) as writer:
            writer.write_table(table)


def _convert(path: Path, output: Path, **wishes: Any) -> Converted:
    return converter.convert(
        Conversion(input=path, output=output, format="arrow", table="t", wishes=Wishes(**wishes))
    )


def _read(path: Path, sql: str = "SELECT * FROM t") -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


CASES: list[tuple[pa.Array, str, list[Any]]] = [
    (pa.array([True, None]), "INTEGER", [1, None]),
    (pa.array([-1, 127], pa.int8()), "INTEGER", [-1, 127]),
    (pa.array([1, 2**63 - 1], pa.uint64()), "INTEGER", [1, 2**63 - 1]),
    (pa.array([1, 2**64 - 1], pa.uint64()), "TEXT", ["1", "18446744073709551615"]),
    (pa.array([1.5, None], pa.float16()), "REAL", [1.5, None]),
    (pa.array([0.1], pa.float32()), "REAL", [0.10000000149011612]),
    (pa.array([0.1, float("nan"), float("-inf")]), "TEXT", ["0.1", "NaN", "-Infinity"]),
    (pa.array([Decimal("1.50"), None]), "REAL", [1.5, None]),
    (pa.array([Decimal("12345678901234567890.12")]), "TEXT", ["12345678901234567890.12"]),
    (pa.array([Decimal(7)], pa.decimal128(20, 0)), "INTEGER", [7]),
    (pa.array([Decimal(10**19)], pa.decimal128(20, 0)), "TEXT", [str(10**19)]),
    (pa.array([dt.date(2024, 1, 31), None]), "TEXT", ["2024-01-31", None]),
    (pa.array([1_500, 2_000], pa.timestamp("ms")), "TEXT",
     ["1970-01-01T00:00:01.5", "1970-01-01T00:00:02"]),
    (pa.array([1], pa.timestamp("ns")), "TEXT", ["1970-01-01T00:00:00.000000001"]),
    (pa.array([0], pa.timestamp("s", tz="UTC")), "TEXT", ["1970-01-01T00:00:00Z"]),
    (pa.array([500], pa.timestamp("ms", tz="Europe/Amsterdam")), "TEXT",
     ["1970-01-01T01:00:00.5+01:00"]),
    (pa.array([1_500_000], pa.time64("us")), "TEXT", ["00:00:01.5"]),
    (pa.array([129_600_500, -61_000, 0], pa.duration("ms")), "TEXT",
     ["PT36H0.5S", "-PT1M1S", "PT0S"]),
    (pa.array([(1, 2, 500_000_000)], pa.month_day_nano_interval()), "TEXT", ["P1M2DT0.5S"]),
    (pa.array([b"\x00\xff", None]), "BLOB", [b"\x00\xff", None]),
    (pa.array([b"ab"], pa.binary(2)), "BLOB", [b"ab"]),
    (pa.nulls(2), "TEXT", [None, None]),
    (pa.array(["x", None]).dictionary_encode(), "TEXT", ["x", None]),
    (pa.array(["a\0é", ""], pa.large_string()), "TEXT", ["a\0é", ""]),
    (pa.array([[1, None], None]), "TEXT", ["[1, null]", None]),
    (pa.array([{"a": {"b": dt.date(2024, 1, 1)}}, None]), "TEXT",
     ['{"a": {"b": "2024-01-01"}}', None]),
    (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())), "TEXT", ['{"k": 1}', None]),
    (pa.array([[(3, 1)]], pa.map_(pa.int64(), pa.int64())), "TEXT", ["[[3, 1]]"]),
    (pa.array([[Decimal("1.50")]]), "TEXT", ["[1.50]"]),
    (pa.array([[b"a", None]]), "TEXT", ['["YQ==", null]']),
    (pa.array([[1.5, float("nan")], None], pa.list_(pa.float64(), 2)), "TEXT",
     ['[1.5, "NaN"]', None]),
    (pa.array([b"0123456789abcdef"], pa.uuid()), "TEXT", ["30313233-3435-3637-3839-616263646566"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "column", "declared", "stored"),
    [
        pytest.param(kind, *case, id=f"{kind}-{case[0].type}-{case[1]}")
        for kind in ("parquet", "file", "stream")
        for case in CASES
        if kind != "parquet" or not pa.types.is_interval(case[0].type)  # Parquet has none
    ],
)
def test_arrow_type_is_stored_without_loss(
    tmp_path: Path, kind: str, column: pa.Array, declared: str, stored: list[Any]
) -> None:
    """Each type becomes what SQLite has for it, or a text from which it can be made again."""
    path, output = tmp_path / "in", tmp_path / "out.db"
    _write(path, pa.table({"n": range(len(column)), "a": column}), kind)
    converted = _convert(path, output)
    assert converted.tables == (TableRows(name="t", rows=len(column)),)
    assert _read(output, "SELECT type FROM pragma_table_info('t') WHERE name = 'a'") == [
        (declared,)
    ]
    assert [row[1] for row in _read(output)] == stored


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_arrow_value_that_does_not_fit_late_makes_the_column_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A value far from the start counts as much as the first, in batches of any size."""
    monkeypatch.setattr(converter, "_SLICE_ROWS", 7)
    values = [*range(100), 2**63]
    _write(tmp_path / "in", pa.table({"a": pa.array(values, pa.uint64())}), kind)
    _convert(tmp_path / "in", tmp_path / "out.db")
    assert _read(tmp_path / "out.db") == [(str(value),) for value in values]


def test_arrow_columns_of_one_name_stay_apart(tmp_path: Path) -> None:
    """Columns that are called the same become two."""
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    _write(tmp_path / "in", table, "file")
    converted = _convert(tmp_path / "in", tmp_path / "out.db")
    assert _read(tmp_path / "out.db", "SELECT a, a_2 FROM t") == [(1, 2)]
    assert converted.warnings


def test_arrow_structs_become_columns_by_wish(tmp_path: Path) -> None:
    """With nested=flatten the fields of a struct are columns."""
    _write(tmp_path / "in", pa.table({"a": [{"b": {"c": 1}, "d": "x"}]}), "parquet")
    _convert(tmp_path / "in", tmp_path / "out.db", nested="flatten")
    assert _read(tmp_path / "out.db", "SELECT a_b_c, a_d FROM t") == [(1, "x")]


def test_arrow_table_without_rows_is_a_table(tmp_path: Path) -> None:
    """No rows are a table all the same; no columns are not."""
    _write(tmp_path / "in", pa.table({"a": pa.array([], pa.date32())}), "parquet")
    assert _convert(tmp_path / "in", tmp_path / "out.db").tables == (TableRows(name="t", rows=0),)
    _write(tmp_path / "in", pa.table({}), "parquet")
    with pytest.raises(Refusal) as caught:
        _convert(tmp_path / "in", tmp_path / "out.db")
    assert caught.value.code == "no-rows"


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_arrow_file_that_is_damaged_is_refused_or_read_right(tmp_path: Path, kind: str) -> None:
    """A file that is cut, at any place, is refused; a stream may also end between two batches."""
    path = tmp_path / "in"
    _write(path, pa.table({"a": [1, 2, 3], "b": ["x", "y", "z"]}), kind)
    whole = path.read_bytes()
    for size in range(8, len(whole) - 8, 37):
        path.write_bytes(whole[:size])
        try:
            rows = _convert(path, tmp_path / "out.db").tables[0].rows
        except Refusal as exc:
            assert exc.code == "invalid-file"  # noqa: PT017 - either is right
        else:
            assert kind == "stream"
            assert rows in (0, 3)


def test_arrow_text_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    """A text column with bytes that are no text is refused."""
    _write(tmp_path / "in", pa.table({"a": pa.array([b"\xff"]).view(pa.string())}), "parquet")
    with pytest.raises(Refusal) as caught:
        _convert(tmp_path / "in", tmp_path / "out.db")
    assert caught.value.code == "invalid-file"


def test_arrow_value_that_no_reader_could_show_is_refused(tmp_path: Path) -> None:
    """A value of more than 64 MiB is a limit, in a column of many small ones as well."""
    values = pa.array([b"small", None, b"x" * (64 * 1024**2 + 1)])
    _write(tmp_path / "in", pa.table({"a": values}), "file")
    with pytest.raises(Refusal) as caught:
        _convert(tmp_path / "in", tmp_path / "out.db")
    assert (caught.value.code, caught.value.extra) == ("limit-exceeded", {"limit": "value"})


def test_parquet_that_is_encrypted_is_refused(tmp_path: Path) -> None:
    """An encrypted file is called that."""
    (tmp_path / "in").write_bytes(b"PARE" + b"\0" * 40 + b"PARE")
    with pytest.raises(Refusal) as caught:
        _convert(tmp_path / "in", tmp_path / "out.db")
    assert caught.value.code == "encrypted-file"


@pytest.mark.parametrize(
    ("name", "rows", "first"),
    [
        (
            "parquet/v0.7.1.parquet",
            10,
            (0.23, "Ideal", "E", "SI2", 61.5, 55.0, 326, 3.95, 3.98, 2.43, 0),
        ),
        ("arrow/v0.17.0.version.2-compression.lz4.feather", 5, (0,)),
    ],
)  # fmt: skip
def test_arrow_file_of_others_is_read(
    tmp_path: Path, name: str, rows: int, first: tuple[Any, ...]
) -> None:
    """Files that older libraries wrote are read."""
    assert _convert(DATA / name, tmp_path / "out.db").tables[0].rows == rows
    assert _read(tmp_path / "out.db")[0] == first
