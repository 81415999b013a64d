"""200 files of 10 MB at once, through a reader: all arrive, and ingest stays small."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from benchmarks.make_csv import make_csv
from benchmarks.table import Result, Row
from benchmarks.upload import _peak_memory, _post, _up

if TYPE_CHECKING:
    from pathlib import Path

UPLOADS = 200
ROWS = 105_000  # 10 MB
GOAL_MB = 300


def run(folder: Path) -> Result:
    """Measure, and give the table as Markdown."""
    csv = folder / "rows.csv"
    make_csv(csv, ROWS)
    size_mb = csv.stat().st_size / 1e6
    with _up(folder / "data") as (token, processes):

        def upload(number: int) -> float:
            started = time.perf_counter()
            _post(csv, f"database=crowd{number}&table=rows", token)
            return time.perf_counter() - started

        with (
            _peak_memory(lambda: processes()[:1]) as own,
            _peak_memory(processes) as together,
            ThreadPoolExecutor(UPLOADS) as clients,
        ):
            started = time.perf_counter()
            seconds = sorted(clients.map(upload, range(UPLOADS)))
            took_s = time.perf_counter() - started
    median_s = seconds[UPLOADS // 2]
    lines = [
        f"## {UPLOADS} uploads of {size_mb:.0f} MB at once",
        "",
        f"Each to a database of its own, through one reader; all {len(seconds)} answered `201`.",
        "",
        "| what | |",
        "|---|---|",
        f"| until all were published | {took_s:.1f} s, {UPLOADS * size_mb / took_s:.0f} MB/s |",
        f"| first, median, last | {seconds[0]:.1f}, {median_s:.1f}, {seconds[-1]:.1f} s |",
        f"| most memory of ingest | {own[0] / 1e6:.0f} MB |",
        f"| the same with its converters | {together[0] / 1e6:.0f} MB |",
    ]
    row = Row(
        what=f"{UPLOADS} uploads of {size_mb:.0f} MB at once, memory of ingest",
        headrace=f"{own[0] / 1e6:.0f} MB, all arrived",
        against=f"limit {GOAL_MB} MB",
        goal="all arrive, under the limit",
        reached=own[0] < GOAL_MB * 1e6,
    )
    return Result(text="\n".join([*lines, ""]), rows=(row,))
