"""One large CSV through ``POST /ingest``, beside the tools that people use on files today."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.make_csv import make_csv
from benchmarks.table import Result, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PEERS = Path(sys.prefix) / "peers"
PORT = 18700
POST = "`POST /ingest` to `201`, new table"
VISIBLE_ROUNDS = 20


def run(folder: Path, *, rows: int, rounds: int) -> Result:
    """Measure, and give the tables as Markdown."""
    csv = folder / "rows.csv"
    make_csv(csv, rows)
    size_mb = csv.stat().st_size / 1e6
    lines = [
        f"## {rows:,} rows, 10 columns, {size_mb:.0f} MB of CSV",
        "",
        f"Median of {rounds} runs [least, most], by turns; memory of `POST`: one more upload.",
        "",
        "| what | seconds | peak memory |",
        "|---|---|---|",
    ]
    peers: dict[str, Callable[[Path], list[str]]] = {
        "`sqlite3 .import` (untyped)": lambda out: ["sqlite3", str(out), f".import --csv {csv} t"],
        "`csvs-to-sqlite`": lambda out: [_peer("csvs-to-sqlite"), str(csv), str(out)],
    }
    times: dict[str, list[float]] = {}
    peaks: dict[str, int] = {}

    def note(name: str, seconds: float, peak: int) -> None:
        times.setdefault(name, []).append(seconds)
        peaks[name] = max(peaks.get(name, 0), peak)

    with _up(folder / "data") as (token, processes):
        for number in range(rounds):  # by turns, so that a slow minute weighs on all of them
            for name, command in peers.items():
                output = folder / f"peer-{number}.db"
                note(name, *_time(command(output)))
                if output.stat().st_size < csv.stat().st_size / 2:
                    raise SystemExit(f"{name} did not load the file")
                output.unlink()
            note(POST, _upload_round(csv, token, number), 0)
        with _peak_memory(processes) as peak:  # apart: to look takes time of a core
            _upload_round(csv, token, rounds)
        peaks[POST] = peak[0]
        visible = sorted(_time_visible(token, number) for number in range(VISIBLE_ROUNDS))
    lines += [_row(name, times[name], peaks[name]) for name in times]
    posted = _median(times[POST])
    seen = (
        f"From `201` of a one-row CSV to its row on the reader: median {_median(visible):.3f} s, "
        f"least {visible[0]:.3f} s, most {visible[-1]:.3f} s ({VISIBLE_ROUNDS} uploads)."
    )
    rows_found = [
        _compare(size_mb, posted, name, _median(times[name])) for name in times if name != POST
    ]
    return Result(text="\n".join([*lines, "", seen, ""]), rows=tuple(rows_found))


def _compare(size_mb: float, posted: float, name: str, seconds: float) -> Row:
    return Row(
        what=f"{size_mb:.0f} MB CSV, `POST /ingest` to `201`, new table",
        headrace=f"{posted:.2f} s",
        against=f"{name} {seconds:.2f} s",
        goal="not slower",
        reached=posted <= seconds,
    )


def _peer(name: str) -> str:
    return str(PEERS / name / "bin" / name)


def _upload_round(csv: Path, token: str, number: int) -> float:
    """Upload into a new database; give the seconds."""
    os.sync()  # what the peer before it wrote must not weigh on it
    started = time.perf_counter()
    receipt = _post(csv, f"database=bench{number}&table=rows", token)
    seconds = time.perf_counter() - started
    print(json.dumps(receipt["timings_s"]), file=sys.stderr)
    _wait_until_live(number + 1)  # the reader's work must not weigh on the next round
    return seconds


def _wait_until_live(generation: int) -> None:
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", PORT)
        connection.request("GET", "/-/headrace.json")
        if json.load(connection.getresponse())["generation"] >= generation:
            return
        time.sleep(0.05)


def _time_visible(token: str, number: int) -> float:
    """Time from the answer to an upload until its row is read."""
    body = f"n\n{number}\n".encode()
    _post(body, "database=tiny&table=rows", token)
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    while time.perf_counter() - started < 30:
        connection.request("GET", "/tiny/rows.json?_shape=array")
        rows = json.load(connection.getresponse())
        if isinstance(rows, list) and rows[0]["n"] == number:
            return time.perf_counter() - started
        time.sleep(0.002)
    raise SystemExit("the row never came")


def _post(body: Path | bytes, query: str, token: str) -> dict[str, dict[str, float]]:
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    headers = {"Authorization": f"Bearer {token}", "Prefer": "wait=600"}
    if isinstance(body, Path):
        headers["Content-Length"] = str(body.stat().st_size)
        with body.open("rb") as file:
            connection.request("POST", f"/ingest?filename=rows.csv&{query}", file, headers)
            response = connection.getresponse()
    else:
        connection.request("POST", f"/ingest?filename=rows.csv&{query}", body, headers)
        response = connection.getresponse()
    answer: dict[str, dict[str, float]] = json.load(response)
    if response.status != 201:
        raise SystemExit(f"upload failed: {answer}")
    return answer


@contextmanager
def _up(data: Path, *, readers: int = 1) -> Iterator[tuple[str, Callable[[], list[int]]]]:
    """Run ``headrace up``; gives the token, and the processes of ingest and its converters."""
    command = [sys.executable, "-m", "headrace", "up", "--data", str(data), "--port", str(PORT)]
    command += ["--readers", str(readers)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout  # noqa: S101
    for line in process.stdout:
        if line.startswith("ready:"):
            break
    try:
        yield (data / "token").read_text().strip(), lambda: _ingest_processes(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _ingest_processes(up: int) -> list[int]:
    """List ingest and its descendants, without Litestream."""
    roots = [pid for pid in _children(up) if "\0ingest\0" in _command(pid)]
    found = [*roots, *(each for root in roots for each in descendants(root))]
    return [pid for pid in found if "litestream" not in _command(pid).partition("\0")[0]]


def descendants(root: int) -> list[int]:
    """List every process below one, at any depth: also those in a cage."""
    found: list[int] = []
    waiting = [root]
    while waiting:
        children = _children(waiting.pop())
        found += children
        waiting += children
    return found


def _children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@contextmanager
def _peak_memory(processes: Callable[[], list[int]], *, own: bool = False) -> Iterator[list[int]]:
    """Sample the memory of some processes together; gives the most, in bytes.

    Args:
        processes: Gives them.
        own: Whether only what is not mapped from files counts, with what several share once: the
            kernel takes pages of files back when it needs them. Else all that is resident.
    """
    peak = [0]
    done = threading.Event()
    # Seldom: to look at all processes takes time of a core, which the peers have for themselves.
    read, every_s = (_own, 0.5) if own else (_resident, 0.1)

    def sample() -> None:
        while not done.wait(every_s):
            peak[0] = max(peak[0], sum(read(pid) for pid in processes()))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield peak
    finally:
        done.set()
        sampler.join()


def _resident(pid: int) -> int:
    return _read_kb(pid, "status", "VmRSS")


def _own(pid: int) -> int:
    return _read_kb(pid, "smaps_rollup", "Pss_Anon")


def _read_kb(pid: int, file: str, name: str) -> int:
    """Give a value of /proc in bytes. Source: proc(5)."""
    try:
        found = re.search(
            rf"^{name}:\s+(\d+)", Path(f"/proc/{pid}/{file}").read_text(), re.MULTILINE
        )
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return int(found[1]) * 1024 if found else 0


def _time(command: list[str]) -> tuple[float, int]:
    """Run a command; give its seconds and its peak memory in bytes."""
    if shutil.which(command[0]) is None:
        raise SystemExit(f"{command[0]} is not here: run make bench")
    os.sync()  # what was written before must not weigh on it
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{command[0]} failed")
    return time.perf_counter() - started, usage.ru_maxrss * 1024


def _row(name: str, times: list[float], peak: int) -> str:
    spread = f"{_median(times):.2f} [{min(times):.2f}, {max(times):.2f}]"
    return f"| {name} | {spread} | {peak / 1e6:.0f} MB |"


def _median(values: list[float]) -> float:
    return statistics.median(values)
