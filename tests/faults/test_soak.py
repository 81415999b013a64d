"""The faults: ingest, workers and Litestream killed, the store away, while uploads and reads go on.

Invariants I1 to I4, I6 and I7 survive: each upload is sent until it was acknowledged, with a key of
its own, and counts once. SOAK_SECONDS and SOAK_SEED make it longer, or another one.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests.conftest import wait_for
from tests.e2e.conftest import running

if TYPE_CHECKING:
    from tests.e2e.conftest import System

SECONDS = float(os.environ.get("SOAK_SECONDS", "20"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
READERS = 2
DATABASES = ("red", "green", "blue")


class Watcher(threading.Thread):
    """Reads one reader all the while: no read fails, no table is half, no generation goes back."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.faults: list[str] = []
        self.reads = 0
        self.done = threading.Event()

    def run(self) -> None:
        """Read until told to end."""
        noise = random.Random(self.url)
        newest = 0
        with httpx.Client(base_url=self.url, timeout=40) as client:
            while not self.done.is_set():
                database = noise.choice(DATABASES)
                query = f"select count(*) as rows, count(distinct batch) as batches from {database}"
                path = f"/{database}.json?sql={query}&_shape=array&n={noise.random()}"
                answer = client.get(path)
                self.reads += 1
                if answer.status_code != 200:
                    self.faults.append(f"{answer.status_code} {answer.text[:200]}")
                    continue
                (row,) = answer.json()
                generation = int(answer.headers["Headrace-Generation"])
                if row["rows"] != 100 * row["batches"]:
                    self.faults.append(f"half a file: {row}")
                if generation < newest:
                    self.faults.append(f"generation {generation} after {newest}")
                newest = max(newest, generation)


def test_soak_of_faults_fails_no_read_and_ends_with_equal_copies(tmp_path: Path) -> None:
    """Whatever is killed or away, reads go on, and in the end every reader shows every upload."""
    noise = random.Random(SEED)
    with running(tmp_path / "data", "--workers", "1", readers=READERS) as system:
        expected = dict.fromkeys(DATABASES, 0)
        for name in DATABASES:
            system.upload(_batch(0), f"{name}.csv", wait_for="regions")
            expected[name] = 1
        watchers = [Watcher(f"http://127.0.0.1:{system.port + n}") for n in range(READERS)]
        for watcher in watchers:
            watcher.start()
        try:
            newest = _make_trouble(system, noise, expected)
            for number in range(READERS):
                system.wait_until_live(newest, reader=number)
        finally:
            for watcher in watchers:
                watcher.done.set()
            for watcher in watchers:
                watcher.join()
        assert [watcher.faults for watcher in watchers] == [[]] * READERS, f"seed {SEED}"
        assert all(watcher.reads > 10 for watcher in watchers)
        for number in range(READERS):
            _check_rows(system, number, expected)
    command = [sys.executable, "-m", "headrace", "verify", "--data", str(tmp_path / "data")]
    verified = subprocess.run(command, capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stdout


def _make_trouble(system: System, noise: random.Random, expected: dict[str, int]) -> dict[str, Any]:
    """Upload and break things in turn; give the receipt of the last upload."""
    deadline = time.monotonic() + SECONDS
    store, away = system.data / "store", system.data / "store-away"
    number = 0
    while True:
        number += 1
        database = noise.choice(DATABASES)
        mode = noise.choice(["append", "append", "append", "replace"])
        trouble = noise.choice(["none", "none", "worker", "litestream", "store", "ingest"])
        if trouble == "worker":
            _kill(system, "nursery_main", noise)
        elif trouble == "litestream":
            _kill(system, "litestream", noise)
        elif trouble == "store":
            store.rename(away)
            store.touch()  # in the way of whoever would make the folder anew
        send = partial(_send, system, _batch(number), database, mode, f"{SEED}-{number}")
        if trouble == "store":
            send()  # its bytes have no place to go: it is refused
            wait_for(lambda: noise.random() < 0.02)  # for about half a second
            store.unlink()
            away.rename(store)
        killer = threading.Timer(noise.random() / 5, _kill, (system, "ingest", noise))
        if trouble == "ingest":  # while the upload is somewhere on its way
            killer.start()
        wait_for(send, timeout_s=60)  # what failed is sent again
        if trouble == "ingest":
            killer.join()
        expected[database] = 1 if mode == "replace" else expected[database] + 1
        if time.monotonic() > deadline:
            return wait_for(partial(_find_newest, system), timeout_s=60)


def _find_newest(system: System) -> dict[str, Any] | None:
    """Give the receipt of the newest generation, once every upload is published."""
    answer = system.client.get("/ingest/receipts", headers=system.auth)
    if not answer.is_success:  # ingest was killed last
        return None
    receipts = answer.json()["receipts"]
    failed = [receipt["error"] for receipt in receipts if receipt["state"] == "failed"]
    # While the store is away an upload is refused, and was sent again.
    assert [error for error in failed if error["code"] != "replication-down"] == []
    if any(receipt["state"] not in {"published", "failed"} for receipt in receipts):
        return None
    newest: dict[str, Any] = max(receipts, key=lambda receipt: receipt["generation"] or 0)
    return newest


def _send(system: System, body: bytes, database: str, mode: str, key: str) -> bool:
    headers = {"Prefer": "wait=1", "Idempotency-Key": key}
    answer = system.post(body, f"{database}.csv", mode=mode, headers=headers)
    assert answer.status_code in {201, 202, 409, 502, 503}, answer.text
    return answer.is_success


def _batch(number: int) -> bytes:
    """Make a file of 100 rows that say which batch they are of."""
    return b"batch,row\n" + b"".join(b"%d,%d\n" % (number, row) for row in range(100))


def _kill(system: System, name: str, noise: random.Random) -> None:
    found = []
    for pid in system.processes():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if any(part.endswith(name) for part in command[:4]):
            found.append(pid)
    if found:
        os.kill(noise.choice(sorted(found)), signal.SIGKILL)


def _check_rows(system: System, reader: int, expected: dict[str, int]) -> None:
    url = f"http://127.0.0.1:{system.port + reader}"
    for database, batches in expected.items():
        query = f"select count(distinct batch) as batches, count(*) as rows from {database}"
        answer = httpx.get(f"{url}/{database}.json", params={"sql": query, "_shape": "array"})
        assert json.loads(answer.text) == [{"batches": batches, "rows": 100 * batches}]
