"""From ``201`` of a one-row append until it is read on three readers."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.append_steps import Append, tell_steps
from benchmarks.table import Result, Row
from headrace.litestream_binary import find_litestream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PORT = 18820
READERS = 3
ROUNDS = 40
SIZES_MB = (10, 1000)
DEADLINE_S = 120.0
MEDIAN_GOAL_S, P99_GOAL_S, SAME_GOAL = 0.25, 1.0, 1.2


def run(folder: Path) -> Result:
    """Measure, and give the table as Markdown."""
    lines = [
        f"## From `201` of a one-row append until it is read on {READERS} readers",
        "",
        f"{ROUNDS} appends; seconds until the last reader shows the row.",
        "",
        "| database | p50 | p99 | most | `litestream restore` + `datasette serve`, no poll |",
        "|---|---|---|---|---|",
    ]
    rows: list[Row] = []
    medians: list[float] = []
    slowest: list[str] = []
    for size_mb in SIZES_MB:
        database = folder / f"big{size_mb}.db"
        _make_database(database, size_mb)
        log = folder / f"log{size_mb}"
        with _up(folder / f"data{size_mb}", log) as token:
            receipt = _post(f"database=big&filename={database.name}", database.read_bytes(), token)
            database.unlink()
            first = "database=big&table=marks&mode=append&filename=marks.csv&wait_for=regions"
            _post(first, b"n\n-1\n", token)
            time.sleep(10)  # idle copies are made in the background
            appends = [_time_append(number, token) for number in range(ROUNDS)]
            most = max(appends, key=lambda append: append.seconds)
            steps = tell_steps(most, _get_live(most), log)
            slowest += [f"The slowest append to {size_mb:,} MB. {steps}", ""]
        times = sorted(append.seconds for append in appends)
        peer_s = _time_peer(folder, size_mb, receipt["lineage"])
        p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
        lines.append(f"| {size_mb} MB | {p50:.3f} | {p99:.3f} | {times[-1]:.3f} | {peer_s:.2f} s |")
        medians.append(p50)
        row = Row(
            what=f"`201` of a one-row append to {size_mb:,} MB, until read on {READERS} readers",
            headrace=f"p50 {p50:.3f} s, p99 {p99:.3f} s",
            against=f"`litestream restore` + `datasette serve` {peer_s:.2f} s, without any poll",
            goal="p50 under 0.25 s, p99 under 1 s",
            reached=p50 < MEDIAN_GOAL_S and p99 < P99_GOAL_S,
        )
        rows.append(row)
    ratio = medians[-1] / medians[0]
    row = Row(
        what="the same, the large database against the small one",
        headrace=f"{ratio:.2f} times",
        against="1",
        goal="within 20 %",
        reached=ratio <= SAME_GOAL,
    )
    lines += ["", "Each slowest append, in seconds; after the `201`, from there on.", "", *slowest]
    return Result(text="\n".join(lines), rows=(*rows, row))


def _make_database(path: Path, size_mb: int) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE filler (id INTEGER PRIMARY KEY, body BLOB)")
        for _ in range(size_mb):
            db.execute("INSERT INTO filler (body) VALUES (?)", (os.urandom(1_000_000),))
        db.commit()


def _time_append(number: int, token: str) -> Append:
    sent_s = time.time()
    query = "database=big&table=marks&mode=append&filename=marks.csv"
    receipt = _post(query, b"n\n%d\n" % number, token)
    answered_s = time.time()
    read_s = tuple(_wait_read(PORT + reader, number) for reader in range(READERS))
    time.sleep(0.5)  # uploads come one after the other, not in a stream
    return Append(
        number=number, receipt=receipt, sent_s=sent_s, answered_s=answered_s, read_s=read_s
    )


def _wait_read(port: int, number: int) -> float:
    deadline_s = time.monotonic() + DEADLINE_S
    while _newest(port) != number:
        if time.monotonic() > deadline_s:
            raise SystemExit("the row never came")
        time.sleep(0.002)
    return time.time()


def _get_live(append: Append) -> dict[str, str]:
    """Give when each region was live with an append."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    connection.request("GET", f"/ingest/receipts/{append.receipt['id']}")
    live: dict[str, str] = json.load(connection.getresponse())["live"]
    return live


def _newest(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    sql = "select+max(n)+as+n+from+marks"
    connection.request("GET", f"/big.json?sql={sql}&_shape=array")
    rows = json.load(connection.getresponse())
    return int(rows[0]["n"]) if isinstance(rows, list) else -2


def _post(query: str, body: bytes, token: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    headers = {"Authorization": f"Bearer {token}", "Prefer": "wait=600"}
    connection.request("POST", f"/ingest?{query}", body, headers)
    response = connection.getresponse()
    receipt: dict[str, Any] = json.load(response)
    if response.status != 201:
        raise SystemExit(f"upload failed: {receipt}")
    return receipt


def _time_peer(folder: Path, size_mb: int, lineage: str) -> float:
    """Restore the database with Litestream and start Datasette on it, once."""
    url = f"file://{folder}/data{size_mb}/store/dbs/big/{lineage}"
    output = folder / f"peer{size_mb}.db"
    started = time.perf_counter()
    subprocess.run([str(find_litestream()), "restore", "-o", str(output), url], check=True)
    command = [sys.executable, "-m", "datasette", "serve", "-i", str(output), "--port"]
    process = subprocess.Popen([*command, str(PORT + 50)], stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", PORT + 50)
                connection.request("GET", "/-/versions.json")
                connection.getresponse().read()
            except OSError:
                time.sleep(0.01)
            else:
                return time.perf_counter() - started
    finally:
        process.terminate()
        process.wait()
        output.unlink()


@contextmanager
def _up(data: Path, log: Path) -> Iterator[str]:
    """Run everything; what it logs goes to a file, and is shown if it does not start."""
    command = [sys.executable, "-m", "headrace", "up", "--data", str(data), "--port", str(PORT)]
    command += ["--readers", str(READERS), "--workers", "1"]
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert process.stdout  # noqa: S101
    for line in process.stdout:
        if line.startswith("ready:"):
            break
    else:
        raise SystemExit(f"headrace up did not start: {log.read_text()}")
    try:
        yield (data / "token").read_text().strip()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
