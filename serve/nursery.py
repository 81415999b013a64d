"""The reader's side of the preloaded process: fork workers, hear what becomes of them.

A worker forked from a process that has Datasette imported takes requests after 0.05 s instead of a
second. The nursery is not multiprocessing's forkserver: that runs the parent's main module again in
each child, adds a second process that outlives a kill, and is one for the whole program, where this
one is replaced when it dies.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from headrace.child import stop_process
from headrace.environment import without_secrets
from headrace.errors import WorkerError
from headrace.leash import leashed

if TYPE_CHECKING:
    from serve.configuration import Configuration
    from serve.worker_spec import WorkerSpec

log = structlog.get_logger()

GRACE_S = 2.0


class Fork:
    """One forked worker.

    Attributes:
        ended: Set when its process is gone.
        status: Its exit status then; below 0: the signal that killed it. None if nobody knows.
        pid: Its process id, once it is ready; else 0.
    """

    def __init__(self, nursery: Nursery, number: int) -> None:
        self.ended = asyncio.Event()
        self.status: int | None = None
        self.pid = 0
        self._nursery = nursery
        self._number = number
        self._ready = asyncio.Event()
        self._reason: str | None = None

    async def wait_ready(self, timeout_s: float) -> None:
        """Wait until it takes requests.

        Raises:
            WorkerError: It could not start, with the reason.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._ready.wait()
        except TimeoutError as exc:
            raise WorkerError(f"the worker did not start within {timeout_s:g} s") from exc
        if self._reason is not None:
            raise WorkerError(f"the worker did not start: {self._reason}")
        if self.ended.is_set():
            raise WorkerError(f"{self.tell_end()} at its start")

    def tell_end(self) -> str:
        """Say how it ended."""
        if self.status is None:
            return "the worker ended with its nursery"
        if self.status < 0:
            return f"the worker was ended by {signal.Signals(-self.status).name}"
        return f"the worker ended with status {self.status}"

    def kill(self, signal_number: int) -> None:
        """Send a signal, if it still runs."""
        self._nursery.order(kill=self._number, signal=signal_number)

    def take(self, event: dict[str, Any]) -> None:
        """Take an event of the nursery about it."""
        if event["event"] == "failed":
            self._reason = event["reason"]
        elif event["event"] == "ended":
            self.status = event["status"]
            self.ended.set()
        else:
            self.pid = event["pid"]
        self._ready.set()


class Nursery:
    """The preloaded process; started when it is first needed, and again when it died.

    Args:
        owner: Shown in process lists, to tell readers on one machine apart.
        configuration: What its workers are started with.
    """

    def __init__(self, owner: str, configuration: Configuration) -> None:
        self.configuration = configuration
        self._owner = owner
        self._process: asyncio.subprocess.Process | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._forks: dict[int, Fork] = {}
        self._next = 1
        self._starting = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def start(self) -> None:
        """Start the process, so that the first fork finds it warm."""
        async with self._starting:
            if self.pid is None or self._hearing is None or self._hearing.done():
                await self._stop()
                await self._start()

    async def fork(self, spec: WorkerSpec) -> Fork:
        """Fork a worker; it is not ready yet."""
        await self.start()
        number, self._next = self._next, self._next + 1
        fork = self._forks[number] = Fork(self, number)
        # Encoded in a thread: a thousand databases take a while, and requests go on meanwhile.
        line = await asyncio.to_thread(lambda: _encode(fork=number, spec=spec.encode()))
        if not fork.ended.is_set():  # with the process that it was meant for
            self._write(line)
        return fork

    def order(self, **order: Any) -> None:
        """Tell the process what to do; nothing is done if it is gone, and its workers with it."""
        self._write(_encode(**order))

    def _write(self, line: bytes) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(line)

    async def close(self) -> None:
        """End the process, and all workers with it."""
        async with self._starting:
            await self._stop()

    async def _start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *leashed(sys.executable, "-P", "-m", "serve.nursery_main", self._owner),
            env=_worker_environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C in the terminal is for the reader alone
        )
        self._hearing = asyncio.create_task(self._hear(self._process))

    async def _stop(self) -> None:
        process, hearing = self._process, self._hearing
        if process is not None and process.stdin is not None:
            process.stdin.close()
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), GRACE_S)
            if process.returncode is None:
                await stop_process(process, grace_s=GRACE_S)
        if hearing is not None:
            await hearing
        self._process = self._hearing = None

    async def _hear(self, process: asyncio.subprocess.Process) -> None:
        """Hand each event to its fork; when the process ends, so have they all."""
        if process.stdout is None:
            return
        async for line in process.stdout:
            event = json.loads(line)
            fork = self._forks[event["worker"]]
            fork.take(event)
            if fork.ended.is_set():
                del self._forks[event["worker"]]
        for fork in self._forks.values():
            fork.take({"event": "ended", "status": None})
        self._forks.clear()
        log.info("nursery ended", pid=process.pid)


def _encode(**order: Any) -> bytes:
    return json.dumps(order).encode() + b"\n"


def _worker_environment() -> dict[str, str]:
    kept = without_secrets()  # the worker's /proc/self/environ is this as well, for ever
    # The package as this process found it, which may be a checkout that is not installed.
    package = str(Path(__file__).parents[1])
    kept["PYTHONPATH"] = os.pathsep.join([package, *filter(None, [kept.get("PYTHONPATH")])])
    return kept
