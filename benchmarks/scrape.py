"""What it costs to look at the metrics: CPU of the nodes a scrape, with a hundred databases."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import httpx

from benchmarks.table import Result, Row
from headrace.exposition import MOST_DATABASES
from tests.e2e.conftest import running
from tests.faults.processes import command_of, descendants

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import System

SCRAPES = 200
EVERY_S = 15.0  # as deploy/prometheus says
REST_S = 10.0  # without any, which is taken off
GOAL = 0.01  # of a core
ACCEPT = {"Accept": "application/openmetrics-text; version=1.0.0"}
NODES = {"primary": "headrace ingest", "Litestream": "replicate", "reader": "headrace serve"}
_TICKS = os.sysconf("SC_CLK_TCK")


def run(folder: Path) -> Result:
    """Measure, and give the table as Markdown."""
    with running(folder / "data", "--workers", "1") as system:
        for number in range(MOST_DATABASES):
            system.upload(b"id,name\n1,Ada\n", f"d{number}.csv")
        system.upload(b"id,name\n2,Eve\n", "d0.csv", wait_for="regions")
        time.sleep(REST_S)
        rest_s = _measure(system, scrapes=0)
        took_s = _measure(system, scrapes=SCRAPES)
        sizes = [len(httpx.get(url, headers=ACCEPT).content) for url in _urls(system)]
    lines = [
        f"## Scraping, {MOST_DATABASES} databases",
        "",
        f"CPU of the processes over {SCRAPES} scrapes as OpenMetrics, less what they take at rest.",
        "",
        "| process | ms a scrape | of a core, every 15 s |",
        "|---|---|---|",
    ]
    each_s = {}
    for node, (used_s, passed_s) in took_s.items():
        at_rest_s, rested_s = rest_s[node]
        each_s[node] = (used_s - at_rest_s * passed_s / rested_s) / SCRAPES
    for node, cost_s in each_s.items():
        lines.append(f"| {node} | {cost_s * 1000:.1f} | {cost_s / EVERY_S:.3%} |")
    lines += ["", f"The primary shows {sizes[0]:,} bytes, the reader {sizes[1]:,}.", ""]
    primary_s = each_s["primary"] + each_s["Litestream"]
    rows = (
        _judge("the primary, with Litestream", primary_s),
        _judge("a reader", each_s["reader"]),
    )
    return Result(text="\n".join(lines), rows=rows)


def _measure(system: System, *, scrapes: int) -> dict[str, tuple[float, float]]:
    """Scrape all nodes, or rest; give the CPU of each kind, and the time, in seconds."""
    before, begun_s = _cpu_s(system), time.perf_counter()
    for _ in range(scrapes):
        for url in _urls(system):
            httpx.get(url, headers=ACCEPT).raise_for_status()
    if not scrapes:
        time.sleep(REST_S)
    passed_s = time.perf_counter() - begun_s
    return {node: (used_s - before[node], passed_s) for node, used_s in _cpu_s(system).items()}


def _urls(system: System) -> list[str]:
    return [f"http://127.0.0.1:{system.port + offset}/metrics" for offset in (200, 201)]


def _cpu_s(system: System) -> dict[str, float]:
    pids = {pid: command_of(pid) for pid in descendants(system.process.pid)}
    return {
        node: sum(_cpu_of(pid) for pid, command in pids.items() if part in command)
        for node, part in NODES.items()
    }


def _cpu_of(pid: int) -> float:
    """Give the seconds of CPU that a process took. Source: proc(5), stat: utime, stime."""
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - a file of the kernel
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _judge(who: str, cost_s: float) -> Row:
    return Row(
        what=f"scraping {who} every {EVERY_S:.0f} s",
        headrace=f"{cost_s / EVERY_S:.2%} of a core",
        against=f"limit {GOAL:.0%}",
        goal="under the limit",
        reached=cost_s / EVERY_S < GOAL,
    )
