"""Slots: a full restore, rolling forward, and what a small change fetches; beside litestream."""

from __future__ import annotations

import asyncio
import filecmp
import os
import random
import shutil
import statistics
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.table import Result, Row
from headrace.generation import Cut, State, format_txid
from headrace.keys import ReaderPaths, lineage_key, ltx_key
from headrace.litestream_binary import find_litestream, litestream_environment
from headrace.ltx import decode_header, decode_pages
from headrace.sums import Sums, sum_file
from serve.metrics import ReaderMetrics
from serve.restore import Restorer
from serve.spare_slots import COPY_AFTER_S
from tests.integration.slots_kit import LivePublisher, replicating

if TYPE_CHECKING:
    import sqlite3

DATABASE_BYTES = 1_000_000_000
CHANGE_BYTES = 100_000_000
ROUNDS = 3
RESTORE_GOAL, ROLL_GOAL, FETCH_GOAL_KB = 3.0, 3.0, 100.0


def run(folder: Path) -> Result:
    """Measure, and give the table as Markdown."""
    return asyncio.run(_run(folder))


async def _run(folder: Path) -> Result:
    async with replicating(folder) as publisher:
        return await _measure(publisher, folder)


async def _measure(publisher: LivePublisher, folder: Path) -> Result:
    first = await publisher.adopt("big", lambda db: _fill(db, DATABASE_BYTES))
    database_mb = first.pages * first.page_size / 1e6
    ours, theirs = [], []
    for number in range(ROUNDS):
        theirs.append(await asyncio.to_thread(_litestream, publisher, first, folder / "peer.db"))
        if number == 0:
            primary = _Primary(publisher, first, sum_file(folder / "peer.db", first.page_size))
            first = replace(first, checksum=primary.checksum.value)
        reader = _Reader(folder / "reader", publisher)
        ours.append(await reader.restore(first))
        if not filecmp.cmp(reader.slot, folder / "peer.db", shallow=False):
            raise SystemExit("the two restored different bytes")
    lines = [
        f"## Slots: a database of {database_mb:,.0f} MB",
        "",
        f"Median of {ROUNDS} runs [least, most], page cache warm, every file fsynced.",
        "",
        "| what | seconds | beside it |",
        "|---|---|---|",
        _row("full restore, proven and fsynced", ours, "`litestream restore`", theirs),
    ]
    ratio = _median(theirs) / _median(ours)
    row = Row(
        what=f"full restore of {database_mb:,.0f} MB, proven and fsynced",
        headrace=f"{_median(ours):.2f} s",
        against=f"`litestream restore` {_median(theirs):.2f} s: {ratio:.1f} times",
        goal="3 times as fast",
        reached=ratio >= RESTORE_GOAL,
    )
    changes = await _measure_changes(primary, reader, folder)
    text = "\n".join([*lines, *changes.text.splitlines(), ""])
    return Result(text=text, rows=(row, *changes.rows))


async def _measure_changes(primary: _Primary, reader: _Reader, folder: Path) -> Result:
    """Roll an idle slot forward by a large change, and by one row."""
    rolls, limits = [], []
    for _ in range(ROUNDS):
        await reader.prepare()
        cut = await primary.write(f"DELETE FROM t WHERE id > {_first_id()}")  # noqa: S608
        await reader.restore(cut)
        await reader.prepare()
        cut = await primary.write(_insert_rows(CHANGE_BYTES))
        rolls.append(await reader.restore(cut))
        limits.append(await asyncio.to_thread(_write, folder / "limit", CHANGE_BYTES))
    appends, fetched = [], []
    for _ in range(5 * ROUNDS):
        await reader.prepare()
        cut = await primary.write("INSERT INTO t (body) VALUES ('one row')")
        before = reader.fetched_bytes
        appends.append(await reader.restore(cut))
        fetched.append(reader.fetched_bytes - before)
    oracle = folder / "peer.db"
    await asyncio.to_thread(_litestream, primary.publisher, cut, oracle)
    if not filecmp.cmp(reader.slot, oracle, shallow=False):
        raise SystemExit("rolled slot and litestream's differ")
    change = f"{CHANGE_BYTES / 1e6:.0f} MB"
    kilobytes = [each / 1000 for each in fetched]
    lines = [
        _row(f"roll forward by {change} of rows", rolls, f"write and fsync {change}", limits),
        f"| roll forward by one row | {_spread(appends)} | fetched: {_spread(kilobytes)} KB |",
    ]
    ratio = _median(rolls) / _median(limits)
    rolled = Row(
        what=f"a slot rolled forward by {change}",
        headrace=f"{_median(rolls):.3f} s",
        against=f"writing {change} {_median(limits):.3f} s: {ratio:.2f} times",
        goal="under 3 times",
        reached=ratio < ROLL_GOAL,
    )
    small = Row(
        what="fetched by a reader for one row more",
        headrace=f"{max(kilobytes):.1f} KB",
        against=f"the database, {cut.pages * cut.page_size / 1e6:,.0f} MB",
        goal="under 100 KB",
        reached=max(kilobytes) < FETCH_GOAL_KB,
    )
    return Result(text="\n".join(lines), rows=(rolled, small))


class _Primary:
    """Writes, and follows the checksum by Litestream's own files, as the primary does."""

    def __init__(self, publisher: LivePublisher, cut: Cut, checksum: Sums) -> None:
        self.publisher = publisher
        self.checksum = checksum
        self._txid = cut.txid

    async def write(self, sql: str) -> Cut:
        """Change the database, and give its cut."""
        cut = await self.publisher.write("big", sql)
        for txid in range(self._txid + 1, cut.txid + 1):
            body = await self.publisher.store.read(
                ltx_key("big", cut.lineage, 0, txid, txid, s3=False)
            )
            self.checksum.follow(decode_header(body), decode_pages(body))
        self._txid = cut.txid
        return replace(cut, checksum=self.checksum.value)


class _Reader:
    """A reader's slots, without workers."""

    def __init__(self, root: Path, publisher: LivePublisher) -> None:
        shutil.rmtree(root, ignore_errors=True)
        self._metrics = ReaderMetrics("bench")
        self._restorer = Restorer(ReaderPaths(root), publisher.store, self._metrics)
        self.slot = root

    async def restore(self, cut: Cut) -> float:
        """Restore a cut and serve it; give the seconds of the restore."""
        state = State(number=1, databases={"big": cut})
        started = time.perf_counter()
        slots = await self._restorer.restore(state, superseded=asyncio.Event())
        seconds = time.perf_counter() - started
        self.slot = slots["big"]
        await self._restorer.prune(slots.values())
        return seconds

    async def prepare(self) -> None:
        """Have an idle slot, as the background does some seconds after a switch."""
        if await self._restorer.prepare_spares():  # it takes a copy, which is put off
            await asyncio.sleep(COPY_AFTER_S)
            await self._restorer.prepare_spares()

    @property
    def fetched_bytes(self) -> float:
        """Bytes of LTX files fetched so far."""
        name = "headrace_reader_fetched_bytes_total"
        return self._metrics.registry.get_sample_value(name) or 0.0


def _fill(db: sqlite3.Connection, size_bytes: int) -> None:
    db.execute("PRAGMA page_size = 4096")
    db.execute("PRAGMA journal_mode = off")
    db.execute("PRAGMA synchronous = off")
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)")
    words = [random.Random(n).randbytes(5).hex() for n in range(2000)]  # noqa: S311
    rng = random.Random(1)  # noqa: S311
    lines = [" ".join(rng.choices(words, k=45)) for _ in range(2000)]
    rows = size_bytes // 512
    db.executemany("INSERT INTO t (body) VALUES (?)", ((lines[n % 2000],) for n in range(rows)))
    db.commit()


def _first_id() -> int:
    return DATABASE_BYTES // 512


def _insert_rows(size_bytes: int) -> str:
    """Give a statement that adds rows which compress about as text does."""
    return (
        "INSERT INTO t (body) SELECT hex(randomblob(120)) || body FROM t "  # noqa: S608
        f"WHERE id <= {size_bytes // 780}"
    )


def _litestream(publisher: LivePublisher, cut: Cut, output: Path) -> float:
    output.unlink(missing_ok=True)
    url = publisher.store.litestream_url(lineage_key("big", cut.lineage))
    command = [
        str(find_litestream()),
        "restore",
        "-txid",
        format_txid(cut.txid),
        "-o",
        str(output),
        url,
    ]
    started = time.perf_counter()
    subprocess.run(command, env=litestream_environment(), check=True, capture_output=True)
    return time.perf_counter() - started


def _write(path: Path, size_bytes: int) -> float:
    """Write and fsync a file of random bytes over an older one, 1 MB at a time."""
    block = os.urandom(1_000_000)
    started = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for _ in range(size_bytes // len(block)):
            file.write(block)
        os.fsync(file.fileno())
    return time.perf_counter() - started


def _row(what: str, ours: list[float], beside: str, theirs: list[float]) -> str:
    ratio = _median(ours) / _median(theirs)
    return f"| {what} | {_spread(ours)} | {beside} {_spread(theirs)}; ratio {ratio:.2f} |"


def _spread(values: list[float]) -> str:
    return f"{_median(values):.3f} [{min(values):.3f}, {max(values):.3f}]"


def _median(values: list[float]) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        print(run(Path(name)).text)
