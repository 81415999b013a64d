"""Asking Datasette: through the gate, within a time, and once more if the worker died."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING

import aiohttp
import structlog
import yarl

from headrace.errors import Refusal, WorkerError
from serve.proxy import finish, forward

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from multidict import CIMultiDict

    from serve.limits import Gate
    from serve.proxy import Body
    from serve.worker_process import Worker
    from serve.workers import WorkerSet

log = structlog.get_logger()

WORKER_WAIT_S = 5.0  # for a replacement, when all workers have crashed at once
AVOID_S = 10.0  # after a worker kept somebody waiting to the end: it may be stuck
SAFE_TO_REPEAT = frozenset({"GET", "HEAD"})
_BASE = yarl.URL("http://localhost")  # the connection is a Unix socket: only Host would show it


class Answer:
    """A worker's answer whose headers are here; it holds its set until it is closed.

    Attributes:
        response: The client's response.
        begun: What was read of the body.
        upstream_s: From the question to the headers.
        generation: The one that it shows.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        *,
        upstream_s: float,
        worker: Worker,
        held: WorkerSet,
        gate: Gate,
    ) -> None:
        self.response = response
        self.begun: list[bytes] = []
        self.upstream_s = upstream_s
        self.generation = held.state.number
        self._worker = worker
        self._held = held
        self._gate: Gate | None = gate
        self._claimed = False
        self._closed = False

    def claim(self) -> bool:
        """Take the answer; only one can hand it back."""
        claimed, self._claimed = self._claimed, True
        return not claimed

    async def read(self, at_most_bytes: int, within_s: float) -> bytes | None:
        """Read the body to its end; None if it is larger or slower. What was read is in ``begun``.

        Raises:
            aiohttp.ClientError: The worker broke off.
        """
        size = 0
        try:
            async with asyncio.timeout(within_s):
                async for chunk in self.response.content.iter_any():
                    self.begun.append(chunk)
                    size += len(chunk)
                    if size > at_most_bytes:
                        return None
        except TimeoutError:
            return None
        return b"".join(self.begun)

    def leave_gate(self) -> None:
        """Let the next question through: the rest of this answer waits for its client."""
        if self._gate is not None:
            self._gate.leave()
            self._gate = None

    def close(self) -> None:
        """Give the worker's connection back, and let go of the set."""
        if self._closed:
            return
        self._closed = True
        finish(self.response)
        self._worker.in_flight -= 1
        self.leave_gate()
        self._held.release()

    def discard(self) -> None:
        """Close it unless somebody has claimed it."""
        if self.claim():
            self.close()


class Upstream:
    """The way to the workers.

    Args:
        gate: Bounds what is asked at once.
        exports: The same for what is streamed for as long as the client takes: it must not keep
            pages waiting.
        per_worker: Requests that one worker answers at once.
        timeout_s: For the answer's headers, and for the whole of what is kept.
    """

    def __init__(self, gate: Gate, exports: Gate, *, per_worker: int, timeout_s: float) -> None:
        self.gate = gate
        self._exports = exports
        self._per_worker = per_worker
        self._timeout_s = timeout_s

    @asynccontextmanager
    async def limited(self) -> AsyncIterator[None]:
        """Bound what the block waits for.

        Raises:
            Refusal: ``timeout``.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except TimeoutError as exc:
            raise Refusal(
                "timeout",
                f"Datasette did not answer within {self._timeout_s:g} s",
                hint="ask for fewer rows, or for less at once",
            ) from exc

    async def ask(
        self,
        held: WorkerSet,
        method: str,
        target: str,
        headers: CIMultiDict[str],
        body: Body = None,
        *,
        streamed: bool = False,
    ) -> Answer:
        """Give a worker's answer.

        Raises:
            Refusal: ``overloaded``, or ``worker-failed``.
        """
        started_s = perf_counter()
        gate = self._exports if streamed else self.gate
        held.acquire()
        try:
            await gate.enter(self._per_worker * max(len(held.workers), 1))
            try:
                worker, response = await self._ask(held, method, target, headers, body)
            except BaseException:
                gate.leave()
                raise
        except BaseException:
            held.release()
            raise
        return Answer(
            response,
            upstream_s=perf_counter() - started_s,
            worker=worker,
            held=held,
            gate=gate,
        )

    async def _ask(
        self,
        held: WorkerSet,
        method: str,
        target: str,
        headers: CIMultiDict[str],
        body: Body,
    ) -> tuple[Worker, aiohttp.ClientResponse]:
        """Ask a worker; a read that a dying worker left unanswered is asked once more."""
        failed: Worker | None = None
        while True:
            try:
                worker = await held.get_worker(WORKER_WAIT_S, other_than=failed)
                worker.in_flight += 1
                asked_s = perf_counter()
                try:
                    return worker, await forward(
                        worker.session,
                        _BASE,
                        method=method,
                        target=target,
                        headers=headers,
                        body=body,
                    )
                except asyncio.CancelledError:
                    if perf_counter() - asked_s > self._timeout_s / 2:
                        worker.avoid_until_s = perf_counter() + AVOID_S
                    worker.in_flight -= 1
                    raise
                except BaseException:
                    worker.in_flight -= 1
                    raise
            except (aiohttp.ClientError, WorkerError) as exc:
                repeatable = method in SAFE_TO_REPEAT and body is None
                if isinstance(exc, WorkerError) or failed is not None or not repeatable:
                    log.warning("worker did not answer", reason=str(exc))
                    raise Refusal("worker-failed", "Datasette did not answer") from exc
                failed = worker
