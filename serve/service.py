"""A reader: every part of it, wired together."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import aiohttp
import structlog

from headrace.actor_claim import ActorClaims
from headrace.config import find_or_make_secret, find_secret
from headrace.errors import ConfigError
from headrace.exposition import metrics_app
from headrace.headroom import disk_used
from headrace.heap import give_back_heap_at_rest, use_one_heap
from headrace.keys import ReaderPaths
from headrace.lock import find_or_make_identity, volume_lock
from headrace.log import GenerationLog
from headrace.logs import configure_logs
from headrace.open_files import allow_many_open_files
from headrace.place import Place
from headrace.privacy import forbid_inspection
from headrace.sockets import private_sockets
from headrace.stopping import Stop
from headrace.store import Store
from headrace.store_costs import find_prices
from headrace.store_url import check_plain_path
from headrace.tokens import Tokens
from headrace.tracing import tracing
from headrace.web import listening, listening_server, url_of
from serve.actor_question import ActorQuestion
from serve.cache import PageCache
from serve.callers import Callers
from serve.cities import describe_place
from serve.clock import Clock
from serve.configuration import ConfigurationWatch
from serve.describe import Descriptions
from serve.edge import Edge
from serve.follow import Follower
from serve.freshness import Freshness
from serve.groups import one_error
from serve.heard import Heard
from serve.hook import GenerationHook
from serve.incoming import IncomingUploads
from serve.ingest_pages import IngestPages
from serve.ingest_proxy import IngestProxy
from serve.limits import ClientLimit, Gate
from serve.metrics import ReaderMetrics
from serve.nursery import Nursery
from serve.overview import Overview
from serve.pages import Pages
from serve.primary_look import PrimaryLook
from serve.recent import RecentGenerations
from serve.report import Reporter
from serve.restore import Restorer
from serve.rows_proxy import RowsProxy
from serve.scrub import Scrubber
from serve.serving_file import ServingFile
from serve.staleness import Staleness
from serve.status import Status
from serve.status_pages import StatusPages
from serve.switch import Supervisor
from serve.upstream import Upstream
from serve.workers import WorkerOptions, WorkerSet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping
    from pathlib import Path

    from headrace.config import ServeSettings
    from headrace.generation import State
    from headrace.web import Listener

log = structlog.get_logger()

DEFAULT_WORKERS_AT_MOST = 4
CONNECT_TIMEOUT_S = 5.0
# For the primary, once it has all of a request; a rollback copies whole databases.
PRIMARY_ANSWER_S = 3600.0
HOOK_DEADLINE_S = 30.0
# Of the time that a stop may take: until requests that are being answered are cut. What comes after
# is the end of the workers. It is later than ingest's, whose answers to uploads are handed on.
REQUESTS = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A running reader.

    Attributes:
        url: Where it is read.
        metrics_url: Where its metrics are.
        supervisor: Knows what is in service.
        follower: Knows what is newest.
        edge: Answers requests.
        overview: Knows what there is to see.
        reporter: Tells the primary how it is.
        listener: Where they come in.
    """

    url: str
    metrics_url: str
    supervisor: Supervisor
    follower: Follower
    edge: Edge
    overview: Overview
    reporter: Reporter
    listener: Listener

    async def come_to_rest(self, stop: Stop, grace_s: float) -> None:
        """Let load balancers see that it stops, while it answers on; then answer what is left."""
        self.edge.stopping = True
        with suppress(TimeoutError):
            async with stop.limit(REQUESTS):
                await self.reporter.leave()
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.hurried.wait(), grace_s)
                await self.listener.refuse()
                self.edge.end_streams()
                await self.edge.requests.wait_none()
                return
        log.warning("connections cut", reason="not answered in time")

    @property
    def nursery(self) -> Nursery:
        """What workers are forked from now."""
        return self.supervisor.nursery


async def run(settings: ServeSettings) -> None:
    """Serve until SIGTERM or SIGINT, then stop in order.

    Raises:
        ConfigError: The settings cannot work.
    """
    use_one_heap()
    allow_many_open_files()
    configure_logs(f"reader-{settings.region}")
    forbid_inspection()  # workers run plugins as the same user
    stop = Stop(settings.shutdown_timeout)
    stop.listen()
    async with (
        tracing("reader", region=settings.region),
        running(settings) as reader,
        _background(give_back_heap_at_rest()),
    ):
        log.info("reader listening", url=reader.url, metrics_url=reader.metrics_url)
        await stop.asked.wait()
        log.info("reader stopping", within_s=round(stop.left_s(), 1))
        await reader.come_to_rest(stop, settings.shutdown_grace)


@asynccontextmanager
async def running(settings: ServeSettings) -> AsyncIterator[Reader]:
    """Run a reader while the block runs; nothing of it is left after.

    Raises:
        ConfigError: The settings cannot work.
    """
    store = _open_store(settings)
    _check_settings(settings)
    paths = ReaderPaths(check_plain_path(settings.data))
    place = Place.of(settings)
    metrics = ReaderMetrics(settings.region)
    metrics.watch_store(store.counts, find_prices(store.url, settings.store_prices))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(volume_lock(paths.lock))
        sockets = stack.enter_context(private_sockets(paths.root))
        session = await stack.enter_async_context(_primary_session())
        freshness = Freshness(Clock(), paths.root / "known.json")
        heard = Heard(metrics, freshness.clock)
        follower = Follower(
            GenerationLog(store), session, settings.primary, metrics, freshness, heard=heard
        )
        secret = os.environ.get("DATASETTE_SECRET") or find_or_make_secret(paths.root / "secret")
        options = WorkerOptions(
            sockets=sockets,
            count=settings.workers or _default_workers(),
            secret=secret,
            memory_bytes=settings.worker_memory,
            upload_page=settings.upload_page,
            read_in=describe_place(settings.region) if settings.page_footer else None,
        )
        descriptions = Descriptions()

        def make_set(nursery: Nursery, state: State, slots: Mapping[str, Path]) -> WorkerSet:
            return WorkerSet(
                nursery,
                options,
                state=state,
                slots=slots,
                descriptions=descriptions,
                metrics=metrics,
            )

        restorer = Restorer(paths, store, metrics)
        supervisor = Supervisor(
            follower,
            restorer,
            make_nursery=lambda configuration: Nursery(str(paths.root), configuration),
            make_set=make_set,
            configuration=ConfigurationWatch(settings.datasette_dir, paths.configurations),
            serving_file=ServingFile(paths.root / "serving.json"),
            metrics=metrics,
            heard=heard,
            hook=GenerationHook(settings.on_generation, metrics, deadline_s=HOOK_DEADLINE_S),
            min_interval_s=settings.min_switch_interval,
        )
        stack.push_async_callback(supervisor.close)
        reads = metrics.watch_workers(supervisor, options)
        metrics.headroom.watch("disk", lambda: disk_used(paths.root))
        scrubber = Scrubber(restorer.pool, metrics, supervisor.renew)
        staleness = Staleness(supervisor, freshness, settings.max_staleness)
        status = Status(place, follower, supervisor, staleness)
        status.watch(metrics)
        token = settings.token or find_secret(settings.data / "token")
        incoming = IncomingUploads(
            store,
            Tokens(token) if token else None,
            session=session,
            primary=settings.primary,
            reader=find_or_make_identity(paths.root / "id"),
            region=settings.region,
            max_upload_bytes=settings.max_upload,
            metrics=metrics,
        )
        pages = make_pages(settings, metrics)
        # Without a token this reader cannot tell the primary what Datasette says of anybody.
        actors = ActorQuestion(ActorClaims(token), supervisor, pages.upstream) if token else None
        ingest = IngestProxy(settings.primary, session, incoming, actors)
        overview = Overview(
            settings.region,
            follower=follower,
            supervisor=supervisor,
            staleness=staleness,
            recent=RecentGenerations(GenerationLog(store)),
            primary=PrimaryLook(session, settings.primary),
        )
        has_sign_in = settings.upload_page
        status_pages = StatusPages(overview, pages, ingest, has_sign_in=has_sign_in)
        edge = Edge(
            supervisor,
            status,
            pages=pages,
            status_pages=status_pages,
            ingest=ingest,
            ingest_pages=IngestPages(ingest, pages, status_pages) if has_sign_in else None,
            rows=RowsProxy(settings.primary, session, actors),
            callers=Callers(settings.trusted_proxies, settings.client_header),
            staleness=staleness,
            metrics=metrics,
            reads=reads,
        )
        supervisor.warm = edge.warm
        supervisor.forget_pages = edge.pages.cache.clear
        await supervisor.nursery.start()
        reporter = Reporter(
            supervisor,
            session,
            settings.primary,
            store,
            place=place,
            id_file=paths.root / "id",
        )
        await stack.enter_async_context(
            _background(
                supervisor.run(),
                follower.run(),
                freshness.run(),
                _reconnect(store, freshness.clock),
                restorer.run(),
                scrubber.run(),
                reporter.run(),
                overview.run(),
                incoming.run(),
            )
        )
        server = edge.server()
        await stack.enter_async_context(server.sweeping())
        listener = await stack.enter_async_context(
            listening_server(server, settings.host, settings.port)
        )
        about = await stack.enter_async_context(
            listening(metrics_app(metrics.shown), settings.host, settings.metrics_port)
        )
        yield Reader(
            url=url_of(settings.host, listener.port),
            metrics_url=f"{url_of(settings.host, about.port)}/metrics",
            supervisor=supervisor,
            follower=follower,
            edge=edge,
            overview=overview,
            reporter=reporter,
            listener=listener,
        )


def make_pages(settings: ServeSettings, metrics: ReaderMetrics) -> Pages:
    """Put the page cache, and what stands between it and the workers, together."""
    upstream = Upstream(
        Gate(settings.queue_length),
        Gate(settings.queue_length),
        per_worker=settings.worker_concurrency,
        timeout_s=settings.request_timeout,
    )
    cache = PageCache(settings.cache_size, perf_counter, metrics.cache_evictions.inc)
    return Pages(cache, upstream, ClientLimit(settings.client_concurrency), metrics)


def _open_store(settings: ServeSettings) -> Store:
    if settings.store is None:
        raise ConfigError(
            "a reader needs the object store that the primary writes to",
            hint="give --store (HEADRACE_STORE), the same as the primary's",
        )
    return Store(settings.store)


def _check_settings(settings: ServeSettings) -> None:
    if settings.shutdown_grace >= settings.shutdown_timeout:
        raise ConfigError(
            "cannot use --shutdown-grace: it is not less than --shutdown-timeout",
            hint="what is being answered then needs some of that time too",
        )
    folder = settings.datasette_dir
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"cannot use --datasette-dir {folder}: it is not a folder")


def _default_workers() -> int:
    return min(len(os.sched_getaffinity(0)), DEFAULT_WORKERS_AT_MOST)


@asynccontextmanager
async def _primary_session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=PRIMARY_ANSWER_S
        ),
    ) as session:
        yield session


async def _reconnect(store: Store, clock: Clock) -> None:
    while True:
        await clock.wait_nap()
        store.reconnect()


@asynccontextmanager
async def _background(*coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run coroutines while the block runs; if one fails, so does the block."""
    with one_error():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
            yield
            for task in tasks:
                task.cancel()
