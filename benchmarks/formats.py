"""NDJSON, Parquet and Excel files to a staging database, beside the tools that people use today."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet

from benchmarks.make_csv import HEADER, rows
from benchmarks.table import Result, Row
from ingest.converters import Conversion, Limits, decode_outcome, encode_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PEERS = Path(sys.prefix) / "peers"
_PART_ROWS = 50_000
SHEET_SHARE = 10  # a sheet has a tenth of the rows
_NUMBERS = {"id": int, "customer_id": int, "quantity": int, "price": float, "discount": float}
GOALS = {"ndjson": 10, "parquet": 3, "sheets": 3}
_PANDAS = "import sys, sqlite3, pandas; pandas.{read}(sys.argv[1]).to_sql('t', sqlite3.connect(sys.argv[2]), index=False)"  # noqa: E501


def run(folder: Path, *, rows: int, rounds: int) -> Result:
    """Measure, and give the table as Markdown; peers that take long run once."""
    files = _make_files(folder, rows)
    pandas = str(PEERS / "pandas" / "bin" / "python")
    sqlite_utils = str(PEERS / "sqlite-utils" / "bin" / "sqlite-utils")
    read_parquet, read_excel = (
        _PANDAS.format(read=f"read_{kind}") for kind in ("parquet", "excel")
    )
    peers: dict[str, tuple[str, Callable[[str, str], list[str]]]] = {
        "ndjson": (
            "`sqlite-utils insert --nl`",
            lambda file, out: [sqlite_utils, "insert", out, "t", file, "--nl"],
        ),
        "parquet": (
            "pandas `read_parquet`, `to_sql`",
            lambda file, out: [pandas, "-c", read_parquet, file, out],
        ),
        "sheets": (
            "pandas `read_excel`, `to_sql`",
            lambda file, out: [pandas, "-c", read_excel, file, out],
        ),
    }
    lines = [
        "## Other formats: file to staging database",
        "",
        f"Of Headrace the median of {rounds} runs [least, most], its process's start with it.",
        "",
        "| format | rows | size | against | seconds | Headrace | times as fast | peak memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    compared: list[Row] = []
    for kind, (name, command) in peers.items():
        file, count = files[kind]
        slow, _ = _time(command(str(file), str(folder / f"{kind}-peer.db")), None)
        done = [_convert(file, kind, folder / f"{kind}.db", count) for _ in range(rounds)]
        times = [seconds for seconds, _ in done]
        median = statistics.median(times)
        spread = f"{median:.2f} [{min(times):.2f}, {max(times):.2f}]"
        peak = max(peak for _, peak in done)
        lines.append(
            f"| {kind} | {count:,} | {file.stat().st_size / 1e6:.0f} MB | {name} | {slow:.2f} | "
            f"{spread} | {slow / median:.1f} | {peak / 1e6:.0f} MB |"
        )
        row = Row(
            what=f"{kind} of {count:,} rows, file to staging database",
            headrace=f"{median:.2f} s",
            against=f"{name} {slow:.2f} s: {slow / median:.1f} times",
            goal=f"{GOALS[kind]} times as fast",
            reached=slow / median >= GOALS[kind],
        )
        compared.append(row)
    return Result(text="\n".join([*lines, ""]), rows=tuple(compared))


def _make_files(folder: Path, count: int) -> dict[str, tuple[Path, int]]:
    """Write the same rows in each format; give each file and its number of rows."""
    ndjson, parquet, sheet = (folder / f"rows.{ending}" for ending in ("ndjson", "parquet", "xlsx"))
    with ndjson.open("w", encoding="utf-8") as file:
        for record in _records(count):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    _write_parquet(parquet, count)
    book = openpyxl.Workbook(write_only=True)
    page = book.create_sheet("rows")
    page.append(HEADER)
    for record in _records(count // SHEET_SHARE):
        page.append(list(record.values()))
    book.save(sheet)
    return {
        "ndjson": (ndjson, count),
        "parquet": (parquet, count),
        "sheets": (sheet, count // SHEET_SHARE),
    }


def _write_parquet(path: Path, count: int) -> None:
    """Write the rows in parts: a child's peak memory is at least what this process once had."""
    records = _records(count)
    first = pa.Table.from_pylist(list(itertools.islice(records, _PART_ROWS)))
    with pyarrow.parquet.ParquetWriter(path, first.schema) as writer:
        writer.write_table(first)
        while part := list(itertools.islice(records, _PART_ROWS)):
            writer.write_table(pa.Table.from_pylist(part, first.schema))


def _records(count: int) -> Iterator[dict[str, Any]]:
    """Give the rows with numbers as numbers, and nothing where there is no discount."""
    for row in rows(count):
        record: dict[str, Any] = dict(zip(HEADER, row, strict=True))
        for name, number in _NUMBERS.items():
            record[name] = number(record[name]) if record[name] else None
        yield record


def _convert(file: Path, kind: str, output: Path, count: int) -> tuple[float, int]:
    """Run the converter in a process that imports it; give its seconds and peak memory."""
    output.unlink(missing_ok=True)
    conversion = Conversion(input=file, output=output, format=kind, table="t")
    request = encode_request(conversion, Limits())
    command = [
        sys.executable,
        "-P",
        "-s",
        "-c",
        "from ingest.converters.process import main; main()",
    ]
    seconds, peak = _time(command, request, rows=count)
    return seconds, peak


def _time(command: list[str], request: bytes | None, *, rows: int = 0) -> tuple[float, int]:
    """Run a command; give its seconds and its peak memory in bytes."""
    if shutil.which(command[0]) is None:
        raise SystemExit(f"{command[0]} is not here: run make bench")
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "MALLOC_ARENA_MAX": "2",
    }
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment if request else None,
    )
    assert process.stdin  # noqa: S101
    assert process.stdout  # noqa: S101
    process.stdin.write(request or b"")
    process.stdin.close()
    answer = process.stdout.read()
    _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if process.returncode != 0:
        raise SystemExit(f"{command[0]} failed")
    if request:
        outcome = decode_outcome(answer.splitlines()[-1])  # what comes before it is progress
        if isinstance(outcome, Exception) or outcome.tables[0].rows != rows:
            raise SystemExit(f"the file was not converted: {outcome}")
    return seconds, usage.ru_maxrss * 1024
