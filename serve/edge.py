"""The reader's public HTTP front: Datasette and, for ``/ingest``, the primary behind one port."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

import structlog
from aiohttp import web

from headrace import tracing
from headrace.errors import HeadraceError, Refusal, problem_document
from headrace.row_paths import find_row_path
from headrace.web import Requests, is_of_person, problem_response, refuse_method
from serve.arrivals import read_min_generation
from serve.edge_server import EdgeProtocol, EdgeServer
from serve.headers import sign
from serve.ingest_pages import DOCS
from serve.proxy import raw_target
from serve.status_pages import EVENTS
from serve.status_pages import PATH as STATUS
from serve.upstream import SAFE_TO_REPEAT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from serve.callers import Caller, Callers
    from serve.database_metrics import DatabaseReads
    from serve.ingest_pages import IngestPages
    from serve.ingest_proxy import IngestProxy
    from serve.metrics import ReaderMetrics
    from serve.pages import Pages
    from serve.rows_proxy import RowsProxy
    from serve.staleness import Staleness
    from serve.status import Status
    from serve.status_pages import StatusPages
    from serve.switch import Supervisor
    from serve.workers import WorkerSet

    Own = Callable[[web.BaseRequest, Caller], Awaitable[web.StreamResponse]]

Response = TypeVar("Response", bound=web.StreamResponse)

log = structlog.get_logger()

REFUSED_METHODS = frozenset({"CONNECT", "TRACE"})  # they are for proxies that people ask for
_NOT_TRACED = nullcontext()
_WRITES = frozenset({"DELETE", "PATCH", "POST", "PUT"})
METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"  # that some path takes
MIN_GENERATION_WAIT_S = 5.0
TRIES = 3  # of a read, each on the set that is in service then
WARM_AT_ONCE = 4
WARM_TIMEOUT_S = 0.3  # the switch, and whoever waits for it, waits no longer
WARM_URLS = 50
# What the edge refuses to protect the others, by code.
_SHED = frozenset({"overloaded", "too-many-requests", "timeout", "not-there-yet", "too-stale"})


class Edge:
    """Answers every request of the public port.

    Args:
        supervisor: Has the set in service.
        status: What the reader says about itself.
        pages: Answers what Datasette shows.
        status_pages: Shows people how it is.
        ingest: Hands uploads on.
        ingest_pages: Shows people what becomes of them; None: there is no upload page.
        rows: Hands writes of rows on.
        callers: Tells who asks.
        staleness: Knows how long ago the reader was up to date.
        metrics: Counts requests.
        reads: Counts them by database.

    Attributes:
        pages: As given.
        requests: Those that are being answered.
        stopping: Whether no more should come here.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        status: Status,
        *,
        pages: Pages,
        status_pages: StatusPages,
        ingest: IngestProxy,
        ingest_pages: IngestPages | None = None,
        rows: RowsProxy,
        callers: Callers,
        staleness: Staleness,
        metrics: ReaderMetrics,
        reads: DatabaseReads,
    ) -> None:
        self._supervisor = supervisor
        self._status = status
        self.pages = pages
        self.requests = Requests()
        self.stopping = False
        self._status_pages = status_pages
        self._ingest = ingest
        self._ingest_pages = ingest_pages
        self._rows = rows
        self._callers = callers
        self._staleness = staleness
        self._metrics = metrics
        self._reads = reads
        self._own: dict[str, Own] = {
            "/-/healthz": self._healthz,
            "/-/readyz": self._readyz,
            "/-/headrace.json": self._headrace,
            STATUS: self._show_status,
            EVENTS: self._tell_events,
        }

    def server(self) -> EdgeServer:
        """Give the server to listen with."""
        return EdgeServer(self.answer, lambda: self.stopping)

    def end_streams(self) -> None:
        """End what is open for as long as there is something to tell."""
        self._ingest.events.end()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request, and count it."""
        started_s = perf_counter()
        connection = request.protocol
        if isinstance(connection, EdgeProtocol):
            connection.answering, connection.head_began_s = True, 0.0
        kind, code = "own", "hung-up"
        try:
            with self.requests.counted(), _traced(request):
                kind, response = await self._answer(request)
            code = str(response.status)
            if request.method != "HEAD":  # what is not streamed is sent later
                size_bytes = response.body_length or response.content_length or 0
                self._metrics.response_bytes.labels(kind).inc(size_bytes)
            return response
        finally:
            if isinstance(connection, EdgeProtocol):
                connection.answering = False
            self._metrics.requests.labels(kind, code).inc()
            self._metrics.request_seconds.labels(kind).observe(perf_counter() - started_s)

    async def warm(self, new: WorkerSet, within_s: float = WARM_TIMEOUT_S) -> None:
        """Render what was asked for most with workers that are not in service yet.

        To be called before a switch. Only pages that show something else than before are rendered,
        the hottest first. It never fails: what is not done in time is rendered on demand.
        """
        addresses = iter(self.pages.heat.hottest(WARM_URLS))

        async def render() -> None:
            for address in addresses:
                try:
                    await self.pages.warm(new, address)
                except HeadraceError as exc:
                    log.warning("page not warmed", reason=str(exc))
                except Exception:  # the switch goes on, whatever it is
                    log.exception("page not warmed")
                else:
                    self._metrics.warmed.inc()

        with suppress(TimeoutError):
            async with asyncio.timeout(within_s), asyncio.TaskGroup() as tasks:
                for _ in range(WARM_AT_ONCE):
                    tasks.create_task(render())

    async def _answer(self, request: web.BaseRequest) -> tuple[str, web.StreamResponse]:
        """Give an answer, whatever happens, and the kind of request that it was."""
        kind = "own"
        try:
            target = raw_target(request)
            path = target.partition("?")[0]
            caller = self._callers.tell(request)
            if path == EVENTS:
                kind = "events"
            if path in self._own or request.method in REFUSED_METHODS:
                return kind, self._sign(await self._answer_own(request, path, caller))
            if path == "/ingest" or path.startswith("/ingest/"):
                kind = "ingest"
                return kind, await self._answer_ingest(request, target, caller)
            if request.method in _WRITES and (row_path := find_row_path(path)) is not None:
                kind = "rows"
                return kind, await self._rows.answer(request, target, row_path, caller)
            kind = "datasette"
            self._reads.count(path)
            return kind, await self._answer_page(request, target, caller)
        except Refusal as refusal:
            if refusal.code in _SHED:
                self._metrics.shed.labels(refusal.code).inc()
            response = self._sign(problem_response(request, refusal.document()))
            if refusal.code == "bad-request":
                response.force_close()  # whatever follows may be part of it
            return kind, response
        except ConnectionError:  # the client is gone: there is nobody to answer
            raise
        except Exception:
            log.exception("request failed", method=request.method, path=request.path)
            document = problem_document("internal-error", "the failure is in the server's log")
            return kind, self._sign(problem_response(request, document))

    async def _answer_ingest(
        self, request: web.BaseRequest, target: str, caller: Caller
    ) -> web.StreamResponse:
        """Answer a program out of the primary, and a person by a page about what that says."""
        current = self._supervisor.current
        wanted = is_of_person(request) or target.partition("?")[0] == DOCS
        if self._ingest_pages and current and wanted:
            return await self._ingest_pages.answer(request, target, caller, current)
        generation = max(self._supervisor.generation, 0)
        return await self._ingest.answer(request, target, caller, generation)

    async def _answer_page(
        self, request: web.BaseRequest, target: str, caller: Caller
    ) -> web.StreamResponse:
        """Answer out of the set in service; a read whose set fell apart is tried on the next one.

        A set that was just replaced gets no new workers: if the last one dies while it drains,
        nobody is left to answer who had come in time.
        """
        await self._wait_generation(request)
        await self._staleness.wait()
        repeatable = request.method in SAFE_TO_REPEAT and not request.body_exists
        tries = TRIES if repeatable else 1
        while True:
            tries -= 1
            try:
                current = self._get_current()
                stale_s = self._staleness.told_s()
                return await self.pages.answer(request, target, caller, current, stale_s)
            except Refusal as refusal:
                if refusal.code != "worker-failed" or not tries:
                    raise

    async def _wait_generation(self, request: web.BaseRequest) -> None:
        wanted = read_min_generation(request.headers)
        if wanted <= max(self._supervisor.generation, 0):
            return
        if not await self._supervisor.arrivals.wait(wanted, MIN_GENERATION_WAIT_S):
            raise Refusal(
                "not-there-yet",
                f"generation {wanted} is not in service here after {MIN_GENERATION_WAIT_S:g} s; "
                f"generation {max(self._supervisor.generation, 0)} is",
            )

    # the reader's own

    async def _answer_own(
        self, request: web.BaseRequest, path: str, caller: Caller
    ) -> web.StreamResponse:
        if path not in self._own:
            return refuse_method(request, path, METHODS)
        if request.method not in {"GET", "HEAD"}:
            return refuse_method(request, path, "GET, HEAD")
        return await self._own[path](request, caller)

    async def _healthz(self, _request: web.BaseRequest, _caller: Caller) -> web.Response:
        return web.json_response({"ok": True})

    async def _readyz(self, _request: web.BaseRequest, _caller: Caller) -> web.Response:
        if self.stopping:
            raise Refusal("stopping", "the reader is stopping: ask another one")
        return web.json_response({"ok": True, "generation": self._get_current().state.number})

    async def _headrace(self, _request: web.BaseRequest, _caller: Caller) -> web.Response:
        return web.json_response(self._status.report(), headers={"Cache-Control": "no-store"})

    async def _show_status(self, request: web.BaseRequest, caller: Caller) -> web.StreamResponse:
        """Show a person the page; a program gets JSON."""
        if not is_of_person(request):
            return await self._headrace(request, caller)
        return await self._status_pages.answer(request, caller, self._get_current())

    async def _tell_events(self, request: web.BaseRequest, _caller: Caller) -> web.StreamResponse:
        return await self._status_pages.answer_events(request)

    def _get_current(self) -> WorkerSet:
        if self._supervisor.current is None:
            failure = self._supervisor.last_error
            detail = failure.message if failure else "no generation is in service yet"
            raise Refusal("not-ready", detail)
        return self._supervisor.current

    def _sign(self, response: Response) -> Response:
        sign(response.headers, max(self._supervisor.generation, 0), self._staleness.told_s())
        return response


def _traced(request: web.BaseRequest) -> AbstractContextManager[None]:
    """Have a span of a write, if spans go anywhere."""
    if tracing.is_on() and request.method in _WRITES:
        return _in_span(request)
    return _NOT_TRACED


@contextmanager
def _in_span(request: web.BaseRequest) -> Iterator[None]:
    """Have a span of a request; it goes on from the client's, if that says so."""
    is_upload = request.path == "/ingest" or request.path.startswith("/ingest/")
    with (
        tracing.continued(request.headers.get(tracing.TRACEPARENT)),
        tracing.span(f"{request.method} {'/ingest' if is_upload else 'rows'}"),
    ):
        yield
