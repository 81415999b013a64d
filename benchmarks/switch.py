"""From old workers to new ones: time, and requests meanwhile, beside ``datasette serve``.

The reader's own supervisor, workers and edge run; restoring is left out, because slots are files
that are there already, and following is a function call.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import aiohttp

from benchmarks.table import Result, Row
from headrace.config import ServeSettings, load_settings
from headrace.generation import Cut, State
from headrace.place import Place
from headrace.sockets import socket_folder
from headrace.web import listening_server
from serve.callers import Callers
from serve.clock import Clock
from serve.configuration import ConfigurationWatch
from serve.describe import Descriptions
from serve.edge import Edge
from serve.freshness import Freshness
from serve.heard import Heard
from serve.hook import GenerationHook
from serve.metrics import ReaderMetrics
from serve.nursery import Nursery
from serve.service import make_pages
from serve.serving_file import ServingFile
from serve.staleness import Staleness
from serve.status import Status
from serve.switch import Supervisor
from serve.workers import WorkerOptions, WorkerSet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from pathlib import Path

    # Seconds of switches while generations come, and of the first after a minute without one.
    Measured = tuple[list[float], list[float]]

WORKERS = 2
ROWS = 100
ROUNDS = 20
LOADED_SWITCHES = 100
CONNECTIONS = 16
QUIET_S = 15.0
SWITCH_GOAL_S, MANY_GOAL, LOAD_GOAL = 0.15, 1.5, 1.5


def run(folder: Path) -> Result:
    """Measure, and give the tables as Markdown."""
    return asyncio.run(_run(folder))


async def _run(folder: Path) -> Result:
    cold = [_time_cold(make_databases(folder / "cold", 10)) for _ in range(5)]
    lines = [
        "## Old workers to new workers",
        "",
        f"{WORKERS} workers; one of the databases changes. Median of {ROUNDS} [least, most].",
        "",
        "| what | seconds |",
        "|---|---|",
        f"| `datasette serve` cold, 10 databases, to its first answer | {_spread(cold)} |",
    ]
    async with _reader(folder / "ten", 10) as reader:
        few = await _switch_both(reader)
        quiet = await _load(reader, switches=0)
        loaded = await _load(reader, switches=LOADED_SWITCHES)
    async with _reader(folder / "many", 1000) as reader:
        many = await _switch_both(reader)
    lines += [*_switch_lines("10", few), *_switch_lines("1,000", many)]
    text = "\n".join([*lines, "", *_load_lines(quiet, loaded), ""])
    rows = (*_switch_rows(_median(cold), few, many), _load_row(quiet, loaded))
    return Result(text=text, rows=rows)


# the reader


class _Slots:
    """Stands in for the restorer: every slot is there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: dict[tuple[str, int], Path] = {}

    def find_slots(self, state: State) -> dict[str, Path]:
        return {name: self._path(name, cut) for name, cut in state.databases.items()}

    async def restore(self, state: State, *, superseded: asyncio.Event) -> dict[str, Path]:
        del superseded
        return self.find_slots(state)

    async def prune(self, wanted: Iterable[Path]) -> None:
        del wanted

    def write(self, name: str, txid: int) -> Cut:
        cut = Cut(
            lineage="0" * 16,
            txid=txid,
            page_size=4096,
            pages=3,
            tables={"rows": ROWS},
            updated_at=datetime.now(UTC),
            source=None,
        )
        with closing(sqlite3.connect(self._path(name, cut))) as db:
            db.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, item TEXT, txid INTEGER)")
            values = [(number, f"item {number}", txid) for number in range(ROWS)]
            db.executemany("INSERT INTO rows VALUES (?, ?, ?)", values)
            db.commit()
        return cut

    def _path(self, name: str, cut: Cut) -> Path:
        key = (name, cut.txid)
        if key not in self._paths:
            self._paths[key] = self._folder / f"{name}-{cut.txid}.db"
        return self._paths[key]


class _Follower:
    """Stands in for the follower: generations are handed to it."""

    def __init__(self, state: State) -> None:
        self.newest = state
        self.push_connected = True
        self.why: dict[str, str] = {}
        self._moved = asyncio.Condition()

    async def wait_newer(self, number: int) -> State:
        async with self._moved:
            while self.newest.number <= number:
                await self._moved.wait()
            return self.newest

    async def publish(self, databases: Mapping[str, Cut]) -> None:
        self.newest = replace(
            self.newest,
            number=self.newest.number + 1,
            databases={**self.newest.databases, **databases},
        )
        async with self._moved:
            self._moved.notify_all()


class _Reader:
    def __init__(self, slots: _Slots, follower: _Follower, supervisor: Supervisor) -> None:
        self.slots, self.follower, self.supervisor = slots, follower, supervisor
        self.url = ""
        self.nursery: Nursery
        self._txid = 1

    async def switch(self) -> float:
        """Publish a new version of one database; give the time until it is in service."""
        self._txid += 1
        cut = self.slots.write("d1", self._txid)
        started = time.perf_counter()
        await self.follower.publish({"d1": cut})
        await self.wait(self.follower.newest.number)
        return time.perf_counter() - started

    async def wait(self, number: int) -> None:
        while self.supervisor.generation < number:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.001)

    async def discard_spares(self) -> None:
        """Stop the spares, as the reader does after a while."""
        await self.wait_spares()
        await self.supervisor._spares.discard()  # noqa: SLF001 - it would take a minute

    async def wait_spares(self) -> None:
        while self.supervisor.spares_ready < WORKERS:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)


@asynccontextmanager
async def _reader(folder: Path, count: int) -> AsyncIterator[_Reader]:
    folder.mkdir()  # noqa: ASYNC240 - before anything runs
    slots = _Slots(folder)
    cuts = {f"d{number}": slots.write(f"d{number}", 1) for number in range(count)}
    follower: Any = _Follower(State(number=1, databases=cuts))
    metrics = ReaderMetrics("bench")
    sockets = socket_folder(folder)
    options = WorkerOptions(sockets=sockets, count=WORKERS, secret="bench")  # noqa: S106
    descriptions = Descriptions()

    def make_set(nursery: Nursery, state: State, slots: Mapping[str, Path]) -> WorkerSet:
        return WorkerSet(
            nursery, options, state=state, slots=slots, descriptions=descriptions, metrics=metrics
        )

    restorer: Any = slots
    async with AsyncExitStack() as stack:
        supervisor = Supervisor(
            follower,
            restorer,
            make_nursery=lambda configuration: Nursery("bench", configuration),
            make_set=make_set,
            configuration=ConfigurationWatch(None, folder / "configurations"),
            serving_file=ServingFile(folder / "serving.json"),
            metrics=metrics,
            heard=Heard(metrics, Clock()),
            hook=GenerationHook(None, metrics, deadline_s=1.0),
        )
        stack.push_async_callback(supervisor.close)
        settings = load_settings(ServeSettings, {"primary": "http://127.0.0.1:9"})
        others: Any = None  # nobody uploads
        staleness = Staleness(supervisor, Freshness(Clock()))
        edge = Edge(
            supervisor,
            Status(Place(region="bench"), follower, supervisor, staleness),
            pages=make_pages(settings, metrics),
            status_pages=others,
            ingest=others,
            rows=others,
            callers=Callers(""),
            reads=metrics.watch_workers(supervisor, options),
            staleness=staleness,
            metrics=metrics,
        )
        supervisor.warm = edge.warm
        running = asyncio.create_task(supervisor.run())
        try:
            reader = _Reader(slots, follower, supervisor)
            await reader.wait(1)
            listener = await stack.enter_async_context(
                listening_server(edge.server(), "127.0.0.1", 0)
            )
            reader.url = f"http://127.0.0.1:{listener.port}"
            yield reader
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            shutil.rmtree(sockets, ignore_errors=True)


async def _switch_both(reader: _Reader) -> Measured:
    return await _switches(reader), await _switches(reader, rested=True)


def _switch_lines(count: str, measured: Measured) -> list[str]:
    what = f"Headrace, 1 of {count} databases changes"
    bursts, rested = measured
    return [
        f"| {what}, while generations come | {_spread(bursts)} |",
        f"| {what}, the first after a minute | {_spread(rested)} |",
    ]


def _switch_rows(cold: float, few: Measured, many: Measured) -> tuple[Row, Row]:
    (burst, rested), (many_burst, many_rested) = map(_medians, (few, many))
    return (
        Row(
            what="old workers to new workers, 10 databases",
            headrace=_both(burst, rested),
            against=f"`datasette serve` cold {cold:.2f} s",
            goal="under 0.15 s",
            reached=max(burst, rested) < SWITCH_GOAL_S,
        ),
        Row(
            what="1,000 databases, one changes",
            headrace=_both(many_burst, many_rested),
            against=f"10 databases, one changes: {burst:.3f} s",
            goal="the same within 50 %",
            reached=many_burst <= burst * MANY_GOAL and many_rested <= rested * MANY_GOAL,
        ),
    )


def _medians(measured: Measured) -> tuple[float, float]:
    bursts, rested = measured
    return _median(bursts), _median(rested)


def _both(burst: float, rested: float) -> str:
    return f"{burst:.3f} s; the first after a minute {rested:.3f} s"


async def _switches(reader: _Reader, *, rested: bool = False) -> list[float]:
    """Switch often; ``rested``: as after a minute without a switch, when there are no spares."""
    times: list[float] = []
    for _ in range(ROUNDS):
        if times and rested:
            await reader.discard_spares()
        elif times:
            await reader.wait_spares()
        await asyncio.sleep(0.3)  # longer than the least interval between switches
        times.append(await reader.switch())
    return times[1:]


# requests meanwhile


def _load_lines(quiet: dict[str, Any], loaded: dict[str, Any]) -> list[str]:
    return [
        f"## Requests during {LOADED_SWITCHES} switches",
        "",
        f"{CONNECTIONS} connections without a pause; half of the requests were never asked before.",
        "",
        "| | requests | failed | p50 | p99 |",
        "|---|---|---|---|---|",
        _load_line("no switch", quiet),
        _load_line(f"{LOADED_SWITCHES} switches", loaded),
    ]


def _load_line(name: str, result: dict[str, Any]) -> str:
    times = result["times"]
    return (
        f"| {name} | {len(times)} | {result['failed']} | {_median(times) * 1000:.0f} ms "
        f"| {_p99(result) * 1000:.0f} ms |"
    )


def _load_row(quiet: dict[str, Any], loaded: dict[str, Any]) -> Row:
    ratio = _p99(loaded) / _p99(quiet)
    return Row(
        what=f"requests during {LOADED_SWITCHES} switches, {CONNECTIONS} connections",
        headrace=f"{loaded['failed']} of {len(loaded['times']):,} failed, "
        f"p99 {_p99(loaded) * 1000:.0f} ms",
        against=f"no switch, p99 {_p99(quiet) * 1000:.0f} ms: {ratio:.2f} times",
        goal="0 failed, p99 at most 1.5 times",
        reached=not loaded["failed"] and ratio <= LOAD_GOAL,
    )


def _p99(result: dict[str, Any]) -> float:
    times: list[float] = sorted(result["times"])
    return times[int(len(times) * 0.99)]


async def _load(reader: _Reader, *, switches: int) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.switch", reader.url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    if switches:
        for _ in range(switches):
            await reader.switch()
    else:
        await asyncio.sleep(QUIET_S)
    output, _ = await process.communicate(b"")  # ends its standard input
    result: dict[str, Any] = json.loads(output)
    return result


async def _ask_until_told(url: str) -> None:
    """Be the client of the load, in a process of its own, until standard input ends."""
    times: list[float] = []
    failed = 0
    stop = asyncio.Event()

    async def ask(session: aiohttp.ClientSession) -> None:
        nonlocal failed
        while not stop.is_set():
            path = f"/d{random.randrange(10)}/rows"  # noqa: S311
            if random.random() < 0.5:  # noqa: S311
                path += f"?_nothing={random.random()}"  # noqa: S311
            started = time.perf_counter()
            try:
                async with session.get(url + path) as response:
                    await response.read()
                    failed += response.status != 200
            except aiohttp.ClientError:
                failed += 1
            times.append(time.perf_counter() - started)

    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as session:
        tasks = [asyncio.create_task(ask(session)) for _ in range(CONNECTIONS)]
        await asyncio.to_thread(sys.stdin.read)
        stop.set()
        await asyncio.gather(*tasks)
    json.dump({"times": times, "failed": failed}, sys.stdout)


# the peer


def make_databases(folder: Path, count: int) -> Path:
    """Make a folder of small databases, unless it is there; give it."""
    if not folder.exists():
        folder.mkdir()
        for number in range(count):
            _Slots(folder).write(f"d{number}", 1)
    return folder


def start_datasette(databases: Path, port: int) -> subprocess.Popen[bytes]:
    """Start ``datasette serve`` on a folder of databases."""
    files = [part for path in sorted(databases.iterdir()) for part in ("-i", str(path))]
    return subprocess.Popen(
        [sys.executable, "-m", "datasette", "serve", *files, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _time_cold(databases: Path) -> float:
    port = free_port()
    started = time.perf_counter()
    process = start_datasette(databases, port)
    wait_port(port, "/")
    took = time.perf_counter() - started
    process.terminate()
    process.wait()
    return took


def wait_port(port: int, path: str) -> None:
    """Read a page as soon as it is served."""
    request = f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode()
    deadline = time.perf_counter() + 60
    while time.perf_counter() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(request)
                if b"200" in connection.recv(100).partition(b"\r\n")[0]:
                    while connection.recv(65536):
                        pass
                    return
        except OSError:
            time.sleep(0.005)
    raise SystemExit(f"nothing answers on port {port}")


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _spread(values: list[float]) -> str:
    return f"{_median(values):.3f} [{min(values):.3f}, {max(values):.3f}]"


def _median(values: list[float]) -> float:
    return statistics.median(values)


if __name__ == "__main__":
    asyncio.run(_ask_until_told(sys.argv[1]))
