"""How soon a reader answers that was suspended, as a machine is that nobody reads from.

Its process is stopped, and its clocks show an hour more when it goes on. Meanwhile there was a
generation, and its connections are dead without a word.
"""

from __future__ import annotations

import asyncio
import statistics
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.table import Result, Row
from tests.faults.test_suspended_reader import connected, forgetful_primary, sleeper
from tests.integration.reader_kit import ORDERS, Publisher

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.test_suspended_reader import Sleeper

ROUNDS = 20
GOAL_S = 1.0
HOT, RENDERED, HEALTH = "a hot page", "a page that is rendered", "`/-/healthz`"


def run(folder: Path) -> Result:
    """Measure, and give the table as Markdown."""
    times = asyncio.run(_measure(folder))
    lines = [
        "## A reader that was suspended: from its waking to its answer",
        "",
        f"{ROUNDS} times for an hour. Median [least, most].",
        "",
        "| what | seconds |",
        "|---|---|",
    ]
    for what, took in times.items():
        spread = f"{statistics.median(took):.3f} [{min(took):.3f}, {max(took):.3f}]"
        lines.append(f"| {what} | {spread} |")
    slowest = max(max(took) for took in times.values())
    row = Row(
        what="a reader that was suspended, from its waking to its answer",
        headrace=f"{slowest:.3f} s, the slowest of {ROUNDS * len(times)}",
        against="the limit",
        goal=f"under {GOAL_S:g} s",
        reached=slowest < GOAL_S,
    )
    return Result(text="\n".join(lines) + "\n", rows=(row,))


async def _measure(folder: Path) -> dict[str, list[float]]:
    """Give the seconds of each round, for each thing that is asked for."""
    publisher = Publisher(folder)
    await publisher.publish({"sales": publisher.write("sales", *ORDERS)})
    times: dict[str, list[float]] = {HOT: [], RENDERED: [], HEALTH: []}
    async with forgetful_primary(publisher) as url, sleeper(folder, url) as reader:
        await reader.wait_generation(1)
        for number in range(ROUNDS):
            await reader.wait_generation(number + 1)
            while not await connected(reader):  # noqa: ASYNC110 - another process tells no event
                await asyncio.sleep(0.05)
            await reader.read("/sales/orders")
            row = "INSERT INTO orders (item) VALUES ('pen')"
            async with reader.suspended():
                await publisher.publish({"sales": publisher.write("sales", row)})
                asking = {
                    HOT: asyncio.create_task(_ask(reader, "/sales/orders")),
                    RENDERED: asyncio.create_task(_ask(reader, f"/sales/orders?_size={number}")),
                    HEALTH: asyncio.create_task(_ask(reader, "/-/healthz")),
                }
                await asyncio.sleep(0.05)  # until they have been sent
                woken_s = perf_counter()
            for what, task in asking.items():
                times[what].append(await task - woken_s)
    return times


async def _ask(reader: Sleeper, path: str) -> float:
    """Read a page; say when that was done."""
    status, *_ = await reader.read(path)
    if status != 200:
        raise ValueError(f"GET {path} answers {status}")
    return perf_counter()
