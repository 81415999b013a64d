"""The Datasette workers of one generation: started or dressed, probed, kept alive, drained."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING

import structlog

from headrace.backoff import Pauses
from headrace.errors import WorkerError
from serve.change import NOTHING, Change, Holding, changed_names, find_change
from serve.depends import Dependencies
from serve.groups import one_error
from serve.probe import probe
from serve.worker_process import Worker, read_memory_bytes
from serve.worker_spec import WorkerSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from headrace.generation import State
    from serve.describe import Descriptions
    from serve.metrics import ReaderMetrics
    from serve.nursery import Nursery

log = structlog.get_logger()

START_TIMEOUT_S = 20.0
DRESS_TIMEOUT_S = 10.0
REST_TIMEOUT_S = 10.0
DRAIN_S = 30.0  # for requests that are being answered when their generation is replaced
FIRST_BACKOFF_S = 0.2
MAX_BACKOFF_S = 10.0
STABLE_AFTER_S = 30.0  # a worker that ran so long is restarted at once
MEMORY_LOOK_S = 5.0  # between two looks at a worker's memory
MEMORY_PAUSE_S = 60.0  # a worker younger than this is not replaced for its memory

_socket_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What all workers of a reader have in common.

    Attributes:
        sockets: Folder for Unix sockets.
        count: Workers of a set.
        secret: Datasette's.
        memory_bytes: A worker that holds more is replaced.
        upload_page: Whether there is an upload page.
        read_in: Where this is, as pages say it; None: they do not.
    """

    sockets: Path
    count: int
    secret: str
    memory_bytes: int | None = None
    upload_page: bool = True
    read_in: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """A worker that ended without being asked to."""

    message: str
    at: datetime


class WorkerSet:
    """All workers of one generation. Begun, it is in service until it is retired.

    Args:
        nursery: Forks the workers.
        options: What all sets have in common.
        state: The generation.
        slots: The file of each database.
        descriptions: Describes slots.
        metrics: Counts restarts.

    Attributes:
        nursery: What its workers were forked from.
        state: The generation that it is dressed in.
        dependencies: What its pages depend on.
        slots: The files that it may hold open, unless it rests.
        dressings: How often it was dressed anew.
        last_crash: The last of its crashes in service.
    """

    def __init__(
        self,
        nursery: Nursery,
        options: WorkerOptions,
        *,
        state: State,
        slots: Mapping[str, Path],
        descriptions: Descriptions,
        metrics: ReaderMetrics,
    ) -> None:
        self.state = state
        self.dependencies = Dependencies(state, nursery.configuration)
        self.slots = slots
        self.workers: list[Worker] = []
        self.in_flight = 0
        self.dressings = 0
        self.last_crash: Crash | None = None
        self.nursery = nursery
        self._options = options
        self._descriptions = descriptions
        self._metrics = metrics
        self._next = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._grown = asyncio.Event()
        self._keepers: list[asyncio.Task[None]] = []
        self._leaving: dict[Worker, asyncio.Task[None]] = {}

    # start and probe

    async def start(self) -> None:
        """Start all workers and wait until they take requests.

        Raises:
            WorkerError: One did not; the others are to be stopped.
        """
        await self._descriptions.describe(self.state, self.slots)
        with one_error():
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._options.count):
                    tasks.create_task(self._add_worker())

    async def dress(self, state: State, slots: Mapping[str, Path]) -> None:
        """Give all workers, which serve nobody, the databases of another generation.

        Only the difference is told.

        Raises:
            WorkerError: One was not dressed; all are to be stopped.
        """
        old, new = Holding(state=self.state, slots=self.slots), Holding(state=state, slots=slots)
        change = find_change(old, new, await self._descriptions.describe(state, slots))
        order = {"dress": change.encode()}
        with one_error():
            async with asyncio.TaskGroup() as tasks:
                for worker in self.workers:
                    tasks.create_task(worker.order(order, DRESS_TIMEOUT_S))
        self.state, self.slots = state, slots
        self.dependencies = Dependencies(state, self.nursery.configuration)
        self.dressings += 1

    async def probe(self, beside: WorkerSet | None = None) -> None:
        """Ask for every table, aside from those that another set serves out of the same files.

        Raises:
            WorkerError: One does not answer.
        """
        databases = self.state.databases
        if beside is not None:
            old = Holding(state=beside.state, slots=beside.slots)
            new = Holding(state=self.state, slots=self.slots)
            databases = {name: databases[name] for name in changed_names(old, new)}
        sessions = [worker.session for worker in self.workers]
        await probe(databases, sessions, home=beside is None)

    async def rest(self) -> None:
        """Hold no slot open, until the next dressing.

        Raises:
            WorkerError: A worker is still at work, or gone.
        """
        with one_error():
            async with asyncio.TaskGroup() as tasks:
                for worker in self.workers:
                    tasks.create_task(worker.order({"rest": {}}, REST_TIMEOUT_S))

    def is_sound(self) -> bool:
        """Tell whether all its workers run, and none holds too much memory."""
        sound = [
            worker
            for worker in self.workers
            if not worker.fork.ended.is_set() and not self._is_too_large(worker)
        ]
        return len(sound) == self._options.count

    def find_memory_bytes(self) -> int:
        """Find what the largest of its workers holds; 0 if that cannot be told."""
        held = [read_memory_bytes(worker.fork.pid) for worker in self.workers]
        return max((each for each in held if each), default=0)

    def _is_too_large(self, worker: Worker) -> bool:
        limit_bytes = self._options.memory_bytes
        held_bytes = read_memory_bytes(worker.fork.pid) if limit_bytes else None
        return bool(limit_bytes and held_bytes and held_bytes > limit_bytes)

    async def wait_broken(self) -> None:
        """Wait until one of its workers ends."""
        ends = [asyncio.create_task(worker.fork.ended.wait()) for worker in self.workers]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()

    # service

    def begin_service(self) -> None:
        """Replace workers that crash from now on."""
        self.last_crash = None
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

    async def drain(self, drain_s: float) -> bool:
        """Wait until the requests that hold the set are answered; tell whether they all were."""
        await self._end_service()
        try:
            async with asyncio.timeout(drain_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("drain cut short", generation=self.state.number, requests=self.in_flight)
            return False
        return True

    async def retire(self, drain_s: float = DRAIN_S) -> None:
        """Wait until the requests that hold the set are answered, then stop it."""
        await self.drain(drain_s)
        await self.stop()

    async def stop(self, *, at_once: bool = False) -> None:
        """Stop all workers now; at once: without a chance to end what they are at."""
        await self._end_service()
        leaving = list(self._leaving.values())
        for each in leaving:
            each.cancel()
        await asyncio.gather(*(worker.stop(at_once=at_once) for worker in self.workers))
        self.workers = []  # not before: a stop that is cut short is done again
        await asyncio.gather(*leaving, return_exceptions=True)

    async def _end_service(self) -> None:
        keepers, self._keepers = self._keepers, []
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)

    async def _add_worker(self) -> Worker:
        name = f"{self.state.number}-{next(_socket_numbers)}"
        spec = WorkerSpec(
            change=await self._describe_all(),
            socket=self._options.sockets / f"{name}.sock",
            control=self._options.sockets / f"{name}.control",
            secret=self._options.secret,
            datasette_dir=self.nursery.configuration.folder,
            upload_page=self._options.upload_page,
            read_in=self._options.read_in,
        )
        worker = Worker(await self.nursery.fork(spec), spec)
        try:
            await worker.fork.wait_ready(START_TIMEOUT_S)
        except BaseException:
            await worker.stop()
            raise
        self.workers.append(worker)
        self._grown.set()
        return worker

    async def _describe_all(self) -> Change:
        inspected = await self._descriptions.describe(self.state, self.slots)
        return find_change(NOTHING, Holding(state=self.state, slots=self.slots), inspected)

    async def _keep(self, worker: Worker) -> None:
        """Replace one worker each time that it ends or has grown; a crash is never given up on."""
        loop = asyncio.get_running_loop()
        pauses, may_grow_until_s = Pauses(FIRST_BACKOFF_S, MAX_BACKOFF_S), 0.0
        while True:
            started_at_s = loop.time()
            await self._wait_worn(worker, may_grow_until_s)
            crashed = worker.fork.ended.is_set()
            if crashed:
                self.workers.remove(worker)
                self._metrics.workers.set(len(self.workers))
                self.last_crash = Crash(message=worker.fork.tell_end(), at=datetime.now(UTC))
                log.warning(
                    "worker crashed", generation=self.state.number, status=worker.fork.status
                )
                await worker.stop()
            if loop.time() - started_at_s > STABLE_AFTER_S:
                pauses.reset()
            while True:
                try:
                    replacement = await self._add_worker()
                    break
                except WorkerError as exc:
                    pause_s = pauses.next_s()
                    log.warning(
                        "worker not replaced", reason=str(exc), retry_in_s=round(pause_s, 2)
                    )
                    await asyncio.sleep(pause_s)
            if crashed:
                self._metrics.worker_restarts.inc()
            else:
                self.workers.remove(worker)
                may_grow_until_s = loop.time() + MEMORY_PAUSE_S
                self._metrics.memory_replacements.inc()
                self._leaving[worker] = asyncio.create_task(self._leave(worker))
            self._metrics.workers.set(len(self.workers))
            worker = replacement

    async def _wait_worn(self, worker: Worker, may_grow_until_s: float) -> None:
        """Wait until a worker has ended, or holds too much memory after some time."""
        loop = asyncio.get_running_loop()
        while not worker.fork.ended.is_set():
            try:
                async with asyncio.timeout(MEMORY_LOOK_S):
                    await worker.fork.ended.wait()
            except TimeoutError:
                if self._is_too_large(worker) and loop.time() >= may_grow_until_s:
                    log.warning("worker too large", pid=worker.fork.pid)
                    return

    async def _leave(self, worker: Worker) -> None:
        """Stop a worker that gets no more requests, when it has answered those it has."""
        try:
            await worker.order({"finish": {"within_s": DRAIN_S}}, DRAIN_S + 1)
        except WorkerError as exc:
            log.warning("drain cut short", pid=worker.fork.pid, reason=str(exc))
        finally:
            await worker.stop()
            del self._leaving[worker]
