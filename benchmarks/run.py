"""Run the benchmarks and print their tables; the output is also kept in ``results/``."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.table import summarise

if TYPE_CHECKING:
    from benchmarks.table import Result, Row

ONLY_BY_NAME = {"idle"}  # it does nothing for 17 minutes
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        help="convert, upload, formats, merge, visible, restore, primary, switch, memory, edge, "
        "preview, crowd, rows, scrape, wake (default: all of these), idle",
    )
    parser.add_argument("--rounds", type=int, default=3, help="runs of each upload")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the uploaded CSV")
    arguments = parser.parse_args()
    sizes = {"rows": arguments.rows, "rounds": arguments.rounds}
    benchmarks: dict[str, dict[str, Any]] = {
        "convert": sizes,
        "upload": sizes,
        "formats": sizes,
        "merge": {"rows_count": arguments.rows},
        "visible": {},
        "restore": {},
        "primary": sizes,
        "switch": {},
        "memory": {},
        "edge": {},
        "preview": {},
        "crowd": {},
        "rows": {},
        "scrape": {},
        "wake": {},
        "idle": {},
    }
    at = datetime.now(UTC)
    cores = len(os.sched_getaffinity(0))
    machine = f"{platform.machine()}, {cores} cores, Python {platform.python_version()}"
    parts: list[str] = []
    rows: list[Row] = []
    for name in arguments.names or [each for each in benchmarks if each not in ONLY_BY_NAME]:
        result = _run_alone(name, benchmarks[name])
        parts.append(result.text.strip())
        rows += result.rows
        sys.stderr.write(f"{parts[-1]}\n\n")
    head = [f"# Benchmarks of {at:%Y-%m-%d %H:%M} UTC", machine, summarise(rows)]
    text = "\n\n".join([*head, *parts]) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{at:%Y-%m-%d-%H%M}.md").write_text(text)
    sys.stdout.write(text)


def _run_alone(name: str, options: dict[str, Any]) -> Result:
    """Run a benchmark in a process of its own: what others have imported is not in its memory."""
    with (
        TemporaryDirectory(prefix="headrace-bench-") as folder,
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor,
    ):
        return executor.submit(_run, name, Path(folder), options).result()


def _run(name: str, folder: Path, options: dict[str, Any]) -> Result:
    result: Result = import_module(f"benchmarks.{name}").run(folder, **options)
    return result


if __name__ == "__main__":
    main()
