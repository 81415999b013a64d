"""What the reader's tests stand on: a publisher with the real litestream, and a running reader."""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import subprocess
import sys
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from headrace.config import ServeSettings
from headrace.generation import Cut, Entry, Source, State, format_txid
from headrace.keys import generation_key, lineage_key
from headrace.litestream_binary import find_litestream, litestream_environment
from headrace.log import GenerationLog
from headrace.names import INTERNAL_TABLES, quote_identifier
from headrace.settings import as_flags, names_of
from headrace.store import Store
from headrace.web import listening
from serve.service import running
from tests.samples import find_sample

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from serve.service import Reader

ORDERS = ("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)",)
HEARTBEAT_S = 5.0
NO_PRIMARY = "http://127.0.0.1:9"  # discard: nobody listens


async def eventually(look: Callable[[], Any], *, timeout_s: float = 30.0) -> Any:
    """Look until there is something to see; the deadline is for broken programs, not slow ones."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        found = look()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        if asyncio.get_running_loop().time() > deadline:
            pytest.fail(f"nothing after {timeout_s} s: {look}")
        await asyncio.sleep(0.01)


class Publisher:
    """The write side as a reader sees it: Litestream's replicas and the generation log.

    Args:
        root: Where everything lies.
        store: The object store, as a setting; a folder in ``root`` if it is not said.
    """

    def __init__(self, root: Path, store: str | None = None) -> None:
        self.root = root
        self.store = Store(store or str(root / "store"))
        self.log = GenerationLog(self.store)
        self.state = State()
        self._lineages: dict[str, str] = {}
        self._published = asyncio.Condition()

    def write(self, database: str, *statements: str, page_size: int = 4096) -> Cut:
        """Change a database and replicate it; give its cut, which is not published yet."""
        lineage = self._lineages.setdefault(database, secrets.token_hex(8))
        path = self.root / "primary" / database / lineage
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path)) as db:
            db.execute(f"PRAGMA page_size = {page_size}")
            db.execute("PRAGMA journal_mode = wal")
            for statement in statements:
                db.execute(statement)
            db.commit()
        url = self.store.litestream_url(lineage_key(database, lineage))
        subprocess.run(
            [find_litestream(), "replicate", "-once", "-log-level", "error", path, url],
            env=litestream_environment(),
            check=True,
            capture_output=True,
        )
        return self._cut(database, lineage, path)

    def begin_lineage(self, database: str) -> None:
        """Let the next write of a database begin anew."""
        del self._lineages[database]

    async def publish(self, databases: dict[str, Cut], *, removed: Iterable[str] = ()) -> State:
        """Publish the next generation."""
        entry = Entry(
            number=self.state.number + 1,
            epoch=1,
            created_at=datetime.now(UTC),
            cause={"kind": "ingest", "receipt": "test"},
            databases=databases,
            removed=tuple(removed),
        )
        async with self._published:
            self.state = await self.log.publish(self.state, entry)
            self._published.notify_all()
        return self.state

    async def push(self, request: web.Request) -> web.StreamResponse:
        """Answer as the primary does: each entry a line, for as long as the reader listens."""
        number = int(request.query["after"])
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        while True:
            while number < self.state.number:
                number += 1
                body = await self.store.read(generation_key(number))
                await response.write(body + b"\n")
            await response.write(b"\n")  # as all of them were sent
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S), self._published:
                    while number >= self.state.number:
                        await self._published.wait()

    def remove_replica(self, database: str, cut: Cut) -> Path:
        """Hide a lineage from readers; give where it went."""
        assert self.store.folder
        folder = self.store.folder / lineage_key(database, cut.lineage)
        return folder.rename(self.root / f"hidden-{cut.lineage}")

    def _cut(self, database: str, lineage: str, path: Path) -> Cut:
        replicated = path.with_name(f".{lineage}-litestream") / "ltx" / "0"
        with closing(sqlite3.connect(path)) as db:
            names = [
                name
                for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
                if name not in INTERNAL_TABLES
            ]
            return Cut(
                lineage=lineage,
                txid=max(int(file.stem.partition("-")[2], 16) for file in replicated.iterdir()),
                page_size=db.execute("PRAGMA page_size").fetchone()[0],
                pages=db.execute("PRAGMA page_count").fetchone()[0],
                tables={
                    name: db.execute(f"SELECT count(*) FROM {quote_identifier(name)}").fetchone()[0]
                    for name in names
                },
                updated_at=datetime(2026, 11, 22, 1, 33, 39, tzinfo=UTC),
                source=Source(filename=f"{database}.csv", sha256="ab12" * 16),
            )


def with_broken_txid(cut: Cut) -> Cut:
    """Give a cut at a TXID that is not replicated."""
    return replace(cut, txid=cut.txid + 100)


def slot_name(cut: Cut) -> str:
    """Name of the slot's file."""
    return f"{format_txid(cut.txid)}.db"


def settings_for(root: Path, **values: Any) -> ServeSettings:
    """Give a reader's settings with ports that the kernel picks."""
    defaults: dict[str, Any] = {
        "data": root / "reader",
        "store": str(root / "store"),
        "port": 0,
        "metrics_port": 0,
        "primary": NO_PRIMARY,
        "workers": 1,
        "shutdown_grace": 0.0,
    }
    return ServeSettings(**{**defaults, **values})


class Visitor:
    """What a person does with a reader."""

    def __init__(self, url: str, metrics_url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.metrics_url = metrics_url
        self.session = session

    async def get(self, path: str, **options: Any) -> tuple[int, str]:
        """GET a path; give status and body."""
        async with self.session.get(self.url + path, **options) as response:
            return response.status, await response.text()

    async def json(self, path: str) -> Any:
        """GET a JSON document that must be there."""
        async with self.session.get(self.url + path) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def rows(self, path: str) -> list[dict[str, Any]]:
        """Read a table."""
        rows: list[dict[str, Any]] = await self.json(f"{path}.json?_shape=array")
        return rows

    async def wait_generation(self, number: int) -> dict[str, Any]:
        """Wait until a generation is in service; give the reader's report."""

        async def look() -> Any:
            report = await self.json("/-/headrace.json")
            return report["generation"] == number and report

        report: dict[str, Any] = await eventually(look)
        return report

    async def wait_error(self, reason: str = "") -> dict[str, Any]:
        """Wait until the reader says why its newest generation is not in service; give that."""

        async def look() -> Any:
            error = (await self.json("/-/headrace.json"))["last_error"]
            return error and reason in error["message"] and error

        error: dict[str, Any] = await eventually(look)
        return error

    async def wait_not_following(self, reason: str) -> dict[str, Any]:
        """Wait until the reader says why it cannot read the log; give its report."""

        async def look() -> Any:
            report = await self.json("/-/headrace.json")
            return reason in report["following_errors"].get("log", "") and report

        report: dict[str, Any] = await eventually(look)
        return report

    async def metric(self, sample: str) -> float:
        """Read a metric by its name and labels, as Prometheus writes them; 0 if it is not there."""
        async with self.session.get(self.metrics_url) as response:
            return find_sample(await response.text(), sample) or 0.0


class Client(Visitor):
    """The same, with a look inside: the reader runs in this process."""

    def __init__(self, reader: Reader, session: aiohttp.ClientSession) -> None:
        super().__init__(reader.url, reader.metrics_url, session)
        self.reader = reader


class Loop:
    """Reads again and again, and counts.

    Args:
        client: Reads.
        path: What is read; ``{n}`` in it is the number of the read, so that none is from memory.
        pause_s: Time between two reads.
    """

    def __init__(self, client: Visitor, path: str, pause_s: float = 0.0) -> None:
        self.reads = 0
        self.failures: list[str] = []
        self._client = client
        self._path = path
        self._pause_s = pause_s
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            try:
                status, body = await self._client.get(self._path.format(n=self.reads))
                if status != 200:
                    self.failures.append(f"{status} {body}")
            except aiohttp.ClientError as exc:
                self.failures.append(repr(exc))
            self.reads += 1
            await asyncio.sleep(self._pause_s)

    async def stop(self) -> None:
        """End it."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@asynccontextmanager
async def primary_of(
    publisher: Publisher,
    ingest: Callable[[web.Request], Any] | None = None,
    *,
    readers: Callable[[web.Request], Any] | None = None,
    port: int = 0,
) -> AsyncIterator[str]:
    """Run a stand-in for the primary while the block runs; give its URL."""
    app = web.Application(client_max_size=0)
    app.router.add_get("/-/generations", publisher.push)
    if readers is not None:
        app.router.add_route("*", "/-/readers", readers)
    if ingest is not None:
        app.router.add_route("*", "/{rest:ingest.*}", ingest)
    async with listening(app, "127.0.0.1", port, shutdown_timeout=0.1) as listener:
        yield f"http://127.0.0.1:{listener.port}"


@asynccontextmanager
async def reading(settings: ServeSettings) -> AsyncIterator[Client]:
    """Run a reader while the block runs."""
    async with running(settings) as reader, aiohttp.ClientSession() as session:
        yield Client(reader, session)


class Spawned:
    """A reader in a process of its own.

    Attributes:
        log: What it has logged, in the end.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        url: str,
        metrics_url: str,
        log: asyncio.Task[bytes],
    ) -> None:
        self.process = process
        self.url = url
        self.metrics_url = metrics_url
        self.log = log

    def peak_kb(self) -> int:
        """Give the most memory that it ever held. Source: proc(5), VmHWM."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])

    def tree(self) -> list[int]:
        """List it and all processes below it."""
        found = [self.process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        return found


@asynccontextmanager
async def spawned_reader(
    root: Path, *, prefix: Iterable[str] = (), prelude: str = "", **values: Any
) -> AsyncIterator[Spawned]:
    """Run `headrace serve` while the block runs.

    Args:
        root: Where everything lies.
        prefix: A command that becomes the reader.
        prelude: Python that runs before.
        values: Settings.
    """
    settings = settings_for(root, **values)
    names = names_of(ServeSettings)
    names.remove("token")
    process = await asyncio.create_subprocess_exec(
        *prefix,
        *(sys.executable, "-c", f"{prelude}\nfrom headrace.__main__ import run; run()", "serve"),
        *as_flags(settings, names),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr
    try:
        async for line in process.stderr:
            event = json.loads(line)
            if event["event"] == "reader listening":
                break
        else:
            pytest.fail("the reader ended")
        draining = asyncio.create_task(process.stderr.read())
        yield Spawned(process, event["url"], event["metrics_url"], draining)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await draining
