"""What a reader holds in memory, beside ``datasette serve``; and what a whole system does."""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import TYPE_CHECKING

import aiohttp

from benchmarks.switch import free_port, make_databases, start_datasette, wait_port
from benchmarks.table import Result, Row
from benchmarks.upload import _post, _up, descendants
from serve.worker_process import read_memory_bytes
from tests.integration.reader_kit import Publisher, Spawned, primary_of, spawned_reader

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

WORKERS = 2
DATABASES = 10
GOAL = 1.2
READERS = 3
SYSTEM_MB = 500
SETTLE_S = 3.0  # until what was at work rests


def run(folder: Path) -> Result:
    """Measure, and give the table as Markdown."""
    held = asyncio.run(_measure_reader(folder))
    peer = _measure_peer(make_databases(folder / "peer", DATABASES))
    lines = [
        "## Memory",
        "",
        f"Proportional set size, {DATABASES} databases, after some pages.",
        "",
        "| what | MB | times |",
        "|---|---|---|",
        f"| two `datasette serve` | {peer / 1e6:.0f} | 1 |",
    ]
    for when, sizes in held.items():
        edge, nursery, *workers = sizes
        parts = f"edge and supervisor {edge / 1e6:.0f}, preloaded process {nursery / 1e6:.0f}"
        what = (
            f"a reader with {WORKERS} workers, {when} ({parts}, workers {sum(workers) / 1e6:.0f})"
        )
        lines.append(f"| {what} | {sum(sizes) / 1e6:.0f} | {sum(sizes) / peer:.2f} |")
    rest, busy = sum(held["at rest"]), sum(held["while generations come"])
    row = Row(
        what=f"memory of a reader with {WORKERS} workers and {DATABASES} databases, at rest",
        headrace=f"{rest / 1e6:.0f} MB; for a minute after each generation "
        f"{busy / 1e6:.0f} MB ({busy / peer:.2f} times)",
        against=f"two `datasette serve` {peer / 1e6:.0f} MB: {rest / peer:.2f} times",
        goal="at most 1.2 times, at rest",
        reached=rest / peer <= GOAL,
    )
    system = _measure_system(folder / "data")
    lines += ["", f"`headrace up --readers {READERS}`, all processes: {system / 1e6:.0f} MB."]
    whole = Row(
        what=f"memory of `headrace up` with {READERS} readers, at rest",
        headrace=f"{system / 1e6:.0f} MB",
        against=f"limit {SYSTEM_MB} MB",
        goal="under the limit",
        reached=system < SYSTEM_MB * 1e6,
    )
    return Result(text="\n".join([*lines, ""]), rows=(row, whole))


def _measure_system(data: Path) -> int:
    """Run all of it on this machine, after one upload that everybody reads."""
    with _up(data, readers=READERS) as (token, processes):
        _post(b"n\n1\n", "database=d&table=rows&wait_for=regions", token)
        time.sleep(SETTLE_S)
        (ingest, *_) = processes()
        (up,) = (pid for pid in descendants(os.getpid()) if ingest in descendants(pid))
        held = [read_memory_bytes(pid) for pid in (up, *descendants(up))]
    return sum(each or 0 for each in held)


async def _measure_reader(folder: Path) -> dict[str, list[int]]:
    """Run ``headrace serve``; give what it, its nursery and its workers hold, in this order."""
    publisher = Publisher(folder)
    names = [f"d{number}" for number in range(DATABASES)]
    await publisher.publish({name: publisher.write(name, *_rows()) for name in names})
    async with (
        primary_of(publisher) as primary,
        spawned_reader(folder, primary=primary, workers=WORKERS) as reader,
        aiohttp.ClientSession(reader.url) as session,
    ):
        await _wait_generation(session, 1)
        await _read_pages(session)
        await asyncio.sleep(SETTLE_S)
        held = {"at rest": _measure(reader)}
        cut = publisher.write("d1", "UPDATE rows SET txid = 2")
        await publisher.publish({"d1": cut})
        await _wait_generation(session, 2)
        await asyncio.sleep(SETTLE_S)
        return {**held, "while generations come": _measure(reader)}


def _rows() -> Iterable[str]:
    values = ", ".join(f"({number}, 'item {number}', 1)" for number in range(100))
    yield "CREATE TABLE rows (id INTEGER PRIMARY KEY, item TEXT, txid INTEGER)"
    yield f"INSERT INTO rows VALUES {values}"  # noqa: S608 - numbers


def _measure(reader: Spawned) -> list[int]:
    held = [read_memory_bytes(pid) for pid in reader.tree()]
    if None in held:  # headrace/privacy.py
        raise PermissionError("only root is shown the memory of a reader")
    return [each or 0 for each in held]


async def _wait_generation(session: aiohttp.ClientSession, number: int) -> None:
    async with asyncio.timeout(60):
        while True:
            async with session.get("/-/headrace.json") as response:
                if (await response.json())["generation"] == number:
                    return
            await asyncio.sleep(0.05)


async def _read_pages(session: aiohttp.ClientSession) -> None:
    for path in ("/", "/d1", "/d1/rows") * 2 * WORKERS:
        async with session.get(f"{path}?_nothing={random.random()}") as response:  # noqa: S311
            await response.read()


def _measure_peer(databases: Path) -> int:
    ports = [free_port() for _ in range(WORKERS)]
    processes = [start_datasette(databases, port) for port in ports]
    for port in ports:
        for path in ("/", "/d1-1", "/d1-1/rows"):
            wait_port(port, path)
    time.sleep(SETTLE_S)
    held = sum(read_memory_bytes(process.pid) or 0 for process in processes)
    for process in processes:
        process.terminate()
        process.wait()
    return held
