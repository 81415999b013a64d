"""Single rows through the write API, beside Datasette 1.0's own on one machine, in turns.

Both are sent the same requests by the same client: connections that are kept, each with one request
under way. Datasette answers when SQLite has committed; Headrace when the row is replicated and in a
published generation as well.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.table import Result, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

PEER = Path(sys.prefix) / "peers" / "datasette" / "bin" / "datasette"
PORT = 18760
DATASETTE_PORT = 18795
CLIENTS = 32
SECONDS = 10.0
ROUNDS = 3
SECRET = "of-this-benchmark"  # noqa: S105 - it protects nothing
GOAL_ROWS = 1000  # a second
GOAL_P99_S = 0.25
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
PATH = "/bench/rows/-/insert"
COLUMNS = [{"name": "id", "type": "integer"}, {"name": "client"}, {"name": "n", "type": "integer"}]
TABLE = json.dumps({"table": "rows", "columns": COLUMNS, "pk": "id"}).encode()
DATASETTE, HEADRACE = "Datasette 1.0 alone", "Headrace, through a reader"


def run(folder: Path, *, seconds: float = SECONDS, rounds: int = ROUNDS) -> Result:
    """Measure, and give the table as Markdown."""
    taken: dict[str, list[list[float]]] = {DATASETTE: [], HEADRACE: []}
    version = _version()
    for number in range(rounds):  # by turns, so that a slow minute weighs on both
        with _datasette(folder / f"peer-{number}") as token:
            taken[DATASETTE].append(_measure(DATASETTE_PORT, token, seconds))
        with _up(folder / f"up-{number}") as token:
            taken[HEADRACE].append(_measure(PORT, token, seconds))
    figures = {name: _summarise(each, seconds) for name, each in taken.items()}
    lines = [
        "## One row a request, by Datasette's write API",
        "",
        (
            f"{CLIENTS} clients, {seconds:.0f} s, median of {rounds} runs by turns; "
            f"Datasette {version} on one SQLite file in WAL mode, without replication."
        ),
        "",
        "| what | rows a second | p50 | p99 |",
        "|---|---|---|---|",
        *(
            f"| {name} | {rate:,.0f} | {p50 * 1000:.0f} ms | {p99 * 1000:.0f} ms |"
            for name, (rate, p50, p99) in figures.items()
        ),
    ]
    return Result(text="\n".join([*lines, ""]), rows=_compare(figures))


def _compare(figures: dict[str, tuple[float, float, float]]) -> tuple[Row, ...]:
    ours, _p50, p99 = figures[HEADRACE]
    theirs = figures[DATASETTE][0]
    what = f"rows a second, one a request, {CLIENTS} clients"
    return (
        Row(
            what=what,
            headrace=f"{ours:,.0f}",
            against=f"Datasette alone {theirs:,.0f}",
            goal="not fewer",
            reached=ours >= theirs,
        ),
        Row(
            what=f"{what}, replicated and published",
            headrace=f"{ours:,.0f}, p99 {p99 * 1000:.0f} ms",
            against="",
            goal=f"{GOAL_ROWS:,}, p99 under {GOAL_P99_S * 1000:.0f} ms",
            reached=ours >= GOAL_ROWS and p99 < GOAL_P99_S,
        ),
    )


def _summarise(runs: list[list[float]], seconds: float) -> tuple[float, float, float]:
    """Give rows a second, and the median and the 99th percentile of the seconds of a row."""
    rates = sorted(len(each) / seconds for each in runs)
    p50s = sorted(sorted(each)[len(each) // 2] for each in runs)
    p99s = sorted(sorted(each)[len(each) * 99 // 100] for each in runs)
    middle = len(runs) // 2
    return rates[middle], p50s[middle], p99s[middle]


def _measure(port: int, token: str, seconds: float) -> list[float]:
    """Insert rows; give the seconds that each took. Every row must be there in the end."""
    _post(port, "/bench/-/create", token, TABLE)
    _post(port, PATH, token, b'{"row": {"client": "first", "n": 0}}')
    times = asyncio.run(_load(port, token, seconds))
    deadline = time.monotonic() + 30
    while (count := _count(port)) < len(times) + 1:
        if time.monotonic() > deadline:
            raise SystemExit(f"{len(times)} rows were answered for, and {count} are there")
        time.sleep(0.1)
    return times


async def _load(port: int, token: str, seconds: float) -> list[float]:
    times: list[float] = []
    until = time.perf_counter() + seconds
    async with asyncio.TaskGroup() as tasks:
        for number in range(CLIENTS):
            tasks.create_task(_client(number, port, token, until, times))
    return times


async def _client(number: int, port: int, token: str, until: float, times: list[float]) -> None:
    """Send one row after the other; plain sockets, so that the client costs little."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    ).encode()
    n = 0
    while (started := time.perf_counter()) < until:
        body = b'{"row": {"client": "%d", "n": %d}}' % (number, n)
        writer.write(head + b"%d\r\n\r\n" % len(body) + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 201"):
            raise SystemExit(answer.decode())
        if (length := LENGTH.search(answer)) is not None:
            await reader.readexactly(int(length[1]))
        else:  # in chunks: Datasette's answers do not say how long they are
            await reader.readuntil(b"\r\n0\r\n\r\n")
        times.append(time.perf_counter() - started)
        n += 1
    writer.close()


@contextmanager
def _datasette(folder: Path) -> Iterator[str]:
    """Run Datasette on a database of its own; gives a token."""
    folder.mkdir(parents=True)
    path = folder / "bench.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")  # which makes it faster
    command = [str(PEER), str(path), "--port", str(DATASETTE_PORT), "--root"]
    command += ["--secret", SECRET, "--setting", "default_allow_sql", "on"]
    asked = [str(PEER), "create-token", "root", "--secret", SECRET]
    token = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(DATASETTE_PORT, "/-/versions.json")
        yield token
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _up(folder: Path) -> Iterator[str]:
    """Run everything on this machine; gives the token."""
    command = [sys.executable, "-m", "headrace", "up", "--data", str(folder), "--port", str(PORT)]
    env = {**os.environ, "HEADRACE_TOKEN": SECRET}
    process = subprocess.Popen(
        [*command, "--workers", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=env,
    )
    try:
        _wait_for(PORT, "/-/readyz")
        yield SECRET
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _version() -> str:
    asked = subprocess.run([str(PEER), "--version"], check=True, capture_output=True, text=True)
    return asked.stdout.split()[-1]


def _wait_for(port: int, path: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if _get(port, path)[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"nothing answers on port {port}")


def _count(port: int) -> int:
    status, body = _get(port, "/bench/rows.json?_size=0&_extra=count")
    if status != 200:
        return 0
    document = json.loads(body)
    return int(document.get("count") or document.get("filtered_table_rows_count") or 0)


def _get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read()


def _post(port: int, path: str, token: str, body: bytes) -> None:
    """Send one request; once more while Litestream is starting."""
    deadline = time.monotonic() + 30
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", path, body, {"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        answer = response.read()
        if response.status == 201:
            return
        if response.status != 503 or time.monotonic() > deadline:
            raise SystemExit(f"{path}: {response.status} {answer.decode()}")
        time.sleep(0.1)
