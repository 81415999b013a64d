"""Pages out of memory and through the edge, beside Datasette alone on the same database."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.table import Result, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

PORT = 18750
DATASETTE_PORT = 18790
SECONDS = 4.0
CONNECTIONS = 16
ROUNDS = 3
PAGES = {"HTML": "/bench/rows", "JSON": "/bench/rows.json"}
UNCACHED = "?_n=%d"
ALONE, EDGE = "alone", "edge"
GOALS = {
    "hot": ("50 times", 50.0),
    "workers: 1": ("at most 10 % fewer", 0.9),
    "workers: 2": ("more", 1.0),
}


def run(folder: Path) -> Result:
    """Measure, and give the table as Markdown."""
    measured: dict[str, dict[str, list[float]]] = {}
    for _ in range(ROUNDS):  # one round after the other: the machine is not as fast all the time
        _measure_round(folder, measured)
    lines = [
        "## Pages: requests a second",
        "",
        f"A table page of 20 rows; {CONNECTIONS} connections; median of {ROUNDS} runs.",
        "",
        "| page | Datasette alone | the edge | times |",
        "|---|---|---|---|",
    ]
    rows: list[Row] = []
    for row, columns in sorted(measured.items()):
        alone, edge = _median(columns[ALONE]), _median(columns[EDGE])
        lines.append(f"| {row} | {alone:,.0f} | {edge:,.0f} | {edge / alone:.2f} |")
        rows.append(_compare(row, alone, edge))
    return Result(text="\n".join([*lines, ""]), rows=tuple(rows))


def _compare(row: str, alone: float, edge: float) -> Row:
    words, goal = next(each for kind, each in GOALS.items() if kind in row)
    return Row(
        what=f"pages a second: {row}",
        headrace=f"{edge:,.0f}",
        against=f"Datasette alone {alone:,.0f}: {edge / alone:.2f} times",
        goal=words,
        reached=edge / alone >= goal,
    )


def _measure_round(folder: Path, measured: dict[str, dict[str, list[float]]]) -> None:
    """Measure both sides of each row one right after the other."""
    for workers in (1, 2):
        with _up(folder / f"workers-{workers}", workers):
            (folder / "bench.db").write_bytes(_get(PORT, "/bench.db"))
            with _datasette(folder / "bench.db"):
                for name, path in PAGES.items():
                    row = f"{name}, uncached, workers: {workers}"
                    _note(measured, row, ALONE, _load(DATASETTE_PORT, path + UNCACHED))
                    _note(measured, row, EDGE, _load(PORT, path + UNCACHED))
                    if workers == 1:
                        _note(measured, f"{name}, hot", ALONE, measured[row][ALONE][-1])
                        _note(measured, f"{name}, hot", EDGE, _load(PORT, path))


def _note(measured: dict[str, dict[str, list[float]]], row: str, column: str, rate: float) -> None:
    measured.setdefault(row, {}).setdefault(column, []).append(rate)


def _median(rates: list[float]) -> float:
    return sorted(rates)[len(rates) // 2]


def _load(port: int, target: str) -> float:
    url = f"http://127.0.0.1:{port}{target}"
    command = [sys.executable, "-m", "benchmarks.load", url, str(CONNECTIONS), str(SECONDS)]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    print(target, port, answer, file=sys.stderr)
    rate: float = answer["per_second"]
    return rate


@contextmanager
def _up(data: Path, workers: int) -> Iterator[None]:
    """Run ``headrace up`` with a table of 20 rows."""
    command = [sys.executable, "-m", "headrace", "up", "--data", str(data), "--port", str(PORT)]
    process = subprocess.Popen(
        [*command, "--workers", str(workers)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout  # noqa: S101
        for line in process.stdout:
            if line.startswith("ready:"):
                break
        connection = http.client.HTTPConnection("127.0.0.1", PORT)
        rows = "".join(f"{n},name {n},{n * 1.5}\n" for n in range(20))
        token = (data / "token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}", "Prefer": "wait=60"}
        url = "/ingest?filename=rows.csv&database=bench&table=rows"
        connection.request("POST", url, f"id,name,value\n{rows}", headers)
        answer = connection.getresponse()
        generation = json.load(answer)["generation"]
        connection.request(
            "GET", PAGES["HTML"], headers={"Headrace-Min-Generation": str(generation)}
        )
        connection.getresponse().read()
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@contextmanager
def _datasette(database: Path) -> Iterator[None]:
    """Run Datasette as its documentation says."""
    command = [str(Path(sys.executable).parent / "datasette"), "serve", "-i", str(database)]
    process = subprocess.Popen(
        [*command, "--port", str(DATASETTE_PORT)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            try:
                _get(DATASETTE_PORT, "/")
                break
            except OSError:
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(20)


def _get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    return connection.getresponse().read()


if __name__ == "__main__":
    with TemporaryDirectory(prefix="headrace-bench-") as name:
        print(run(Path(name)).text)
