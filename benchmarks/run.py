"""Run the benchmarks and print their tables; the output is also kept in ``results/``."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks import convert, edge, formats, merge, restore, switch, upload, visible
from benchmarks.table import Result, Row, summarise

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        help="convert, upload, formats, merge, visible, restore, switch, edge (default: all)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="runs of each upload")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the uploaded CSV")
    parser.add_argument("--slow-peers", action="store_true", help="also those that take minutes")
    parser.add_argument("--large", action="store_true", help="also files of 1 and 5 GB")
    arguments = parser.parse_args()
    benchmarks: dict[str, Callable[[Path], Result]] = {
        "convert": partial(
            convert.run,
            rows=arguments.rows,
            rounds=arguments.rounds,
            slow_peers=arguments.slow_peers,
            large=arguments.large,
        ),
        "upload": partial(
            upload.run,
            rows=arguments.rows,
            rounds=arguments.rounds,
            slow_peers=arguments.slow_peers,
        ),
        "formats": partial(formats.run, rows=arguments.rows, rounds=arguments.rounds),
        "merge": partial(merge.run, rows_count=arguments.rows),
        "visible": visible.run,
        "restore": restore.run,
        "switch": switch.run,
        "edge": edge.run,
    }
    at = datetime.now(UTC)
    cores = len(os.sched_getaffinity(0))
    machine = f"{platform.machine()}, {cores} cores, Python {platform.python_version()}"
    parts: list[str] = []
    rows: list[Row] = []
    for name in arguments.names or benchmarks:
        with TemporaryDirectory(prefix="headrace-bench-") as folder:
            result = benchmarks[name](Path(folder))
        parts.append(result.text.strip())
        rows += result.rows
        sys.stderr.write(f"{parts[-1]}\n\n")
    head = [f"# Benchmarks of {at:%Y-%m-%d %H:%M} UTC", machine, summarise(rows)]
    text = "\n\n".join([*head, *parts]) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{at:%Y-%m-%d-%H%M}.md").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
