"""A primary that is lost: how soon uploads go on, on its volume, by a standby, or from nothing.

Ten databases of 100 MB, a local folder as the store. And what journal and archive cost an upload.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from benchmarks.make_csv import make_csv
from benchmarks.table import Result, Row
from headrace.keys import lineage_key
from headrace.lease import Lease
from headrace.litestream_binary import find_litestream, litestream_environment
from tests.e2e.primary_kit import TOKEN, Primary, primaries

if TYPE_CHECKING:
    from pathlib import Path

DATABASES = 10
DATABASE_BYTES = 100_000_000
RESTARTS = 3
REBUILDS = 3
PAIRS_A_ROUND = 5
RESTART_GOAL_S, TAKEOVER_GOAL_S, REBUILD_GOAL, COST_GOAL = 3.0, 10.0, 1.5, 0.10
DEFAULT_LEASE = ("--lease-duration", "30", "--lease-renewal", "10")
GIVE_UP_S = 120.0  # for what a person would call broken
BARE = ("-m", "benchmarks.bare_ingest")


def run(folder: Path, *, rows: int, rounds: int) -> Result:
    """Measure, and give the tables as Markdown."""
    recovery = _measure_recovery(folder / "recovery")
    shutil.rmtree(folder / "recovery")
    cost = _measure_cost(folder / "cost", rows, rounds)
    return Result(text=f"{recovery.text}\n{cost.text}", rows=(*recovery.rows, *cost.rows))


def _measure_recovery(folder: Path) -> Result:
    folder.mkdir()
    first = Primary(folder, "first", *DEFAULT_LEASE).start().wait_until_up()
    second = Primary(folder, "second", "--standby", "on", *DEFAULT_LEASE)
    with primaries(first):
        lineages = _fill(first, folder / "filled.db")
        restarts = [_restart(first, number) for number in range(RESTARTS)]
        second.start()
        with primaries(second):
            takeover = _take_over(first, second, folder)
            second.stop()
        rebuilds, peers = [], []
        for number in range(REBUILDS):
            peers.append(_restore_all(first.store, lineages, folder / "peer"))
            shutil.rmtree(folder / "peer")
            rebuilds.append(_rebuild(folder, f"empty-{number}"))
    lines = [
        f"## A primary that is lost: {DATABASES} databases of {DATABASE_BYTES / 1e6:.0f} MB",
        "",
        "| what | seconds [least, most] | beside it |",
        "|---|---|---|",
        f"| `kill -9` to the next `201`, restarted on its volume | {_spread(restarts)} | |",
        (
            f"| the lease's end to the next `201`, by a standby | {takeover.accepted_s:.2f} | "
            f"all databases: {takeover.all_s:.2f} s |"
        ),
        (
            f"| empty volume: start of the process until every database takes uploads | "
            f"{_spread(rebuilds)} | `litestream restore`, all at once: {_spread(peers)} |"
        ),
    ]
    ratio = _median(rebuilds) / _median(peers)
    size = f"{DATABASES} x {DATABASE_BYTES / 1e6:.0f} MB"
    rows = (
        Row(
            what=f"a primary's `kill -9` to the next `201`, on its volume of {size}",
            headrace=f"{_median(restarts):.2f} s",
            against="the limit",
            goal=f"under {RESTART_GOAL_S:.0f} s",
            reached=max(restarts) < RESTART_GOAL_S,
        ),
        Row(
            what=f"a standby's next `201` after the end of the lease, {size}",
            headrace=f"{takeover.accepted_s:.2f} s",
            against="the limit",
            goal=f"under {TAKEOVER_GOAL_S:.0f} s",
            reached=takeover.accepted_s < TAKEOVER_GOAL_S,
        ),
        Row(
            what=f"a primary rebuilt from an empty volume, {size}",
            headrace=f"{_median(rebuilds):.2f} s",
            against=f"`litestream restore` {_median(peers):.2f} s: {ratio:.2f} times",
            goal=f"within {REBUILD_GOAL} times",
            reached=ratio <= REBUILD_GOAL,
        ),
    )
    return Result(text="\n".join([*lines, ""]), rows=rows)


def _fill(primary: Primary, file: Path) -> dict[str, str]:
    """Upload the databases, and change each a little; give their lineages."""
    _make_database(file)
    body = file.read_bytes()
    file.unlink()
    lineages = {}
    for number in range(DATABASES):
        name = f"db{number}"
        primary.upload(body, "filled.db", database=name)
        receipt = _append(primary, name)
        lineages[name] = receipt["lineage"]
    return lineages


def _make_database(file: Path) -> None:
    """Write rows that compress about as text does."""
    rng = random.Random(1)  # noqa: S311 - made-up data, no secrets
    words = [rng.randbytes(5).hex() for _ in range(2000)]
    lines = [" ".join(rng.choices(words, k=45)) for _ in range(2000)]
    with closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, body TEXT)")
        rows = ((n, lines[n % 2000]) for n in range(DATABASE_BYTES // 512))
        db.executemany("INSERT INTO t (n, body) VALUES (?, ?)", rows)
        db.commit()


def _append(primary: Primary, database: str) -> dict[str, str]:
    return primary.upload(b"n,body\n1,more\n", "t.csv", database=database, table="t", mode="append")


def _accepted_at_s(primary: Primary, database: str) -> float:
    """Upload until it is taken, as a client does that tries again; give when."""
    deadline_s = time.monotonic() + GIVE_UP_S
    while time.monotonic() < deadline_s:
        try:
            _append(primary, database)
        except (httpx.TransportError, AssertionError):
            time.sleep(0.01)
        else:
            return time.time()
    raise SystemExit("no upload was taken")


def _restart(primary: Primary, number: int) -> float:
    """Kill it, and start it at once on its volume; give the seconds to the next upload."""
    started = time.time()
    primary.kill()
    primary.start()
    return _accepted_at_s(primary, f"db{number}") - started


@dataclass(frozen=True, slots=True, kw_only=True)
class _TakeOver:
    accepted_s: float
    all_s: float


def _take_over(first: Primary, second: Primary, folder: Path) -> _TakeOver:
    """Kill the primary, whose standby waits; give the seconds after the end of its lease."""
    _append(first, "db5")
    time.sleep(3)  # the standby waits by then
    first.kill()
    newest = max((folder / "store" / "leases").glob("*.json"))
    lease = Lease.decode(newest.read_bytes())
    ends_s = lease.created_at.timestamp() + lease.duration_s
    accepted_s = _accepted_at_s(second, "db5") - ends_s
    return _TakeOver(accepted_s=accepted_s, all_s=_rebuilt_at_s(second) - ends_s)


def _rebuild(folder: Path, name: str) -> float:
    """Start a primary on an empty volume; give the seconds until every database is there."""
    os.sync()
    started = time.time()
    primary = Primary(folder, name, *DEFAULT_LEASE).start()
    with primaries(primary):
        seconds = _rebuilt_at_s(primary) - started
        primary.stop()
    shutil.rmtree(primary.data)
    return seconds


def _rebuilt_at_s(primary: Primary) -> float:
    deadline_s = time.monotonic() + GIVE_UP_S
    while time.monotonic() < deadline_s:
        try:
            if primary.metric("headrace_ingest_rebuilds_total") == DATABASES:
                return time.time()
        except (httpx.TransportError, ValueError):
            pass
        time.sleep(0.05)
    raise SystemExit("it was not rebuilt")


def _restore_all(store: str, lineages: dict[str, str], folder: Path) -> float:
    """Run ``litestream restore`` for all databases at once; give the seconds until the last."""
    folder.mkdir()
    os.sync()

    def restore(name: str) -> None:
        url = f"file://{store}/{lineage_key(name, lineages[name])}"
        output = folder / f"{name}.db"
        subprocess.run(
            [str(find_litestream()), "restore", "-o", str(output), url],
            env=litestream_environment(),
            check=True,
            capture_output=True,
        )

    started = time.time()
    with ThreadPoolExecutor(DATABASES) as threads:
        list(threads.map(restore, lineages))
    return time.time() - started


def _measure_cost(folder: Path, rows: int, rounds: int) -> Result:
    """POST one CSV to a primary, and to one that neither archives nor journals durably."""
    folder.mkdir()
    csv = folder / "rows.csv"
    make_csv(csv, rows)
    full = Primary(folder, "full", *DEFAULT_LEASE, store=str(folder / "full-store"))
    flags = (*DEFAULT_LEASE, "--archive", "off")
    bare = Primary(folder, "bare", *flags, store=str(folder / "bare-store"))
    bare.program = BARE
    pairs: list[dict[str, float]] = []
    with primaries(full.start().wait_until_up(), bare.start().wait_until_up()):
        for number in range(-1, PAIRS_A_ROUND * rounds):
            turns = (("full", full), ("bare", bare))[:: -1 if number % 2 else 1]
            pair = {name: _post(primary, csv, f"bench{number + 1}") for name, primary in turns}
            if number >= 0:  # the first finds everything cold
                pairs.append(pair)
        full.stop()
        bare.stop()
    size_mb = csv.stat().st_size / 1e6
    times = {name: [pair[name] for pair in pairs] for name in ("full", "bare")}
    cost = _median(times["full"]) / _median(times["bare"]) - 1
    ratios = [pair["full"] / pair["bare"] - 1 for pair in pairs]
    least, _middle, most = statistics.quantiles(ratios, n=4)
    spread = (
        f"{100 * cost:+.1f} %, the middle half of the pairs {100 * least:+.0f} to "
        f"{100 * most:+.0f} %"
    )
    text = "\n".join(
        [
            f"## What journal and archive cost `POST /ingest` of {size_mb:.0f} MB of CSV",
            "",
            (
                f"Seconds to `201`, new table, local folder; median of {len(pairs)} runs "
                "[least, most], in pairs, which of the two comes first by turns."
            ),
            "",
            "| what | seconds |",
            "|---|---|",
            f"| journalled and archived | {_spread(times['full'])} |",
            f"| neither archived nor journalled durably | {_spread(times['bare'])} |",
            "",
            f"The first against the second: {spread}.",
            "",
        ]
    )
    row = Row(
        what=f"`POST /ingest` of {size_mb:.0f} MB of CSV, journalled and archived",
        headrace=f"{_median(times['full']):.2f} s",
        against=f"without both {_median(times['bare']):.2f} s: {spread}",
        goal=f"{100 * COST_GOAL:.0f} % more at most",
        reached=cost <= COST_GOAL,
    )
    return Result(text=text, rows=(row,))


def _post(primary: Primary, csv: Path, database: str) -> float:
    os.sync()
    with csv.open("rb") as file:
        headers = {
            "Authorization": f"Bearer {TOKEN}",
            "Prefer": "wait=600",
            "Content-Length": str(csv.stat().st_size),
        }
        started = time.perf_counter()
        response = httpx.post(
            f"{primary.url}/ingest",
            params={"filename": "rows.csv", "database": database, "table": "rows"},
            content=iter(lambda: file.read(1 << 20), b""),
            headers=headers,
            timeout=600,
        )
        seconds = time.perf_counter() - started
    if response.status_code != 201:
        raise SystemExit(f"upload failed: {response.text}")
    # Else Litestream would compact them while others are measured.
    url = f"{primary.url}/ingest/databases/{database}"
    gone = httpx.delete(url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)
    gone.raise_for_status()
    print(response.json()["timings_s"], f"{seconds:.2f} s", file=sys.stderr)
    return seconds


def _spread(values: list[float]) -> str:
    return f"{_median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def _median(values: list[float]) -> float:
    return statistics.median(values)
