"""What runs in a worker: Datasette on the slots of one generation, behind a Unix socket.

This module is imported by the nursery, which forks workers: so all that is slow to import is
imported here, at module level, and paid once.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn
from datasette.plugins import pm

from headrace.heap import give_back_heap_at_rest
from serve import actors, status_page, upload_page
from serve.cache_rules import UNCHOSEN
from serve.change import Change
from serve.control import answering
from serve.dressing import make_datasette
from serve.restless import RestlessAnswers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from serve.dressing import DressedDatasette
    from serve.worker_spec import WorkerSpec

# Where rich happens to be installed, Datasette logs the local variables of a failed request:
# rows, cookies and secrets. The plain traceback is logged all the same.
pm.get_plugin("datasette.handle_exception").rich = None
pm.register(actors, name="headrace.actors")

# Before templates are compiled, so that its own are as well.
pm.register(upload_page, upload_page.__name__)
pm.register(status_page, status_page.__name__)

KEEP_ALIVE_S = 120  # longer than the edge keeps a connection: the edge closes, never the worker
MAX_HEADERS_BYTES = 256 * 1024  # the edge has its own, smaller limit
QUIET_S = 5.0  # for requests whose readers are gone already


def run_worker(spec: WorkerSpec, on_ready: Callable[[], None]) -> None:
    """Serve until SIGTERM; requests that are being answered are finished.

    Args:
        spec: What to serve.
        on_ready: Called when requests are taken.

    Raises:
        WorkerError: Datasette or a plugin of the user did not start.
    """
    asyncio.run(_serve(spec, on_ready))


async def _serve(spec: WorkerSpec, on_ready: Callable[[], None]) -> None:
    if not spec.upload_page:
        pm.unregister(upload_page)
    datasette = make_datasette(spec.datasette_dir, spec.secret, spec.internal, spec.read_in)
    datasette.dress(spec.change)
    await datasette.invoke_startup()
    application = _CountedApplication(RestlessAnswers(datasette.app(), UNCHOSEN))
    server = _Server(
        uvicorn.Config(
            application,
            uds=str(spec.socket),
            lifespan="on",
            proxy_headers=True,
            forwarded_allow_ips="*",  # the socket lies in a private folder: only the edge is there
            access_log=False,
            server_header=False,
            log_config=None,
            timeout_keep_alive=KEEP_ALIVE_S,
            h11_max_incomplete_event_size=MAX_HEADERS_BYTES,
        ),
        on_ready,
    )
    resting = asyncio.create_task(give_back_heap_at_rest())
    try:
        async with answering(spec.control, _Orders(datasette, application).obey):
            await server.serve()
    finally:
        resting.cancel()


class _Server(uvicorn.Server):
    """Says when it takes requests."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


class _CountedApplication:
    """An ASGI application that knows how many requests it is answering."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._running = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        with self._counted():
            await self._application(scope, receive, send)

    async def wait_quiet(self, timeout_s: float) -> None:
        """Wait until no request is being answered.

        Raises:
            TimeoutError: There is still one.
        """
        async with asyncio.timeout(timeout_s):
            await self._quiet.wait()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._running += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._running -= 1
            if self._running == 0:
                self._quiet.set()


class _Orders:
    """What the reader may tell a running worker (control.py)."""

    def __init__(self, datasette: DressedDatasette, application: _CountedApplication) -> None:
        self._datasette = datasette
        self._application = application
        self._dressings = 0

    async def obey(self, order: dict[str, Any]) -> None:
        """Do one order."""
        match order:
            case {"dress": change}:
                self._dressings += 1
                self._datasette.dress(Change.decode(change))
                await self._datasette.settle()
            case {"rest": _}:
                dressings = self._dressings
                await self._application.wait_quiet(QUIET_S)
                if dressings == self._dressings:  # it may be back in service, in a hurry
                    self._datasette.let_go()
            case {"finish": {"within_s": within_s}}:
                await self._application.wait_quiet(within_s)
            case _:
                raise ValueError(f"there is no such order: {list(order)}")
