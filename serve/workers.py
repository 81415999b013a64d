"""The Datasette workers of one generation: started, probed, kept alive, drained, retired."""

from __future__ import annotations

import asyncio
import itertools
import signal
from contextlib import asynccontextmanager, suppress
from time import perf_counter
from typing import TYPE_CHECKING

import aiohttp
import structlog

from headrace.errors import WorkerError
from serve.depends import Configuration, Dependencies
from serve.groups import one_error
from serve.probe import probe
from serve.worker_spec import WorkerSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from headrace.generation import State
    from serve.metrics import ReaderMetrics
    from serve.nursery import Fork, Nursery

log = structlog.get_logger()

START_TIMEOUT_S = 20.0
DRAIN_S = 30.0  # for requests that are being answered when their generation is replaced
TERMINATE_S = 5.0  # from SIGTERM to SIGKILL
FIRST_BACKOFF_S = 0.2
MAX_BACKOFF_S = 10.0
STABLE_AFTER_S = 30.0  # a worker that ran so long is restarted at once

_socket_numbers = itertools.count(1)


class Worker:
    """One worker and the connections to it."""

    def __init__(self, fork: Fork, socket: Path) -> None:
        self.fork = fork
        self.in_flight = 0  # requests that it is answering
        self.avoid_until_s = 0.0  # it did not answer in time; on the clock of perf_counter
        self.session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path=str(socket), limit=0),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5.0),
            raise_for_status=False,
        )
        self._socket = socket

    async def stop(self) -> None:
        """End it: SIGTERM, then SIGKILL, until it is gone."""
        try:
            for signal_number in (signal.SIGTERM, signal.SIGKILL):
                self.fork.kill(signal_number)
                with suppress(TimeoutError):
                    async with asyncio.timeout(TERMINATE_S):
                        await self.fork.ended.wait()
                    break
        finally:  # also when the reader itself is stopped meanwhile
            await self.session.close()
            self._socket.unlink(missing_ok=True)


class WorkerSet:
    """All workers of one generation. Begun, it is in service until it is retired.

    Args:
        nursery: Forks the workers.
        state: The generation.
        slots: The file of each database.
        sockets: Folder for Unix sockets.
        count: Number of workers.
        secret: Datasette's.
        datasette_dir: The user's configuration directory.
        metrics: Counts restarts.
        configuration: Of the user's directory, as the workers find it.
    """

    def __init__(
        self,
        nursery: Nursery,
        *,
        state: State,
        slots: Mapping[str, Path],
        sockets: Path,
        count: int,
        secret: str,
        datasette_dir: Path | None,
        metrics: ReaderMetrics,
        configuration: Configuration | None = None,
    ) -> None:
        self.state = state
        self.dependencies = Dependencies(state, configuration or Configuration())
        self.slots = slots
        self.workers: list[Worker] = []
        self.in_flight = 0
        self._nursery = nursery
        self._sockets = sockets
        self._count = count
        self._secret = secret
        self._datasette_dir = datasette_dir
        self._metrics = metrics
        self._next = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._grown = asyncio.Event()
        self._keepers: list[asyncio.Task[None]] = []

    # start and probe

    async def start(self) -> None:
        """Start all workers and wait until they take requests.

        Raises:
            WorkerError: One did not; the others are to be stopped.
        """
        with one_error():
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._count):
                    tasks.create_task(self._add_worker())

    async def probe(self) -> None:
        """Ask for every table of the generation.

        Raises:
            WorkerError: One does not answer.
        """
        await probe(self.state, [worker.session for worker in self.workers])

    # service

    def begin_service(self) -> None:
        """Replace workers that crash from now on."""
        self._keepers = [asyncio.create_task(self._keep(worker)) for worker in self.workers]
        self._metrics.workers.set(len(self.workers))

    def acquire(self) -> None:
        """Keep the set until ``release``: a request is being answered."""
        self.in_flight += 1
        self._idle.clear()

    def release(self) -> None:
        """Let go of the set: a request is answered to its last byte."""
        self.in_flight -= 1
        if self.in_flight == 0:
            self._idle.set()

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Keep the set while the block runs."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    async def get_worker(self, timeout_s: float, *, other_than: Worker | None = None) -> Worker:
        """Give the least busy worker, in turn; while there is none, wait for a replacement.

        Raises:
            WorkerError: There was none in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not (choices := [each for each in self.workers if each is not other_than]):
                    self._grown.clear()
                    await self._grown.wait()
        except TimeoutError as exc:
            raise WorkerError("all workers have crashed") from exc
        self._next += 1
        first = self._next % len(choices)
        now_s = perf_counter()
        return min(
            choices[first:] + choices[:first],
            key=lambda worker: (worker.avoid_until_s > now_s, worker.in_flight),
        )

    async def retire(self, drain_s: float = DRAIN_S) -> None:
        """Wait until the requests that hold the set are answered, then stop it."""
        await self._end_service()
        try:
            async with asyncio.timeout(drain_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("drain cut short", generation=self.state.number, requests=self.in_flight)
        await self.stop()

    async def stop(self) -> None:
        """Stop all workers now."""
        await self._end_service()
        workers, self.workers = self.workers, []
        await asyncio.gather(*(worker.stop() for worker in workers))

    async def _end_service(self) -> None:
        keepers, self._keepers = self._keepers, []
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)

    async def _add_worker(self) -> Worker:
        socket = self._sockets / f"{self.state.number}-{next(_socket_numbers)}.sock"
        spec = WorkerSpec(
            state=self.state,
            slots=self.slots,
            socket=socket,
            secret=self._secret,
            datasette_dir=self._datasette_dir,
        )
        worker = Worker(await self._nursery.fork(spec), socket)
        try:
            await worker.fork.wait_ready(START_TIMEOUT_S)
        except BaseException:
            await worker.stop()
            raise
        self.workers.append(worker)
        self._grown.set()
        return worker

    async def _keep(self, worker: Worker) -> None:
        """Replace one worker each time that it ends; a crash is never given up on."""
        loop = asyncio.get_running_loop()
        backoff_s = FIRST_BACKOFF_S
        while True:
            started_at_s = loop.time()
            await worker.fork.ended.wait()
            self.workers.remove(worker)
            self._metrics.workers.set(len(self.workers))
            log.warning("worker crashed", generation=self.state.number, status=worker.fork.status)
            await worker.stop()
            if loop.time() - started_at_s > STABLE_AFTER_S:
                backoff_s = FIRST_BACKOFF_S
            while True:
                try:
                    worker = await self._add_worker()
                    break
                except WorkerError as exc:
                    log.warning("worker not replaced", reason=str(exc), retry_in_s=backoff_s)
                    await asyncio.sleep(backoff_s)
                    backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
            self._metrics.worker_restarts.inc()
            self._metrics.workers.set(len(self.workers))
