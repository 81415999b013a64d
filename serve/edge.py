"""The reader's public HTTP front: Datasette and, for ``/ingest``, the primary behind one port."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING

import aiohttp
import structlog
import yarl
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from headrace.errors import Refusal, WorkerError
from headrace.web import problems
from serve.proxy import forward, hand_back, raw_target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from serve.metrics import ReaderMetrics
    from serve.status import Status
    from serve.switch import Supervisor
    from serve.worker_process import Worker
    from serve.workers import WorkerSet

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger()

GENERATION = web.RequestKey("generation", int)
KIND = web.RequestKey("kind", str)

WORKER_WAIT_S = 5.0  # for a replacement, when all workers have crashed at once
MAX_LINE_BYTES = 64 * 1024  # Datasette's pages have their SQL in the URL
REFUSED_METHODS = frozenset({"CONNECT", "TRACE"})  # they are for proxies that people ask for
SAFE_TO_REPEAT = frozenset({"GET", "HEAD"})

_server_log = logging.getLogger("headrace.edge")
_server_log.addFilter(lambda record: not _is_malformed_request(record))

# Options for the server that runs the edge.
SERVER_OPTIONS = {
    "max_line_size": MAX_LINE_BYTES,
    "max_field_size": MAX_LINE_BYTES,
    "logger": _server_log,
}

_WORKER = yarl.URL("http://localhost")  # the connection is a Unix socket: only Host would show it


class Edge:
    """Answers every request of the public port.

    Args:
        supervisor: Has the set in service.
        status: What the reader says about itself.
        primary: URL of the primary.
        session: For requests to the primary.
        metrics: Counts requests.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        status: Status,
        primary: str,
        session: aiohttp.ClientSession,
        metrics: ReaderMetrics,
    ) -> None:
        self._supervisor = supervisor
        self._status = status
        self._primary = yarl.URL(primary)
        self._session = session
        self._metrics = metrics

    def application(self) -> web.Application:
        """Give the aiohttp application."""
        app = web.Application(middlewares=[self._counted, problems])
        for path, handler in (
            ("/-/healthz", self._healthz),
            ("/-/readyz", self._readyz),
            ("/-/headrace.json", self._headrace),
            ("/-/headrace", self._headrace),
        ):
            app.router.add_get(path, handler)
        # Any text, also with newlines. The body is asked for by whoever reads it (proxy.py).
        app.router.add_route("*", r"/{rest:[\s\S]*}", self._route, expect_handler=_expect)
        app.on_response_prepare.append(self._sign)
        return app

    async def _route(self, request: web.Request) -> web.StreamResponse:
        if request.method in REFUSED_METHODS:
            raise Refusal("method-not-allowed", f"{request.method} is not answered here")
        path = raw_target(request).partition("?")[0]
        if path == "/ingest" or path.startswith("/ingest/"):
            request[KIND] = "ingest"
            return await self._ask_primary(request)
        request[KIND] = "datasette"
        current = self._get_current()
        async with current.hold():
            request[GENERATION] = current.state.number
            return await self._ask_datasette(request, current)

    # Datasette

    async def _ask_datasette(self, request: web.Request, held: WorkerSet) -> web.StreamResponse:
        async with self._answered(request, held) as answer:
            return await hand_back(request, answer)

    @asynccontextmanager
    async def _answered(
        self, request: web.Request, held: WorkerSet
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Give a worker's answer; a read that a dying worker left unanswered is asked once more."""
        failed: Worker | None = None
        while True:
            try:
                worker = await held.get_worker(WORKER_WAIT_S, other_than=failed)
                answer = await forward(request, worker.session, _WORKER)
            except (aiohttp.ClientError, WorkerError) as exc:
                repeatable = request.method in SAFE_TO_REPEAT and not request.body_exists
                if isinstance(exc, WorkerError) or failed is not None or not repeatable:
                    log.warning("worker did not answer", reason=str(exc))
                    raise Refusal("worker-failed", "Datasette did not answer") from exc
                failed = worker
            else:
                break
        try:
            yield answer
        finally:
            _finish(answer)

    # the primary

    async def _ask_primary(self, request: web.Request) -> web.StreamResponse:
        try:
            answer = await forward(request, self._session, self._primary)
        except aiohttp.ClientError as exc:
            raise Refusal(
                "primary-away",
                "the primary did not answer",
                hint="what is published can be read all the while; send the file again later",
            ) from exc
        try:
            return await hand_back(request, answer)
        finally:
            _finish(answer)

    # the reader's own

    async def _healthz(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"ok": True})

    async def _readyz(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"ok": True, "generation": self._get_current().state.number})

    async def _headrace(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response(self._status.report(), headers={"Cache-Control": "no-store"})

    def _get_current(self) -> WorkerSet:
        if self._supervisor.current is None:
            failure = self._supervisor.last_error
            detail = failure.message if failure else "no generation is in service yet"
            raise Refusal("not-ready", detail)
        return self._supervisor.current

    # every answer

    async def _sign(self, request: web.Request, response: web.StreamResponse) -> None:
        number = request.get(GENERATION, max(self._supervisor.generation, 0))
        response.headers["Headrace-Generation"] = str(number)
        response.headers["Server"] = "Headrace"

    @web.middleware
    async def _counted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        started_s = perf_counter()
        code = "hung-up"
        try:
            response = await handler(request)
            code = str(response.status)
            self._metrics.response_bytes.labels(request.get(KIND, "own")).inc(response.body_length)
            return response
        finally:
            kind = request.get(KIND, "own")
            self._metrics.requests.labels(kind, code).inc()
            self._metrics.request_seconds.labels(kind).observe(perf_counter() - started_s)


async def _expect(_request: web.Request) -> None:
    """Leave the answer to ``Expect: 100-continue`` to whoever reads the body."""


def _is_malformed_request(record: logging.LogRecord) -> bool:
    """Tell a stranger's mistake, answered with 400: aiohttp would log a traceback for each."""
    return record.exc_info is not None and isinstance(record.exc_info[1], HttpProcessingError)


def _finish(answer: aiohttp.ClientResponse) -> None:
    """Give the connection back for the next request, or close it if this one was cut short."""
    if answer.content.at_eof():
        answer.release()
    else:
        answer.close()
