"""A large CSV to a SQLite database: the converter alone, beside peers; larger ones all the way."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.make_csv import make_csv
from benchmarks.table import Result, Row
from benchmarks.upload import (
    _median,
    _peak_memory,
    _peer,
    _row,
    _time,
    _up,
    _upload_round,
    descendants,
)
from ingest.convert import convert
from ingest.converters import Conversion, Limits
from tests.converting import nursery_in

if TYPE_CHECKING:
    from pathlib import Path

LARGE_BYTES = (1_000_000_000, 5_000_000_000)
MAX_LARGE_MEMORY_BYTES = 600_000_000
MAX_LARGE_SLOWER = 1.2  # times, for each byte
IMPORT = "`sqlite3 .import` (untyped)"
SLOW = "`sqlite-utils insert`"  # a minute: it runs once
OURS = "Headrace's converter, file to staging database"
GOALS = {IMPORT: 1.5, "`csvs-to-sqlite`": 4.0, SLOW: 40.0}  # times as fast


def run(folder: Path, *, rows: int, rounds: int) -> Result:
    """Measure, and give the tables as Markdown."""
    csv = folder / "rows.csv"
    make_csv(csv, rows)
    output = folder / "out.db"
    peers: dict[str, list[str]] = {
        IMPORT: ["sqlite3", str(output), f".import --csv {csv} t"],
        "`csvs-to-sqlite`": [_peer("csvs-to-sqlite"), str(csv), str(output)],
        SLOW: [_peer("sqlite-utils"), "insert", str(output), "t", str(csv), "--csv"],
    }
    times: dict[str, list[float]] = {}
    peaks: dict[str, int] = {}

    def note(name: str, seconds: float, peak: int) -> None:
        times.setdefault(name, []).append(seconds)
        peaks[name] = max(peaks.get(name, 0), peak)

    for number in range(rounds):  # by turns, so that a slow minute weighs on all of them
        for name, command in peers.items():
            if number == 0 or name != SLOW:
                note(name, *_time(command))
                output.unlink()
        note(OURS, *_time_converter(csv, output))
        output.unlink()
    size_mb = csv.stat().st_size / 1e6
    lines = [
        f"## CSV of {rows:,} rows, 10 columns, {size_mb:.0f} MB, to SQLite",
        "",
        f"Median of {rounds} runs [least, most], by turns. Only Headrace finds types without loss.",
        "",
        "| what | seconds | peak memory |",
        "|---|---|---|",
        *(_row(name, times[name], peaks[name]) for name in times),
    ]
    medians = {name: _median(seconds) for name, seconds in times.items()}
    found = [
        Row(
            what=f"{size_mb:.0f} MB CSV, file to staging database",
            headrace=f"{medians[OURS]:.2f} s",
            against=f"{name} {medians[name]:.2f} s",
            goal=f"{GOALS[name]:g} times as fast",
            reached=medians[OURS] * GOALS[name] <= medians[name],
        )
        for name in peers
    ]
    table, large = _measure_large(folder, csv)
    lines += ["", *table]
    found += large
    return Result(text="\n".join([*lines, ""]), rows=tuple(found))


def _time_converter(csv: Path, output: Path) -> tuple[float, int]:
    """Time the converter as the service runs it: a process of its own, within its limits."""
    conversion = Conversion(input=csv, output=output, format="csv", table="t", filename="rows.csv")
    os.sync()  # what the peer before it wrote must not weigh on it
    with _peak_memory(_own_descendants) as peak:
        return asyncio.run(_convert(conversion)), peak[0]


async def _convert(conversion: Conversion) -> float:
    async with nursery_in(conversion.output.parent) as nursery:
        await (await nursery.fork()).end()  # as in the service, what it imports is there
        started_s = time.perf_counter()
        await convert(conversion, limits=Limits(), nursery=nursery)
        return time.perf_counter() - started_s


def _measure_large(folder: Path, csv: Path) -> tuple[list[str], list[Row]]:
    """Upload large files; give the table, and the rows for the largest."""
    lines = [
        "| size | `POST` to `201`, s | MB/s | memory of all processes, without mapped files |",
        "|---|---|---|---|",
    ]
    peak_bytes = 0
    mb_a_second = []
    for size in LARGE_BYTES:
        large = folder / "large.csv"
        _repeat(csv, large, size)
        data = folder / f"data-{size}"
        with _up(data) as (token, _), _peak_memory(_own_descendants, own=True) as peak:
            seconds = _upload_round(large, token, 0)
        peak_bytes = peak[0]
        mb = large.stat().st_size / 1e6
        mb_a_second.append(mb / seconds)
        lines.append(
            f"| {mb:,.0f} MB | {seconds:.1f} | {mb_a_second[-1]:.0f} | {peak_bytes / 1e6:.0f} MB |"
        )
        large.unlink()
        shutil.rmtree(data)
    what = f"{LARGE_BYTES[-1] / 1e9:g} GB CSV"
    small_s, large_s = (1 / rate for rate in mb_a_second)
    memory = Row(
        what=f"{what}, peak memory of all processes",
        headrace=f"{peak_bytes / 1e6:.0f} MB",
        against="its size",
        goal=f"under {MAX_LARGE_MEMORY_BYTES / 1e6:.0f} MB",
        reached=peak_bytes < MAX_LARGE_MEMORY_BYTES,
    )
    time_taken = Row(
        what=f"{what}, time for each byte",
        headrace=f"{large_s:.4f} s a MB",
        against=f"{LARGE_BYTES[0] / 1e9:g} GB {small_s:.4f} s a MB: {large_s / small_s:.2f} times",
        goal=f"linear: at most {MAX_LARGE_SLOWER:g} times",
        reached=large_s <= small_s * MAX_LARGE_SLOWER,
    )
    return lines, [memory, time_taken]


def _repeat(csv: Path, output: Path, size_bytes: int) -> None:
    """Write the header once, and the rows as often as it takes."""
    header, _, body = csv.read_bytes().partition(b"\n")
    with output.open("wb") as file:
        file.write(header + b"\n")
        while file.tell() < size_bytes:
            file.write(body)


def _own_descendants() -> list[int]:
    return descendants(os.getpid())


if __name__ == "__main__":
    sys.exit("run it with: python -m benchmarks.run convert")
