"""The fault: a reader's machine is suspended, and brought back while others went on.

I7 survives: it answers at once out of what it has, says how stale that is, and finds its way back
by itself, although its connections are dead without a word.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web

from headrace.web import listening
from tests.integration.reader_kit import (
    NO_PRIMARY,
    ORDERS,
    Publisher,
    Spawned,
    Visitor,
    eventually,
    spawned_reader,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOUR_S = 3600

# The clocks show a jump of as many seconds as a file says. Whatever else may find out that a
# connection is dead waits longer than any test.
_PRELUDE = """
import pathlib, serve.clock, serve.follow
serve.follow.SILENCE_S = serve.follow.POLL_WITH_PUSH_S = 3600.0
jump, read_clocks = pathlib.Path({jump!r}), serve.clock.read_clocks
def read():
    steady, boot, day = read_clocks()
    ahead = float(jump.read_text() or 0) if jump.exists() else 0.0
    return steady, boot + ahead, day + ahead
serve.clock.read_clocks = read
"""


class Sleeper(Visitor):
    """A reader in a process of its own, that can be suspended."""

    def __init__(self, spawned: Spawned, session: aiohttp.ClientSession, jump: Path) -> None:
        super().__init__(spawned.url, spawned.metrics_url, session)
        self._pid = spawned.process.pid
        self._jump = jump

    @asynccontextmanager
    async def suspended(self) -> AsyncIterator[None]:
        """Suspend it while the block runs, which takes an hour by its clocks."""
        os.kill(self._pid, signal.SIGSTOP)
        await eventually(lambda: "T" in state_of(self._pid))
        try:
            yield
            slept_s = int(self._jump.read_text()) if self._jump.exists() else 0
            self._jump.write_text(str(slept_s + HOUR_S))
        finally:
            os.kill(self._pid, signal.SIGCONT)

    async def read(self, path: str) -> tuple[int, str | None, str | None]:
        """GET a path; give the status, the generation and the staleness that it says."""
        async with self.session.get(self.url + path) as answer:
            await answer.read()
            headers = answer.headers
            return (
                answer.status,
                headers.get("Headrace-Generation"),
                headers.get("Headrace-Staleness"),
            )


def state_of(pid: int) -> str:
    """Give the state of a process. Source: proc(5), stat."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@asynccontextmanager
async def forgetful_primary(publisher: Publisher) -> AsyncIterator[str]:
    """Run a primary whose first stream falls silent for ever; give its URL."""
    streams = 0

    async def push(request: web.Request) -> web.StreamResponse:
        nonlocal streams
        streams += 1
        if streams > 1:
            return await publisher.push(request)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"\n")
        await asyncio.Event().wait()
        raise AssertionError

    app = web.Application()
    app.router.add_get("/-/generations", push)
    async with listening(app, "127.0.0.1", 0, shutdown_timeout=0.1) as listener:
        yield f"http://127.0.0.1:{listener.port}"


@asynccontextmanager
async def sleeper(
    root: Path, primary: str, *, prelude: str = "", **values: Any
) -> AsyncIterator[Sleeper]:
    """Run a reader that can be suspended while the block runs."""
    jump = root / "jump"
    prelude = _PRELUDE.format(jump=str(jump)) + prelude
    async with (
        spawned_reader(root, prelude=prelude, primary=primary, **values) as spawned,
        aiohttp.ClientSession() as session,
    ):
        yield Sleeper(spawned, session, jump)


async def connected(reader: Sleeper) -> bool:
    """Whether the primary pushes to a reader."""
    return bool((await reader.json("/-/headrace.json"))["push_connected"])


async def test_suspended_reader_answers_at_once_says_its_staleness_and_catches_up(
    tmp_path: Path,
) -> None:
    """What it had is shown with its age, and the next generation comes though nothing is heard."""
    publisher = Publisher(tmp_path)
    cut = publisher.write("sales", *ORDERS, "INSERT INTO orders VALUES (1, 'pen')")
    await publisher.publish({"sales": cut})
    async with forgetful_primary(publisher) as url, sleeper(tmp_path, url) as reader:
        await reader.wait_generation(1)
        await eventually(lambda: connected(reader))
        assert await reader.read("/sales/orders") == (200, "1", None)
        async with reader.suspended():
            cut = publisher.write("sales", "INSERT INTO orders VALUES (2, 'ink')")
            await publisher.publish({"sales": cut})
            paths = ("/sales/orders", "/sales/orders.json?_size=7", "/-/healthz")
            asking = [asyncio.create_task(reader.read(path)) for path in paths]
            await asyncio.sleep(0)
            woken_s = perf_counter()
        answers = await asyncio.gather(*asking)
        print(f"answered {(perf_counter() - woken_s) * 1000:.0f} ms after waking")  # noqa: T201

        for status, generation, staleness in answers:
            assert (status, generation) == (200, "1")
            assert int(staleness or 0) in range(HOUR_S, 2 * HOUR_S)
        await reader.wait_generation(2)
        await eventually(lambda: connected(reader))
        assert await reader.read("/sales/orders") == (200, "2", None)
        assert await reader.metric("headrace_reader_staleness_seconds") < HOUR_S


async def test_suspended_reader_with_a_limit_waits_until_it_is_fresh_or_says_503(
    tmp_path: Path,
) -> None:
    """With --max-staleness nobody is shown what may be older; without news that ends in time."""
    publisher = Publisher(tmp_path)
    await publisher.publish({"sales": publisher.write("sales", *ORDERS)})
    async with (
        forgetful_primary(publisher) as url,
        sleeper(tmp_path, url, max_staleness=60.0) as reader,
    ):
        await reader.wait_generation(1)
        await eventually(lambda: connected(reader))
        async with reader.suspended():
            await publisher.publish({"sales": publisher.write("sales", "DELETE FROM orders")})
            asking = asyncio.create_task(reader.read("/sales/orders"))
            await asyncio.sleep(0)

        assert await asking == (200, "2", None)
    assert publisher.store.folder
    generations = publisher.store.folder / "generations"
    away = generations.rename(tmp_path / "away")
    generations.write_text("in the way: the log cannot be read")

    started_s = perf_counter()
    impatient = "import serve.staleness; serve.staleness.WAIT_S = 0.2"
    async with sleeper(tmp_path, NO_PRIMARY, prelude=impatient, max_staleness=60.0) as reader:
        await reader.wait_generation(2)
        print(f"restarted and serving in {perf_counter() - started_s:.2f} s")  # noqa: T201
        async with reader.suspended():
            pass
        async with reader.session.get(f"{reader.url}/sales/orders") as answer:
            assert answer.status == 503
            assert (await answer.json())["code"] == "too-stale"
            assert answer.headers["Retry-After"]
            assert int(answer.headers["Headrace-Staleness"]) >= HOUR_S
        assert (await reader.read("/-/readyz"))[0] == 200
        shed = 'headrace_reader_shed_total{reason="too-stale"}'
        assert await reader.metric(shed) == 1

        generations.unlink()
        away.rename(generations)

        await eventually(lambda: is_answered(reader))


async def is_answered(reader: Sleeper) -> bool:
    """Whether a reader answers, and does not call itself stale."""
    return await reader.read("/sales/orders") == (200, "2", None)
