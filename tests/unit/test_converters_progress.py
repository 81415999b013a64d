"""How far a conversion is: every format says it again and again, up to its end."""

from __future__ import annotations

import itertools
import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import openpyxl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from headrace.receipt import READING
from ingest.converters import Conversion, run_converter
from ingest.converters.progress import find_moved, reporting
from ingest.converters.records import BATCH_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROWS = 5000
TEXT = "some text that is a little longer"
COLUMNS = {"id": list(range(ROWS)), "note": [TEXT] * ROWS}
FEATURES = 9000
RECORDS = [{"id": number, "note": TEXT} for number in range(ROWS)]
Step = tuple[str, int, int]  # step, rows, bytes


def _csv(*, last: object = 0, rows: int = 100_000) -> bytes:
    line = f"1,{TEXT}\n"
    return f"id,note\n{line * (rows - 1)}{last},x\n".encode()


def _lines(*, last: object = 0, rows: int = 150_000) -> bytes:
    line = json.dumps({"id": 1, "note": TEXT})
    return f"{line}\n".encode() * (rows - 1) + json.dumps({"id": last}).encode() + b"\n"


def _parquet(path: Path) -> None:
    columns = {"id": list(range(300_000)), "note": [TEXT] * 300_000}
    pyarrow.parquet.write_table(pa.table(columns), path)


def _feather(path: Path) -> None:
    pyarrow.feather.write_feather(pa.table(COLUMNS), path, chunksize=500)


def _stream(path: Path) -> None:
    table = pa.table(COLUMNS)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table, max_chunksize=500)


def _text(text: str | bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(text if isinstance(text, bytes) else text.encode())


def _geojson() -> str:
    feature = {"type": "Feature", "geometry": None, "properties": {"note": TEXT}}
    return json.dumps({"type": "FeatureCollection", "features": [feature] * FEATURES})


def _record(path: Path, kind: str) -> tuple[list[Step], int]:
    """Convert a file; give all that it says, and its rows."""
    seen: list[Step] = [("read", 0, 0)]
    conversion = Conversion(
        input=path,
        output=path.with_name("out.db"),
        format=kind,
        table="t",
        filename=path.name,
        begin=lambda step: seen.append((step, 0, 0)),
        report=lambda rows, size_bytes: seen.append((seen[-1][0], rows, size_bytes)),
    )
    converted = run_converter(conversion)
    return seen, sum(table.rows for table in converted.tables)


@pytest.mark.parametrize(
    ("kind", "write", "again"),
    [
        ("csv", _text(_csv()), False),
        ("csv", _text(_csv(last="x")), True),
        ("csv", _text(_csv().decode().encode("utf-16")), False),
        ("csv", _text(_csv(rows=20_000, last='"a""' + "b" * 2_000_000 + '"')), True),
        ("ndjson", _text(_lines()), False),
        ("ndjson", _text(_lines(last="x")), True),
        ("json", _text(json.dumps(RECORDS)), False),
        ("json", _text(json.dumps([*RECORDS, {"id": "x"}])), True),
        ("geojson", _text(_geojson()), False),
        ("parquet", _parquet, False),
        ("arrow", _feather, False),
        ("arrow", _stream, False),
        ("xml", _text(f"<a>{f'<b><c>1</c><d>{TEXT}</d></b>' * ROWS}</a>"), False),
        ("mbox", _text(f"From a Thu Jan  1 00:00:00 2026\nSubject: x\n\n{TEXT}\n\n" * 500), False),
        ("icalendar", _text("BEGIN:VCALENDAR\n" + "BEGIN:VEVENT\nUID:1\nEND:VEVENT\n" * ROWS
                            + "END:VCALENDAR\n"), False),
    ],
)  # fmt: skip
def test_rows_and_bytes_are_said_up_to_the_last(
    tmp_path: Path, kind: str, write: Callable[[Path], object], again: bool
) -> None:
    """They only grow within a step, and the last reading ends with all rows and the whole file."""
    path = tmp_path / "in"
    write(path)
    seen, rows = _record(path, kind)
    for before, after in itertools.pairwise(seen):
        assert before[0] != after[0] or before <= after or after[1:] == (0, 0)
    reading = [each for each in seen if each[0] in READING and each[0] != "look"]
    size_bytes = path.stat().st_size
    assert len(set(reading)) > 3
    assert reading[-1][1] == rows
    assert 0.95 * size_bytes <= reading[-1][2] <= 1.05 * size_bytes
    assert ("read again" in {step for step, *_ in seen}) == again


def test_workbook_says_its_rows_while_it_is_read_and_written(tmp_path: Path) -> None:
    """Its cells are taken from calamine row by row, and written in batches."""
    path = tmp_path / "in.xlsx"
    workbook = openpyxl.Workbook(write_only=True)
    sheet = workbook.create_sheet()
    for row in (COLUMNS, *([number, TEXT] for number in range(ROWS))):
        sheet.append(list(row))
    workbook.save(path)
    seen, rows = _record(path, "sheets")
    said = {step: [done for at, done, _ in seen if at == step and done] for step, *_ in seen}
    assert said["read"][-1] >= rows - BATCH_ROWS
    assert said["write"][-1] == rows
    assert min(len(said["read"]), len(said["write"])) > 1


def test_large_table_of_html_is_said_while_it_is_taken_apart(tmp_path: Path) -> None:
    """One table is most pages' most: its rows are counted before they are all there."""
    path = tmp_path / "in"
    path.write_text(f"<table><tr><th>a<th>b</tr>{f'<tr><td>1<td>{TEXT}</tr>' * ROWS}</table>")
    seen, rows = _record(path, "html")
    assert rows == ROWS
    assert len({rows for step, rows, _ in seen if step == "look"}) > 3
    assert len({rows for step, rows, _ in seen if step == "read"}) > 3
    assert ("read", ROWS, path.stat().st_size) in seen


def test_yaml_is_said_while_it_is_looked_at_read_and_written(tmp_path: Path) -> None:
    """Its parser takes a document whole; objects are counted on the way."""
    path = tmp_path / "in"
    path.write_text(f"- id: 1\n  note: {TEXT}\n" * ROWS)
    seen, rows = _record(path, "yaml")
    size_bytes = path.stat().st_size
    for step in ("look", "read"):
        said = [done for each, _, done in seen if each == step]
        assert said == sorted(said)
        assert len(set(said)) > 100
    assert ("read", 0, size_bytes) in seen
    assert seen[-1][:2] == ("write", rows)


def test_sqlite_file_is_checked_written_and_checked(tmp_path: Path) -> None:
    """SQLite does each in one go: the steps are said, and what they read and write is shown."""
    path = tmp_path / "in"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (a)")
        db.executemany("INSERT INTO t VALUES (?)", [(TEXT * 10,)] * ROWS)
        db.commit()
    seen, _rows = _record(path, "sqlite")
    assert [step for step, *_ in seen] == ["read", "check", "write", "check"]


def test_step_without_bytes_of_the_file_shows_what_was_moved(tmp_path: Path) -> None:
    """Rows that were read stay; bytes are those that the step has read and written, and grow."""
    path = tmp_path / "in"
    path.write_bytes(b"x" * 100_000)
    shown: list[Step] = []
    conversion = Conversion(input=path, output=tmp_path / "out", format="csv", table="t")
    with reporting(conversion, lambda *done: shown.append(done), interval_s=60) as watched:
        watched.report(7, 100_000)
        watched.begin("shape")
        before = find_moved()
        (tmp_path / "out").write_bytes(path.read_bytes())
        assert find_moved() - before >= 200_000
    ((step, rows, moved_bytes),) = shown
    assert (step, rows) == ("shape", 7)
    assert moved_bytes >= 200_000
