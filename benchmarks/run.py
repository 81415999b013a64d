"""Run the benchmarks and print their tables; the output is also kept in ``results/``."""

from __future__ import annotations

import argparse
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import upload

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each; medians are shown")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--slow-peers", action="store_true", help="also those that take minutes")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="headrace-bench-") as folder:
        text = upload.run(
            Path(folder),
            rows=arguments.rows,
            rounds=arguments.rounds,
            slow_peers=arguments.slow_peers,
        )
    at = datetime.now(UTC)
    machine = f"{platform.machine()}, {_cores()} cores, Python {platform.python_version()}"
    text = f"# Benchmarks of {at:%Y-%m-%d %H:%M} UTC\n\n{machine}\n\n{text}"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{at:%Y-%m-%d}.md").write_text(text)
    sys.stdout.write(text)


def _cores() -> int:
    return len(__import__("os").sched_getaffinity(0))


if __name__ == "__main__":
    main()
