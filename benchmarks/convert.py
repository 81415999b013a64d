"""A large CSV to a SQLite database: the converter alone, and with all the rest, beside its peers."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.make_csv import make_csv
from benchmarks.upload import (
    PEERS,
    _peak_memory,
    _resident,
    _row,
    _time,
    _up,
    _upload_rounds,
)
from ingest.convert import Conversion, Limits, convert

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LARGE_BYTES = (1_000_000_000, 5_000_000_000)


def run(folder: Path, *, rows: int, rounds: int, slow_peers: bool, large: bool) -> str:
    """Measure, and give the tables as Markdown."""
    csv = folder / "rows.csv"
    make_csv(csv, rows)
    output = folder / "out.db"
    peers: dict[str, list[str]] = {
        "`sqlite3 .import` (untyped)": ["sqlite3", str(output), f".import --csv {csv} t"],
        "`csvs-to-sqlite`": [str(PEERS / "csvs-to-sqlite/bin/csvs-to-sqlite"), str(csv), str(output)],
    }
    slow = [str(PEERS / "sqlite-utils/bin/sqlite-utils"), "insert", str(output), "t", str(csv)]
    if slow_peers:
        peers["`sqlite-utils insert`"] = [*slow, "--csv"]
    times: dict[str, list[float]] = {}
    peaks: dict[str, int] = {}

    def note(name: str, seconds: float, peak: int) -> None:
        times.setdefault(name, []).append(seconds)
        peaks[name] = max(peaks.get(name, 0), peak)
        output.unlink()

    for number in range(rounds):  # by turns, so that a slow minute weighs on all of them
        for name, command in peers.items():
            if number == 0 or "sqlite-utils" not in name:
                note(name, *_time(command))
        note("Headrace's converter, file to staging database", *_time_converter(csv, output))
    with _up(folder / "data") as (token, processes):
        name = "`POST /ingest` to `201`, new table"
        times[name], peaks[name] = _upload_rounds(csv, token, processes, rounds)
    lines = [
        f"## CSV of {rows:,} rows, 10 columns, {csv.stat().st_size / 1e6:.0f} MB, to SQLite",
        "",
        f"Median of {rounds} runs [least, most], taken by turns. Only Headrace finds types without loss.",
        "",
        "| what | seconds | peak memory |",
        "|---|---|---|",
        *(_row(name, times[name], peaks[name]) for name in times),
    ]
    if large:
        lines += ["", *_measure_large(folder, csv)]
    return "\n".join([*lines, ""])


def _time_converter(csv: Path, output: Path) -> tuple[float, int]:
    """Time the converter as the service runs it: a process of its own, within its limits."""
    conversion = Conversion(input=csv, output=output, format="csv", table="t", filename="rows.csv")
    with _peak_memory(_converters_of(os.getpid())) as peak:
        started_s = time.perf_counter()
        asyncio.run(convert(conversion, limits=Limits(), scratch=output.parent))
        return time.perf_counter() - started_s, peak[0]


def _converters_of(parent: int) -> Callable[[], list[int]]:
    """Give a function that lists the child processes, for the sampling of their memory."""

    def children() -> list[int]:
        with open(f"/proc/{parent}/task/{parent}/children") as file:  # noqa: PTH123 - short
            return [int(pid) for pid in file.read().split()]

    return children


def _measure_large(folder: Path, csv: Path) -> list[str]:
    """Upload files of 1 GB and 5 GB; give the table."""
    lines = ["| size | `POST` to `201`, s | MB/s | peak memory of all processes |", "|---|---|---|---|"]
    for size in LARGE_BYTES:
        large = folder / "large.csv"
        _repeat(csv, large, size)
        data = folder / f"data-{size}"
        with _up(data) as (token, _):
            with _peak_memory(_descendants_of_this) as peak:
                seconds = _upload_rounds(large, token, lambda: [], 1)[0][0]
        mb = large.stat().st_size / 1e6
        lines.append(f"| {mb:,.0f} MB | {seconds:.1f} | {mb / seconds:.0f} | {peak[0] / 1e6:.0f} MB |")
        large.unlink()
        subprocess.run(["rm", "-rf", str(data)], check=True)
    return lines


def _repeat(csv: Path, output: Path, size_bytes: int) -> None:
    """Write the header once, and the rows as often as it takes."""
    header, _, body = csv.read_bytes().partition(b"\n")
    with output.open("wb") as file:
        file.write(header + b"\n")
        while file.tell() < size_bytes:
            file.write(body)


def _descendants_of_this() -> list[int]:
    """List every process that this one has started, at any depth."""
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        try:
            children = _converters_of(waiting.pop())()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += children
        waiting += children
    return found


if __name__ == "__main__":
    sys.exit("run it with: python -m benchmarks.run convert")
