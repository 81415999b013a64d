"""``headrace ingest``: the primary, put together and run."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from headrace.clock import SteadyClock
from headrace.config import find_litestream_config, find_or_make_secret, store_url
from headrace.errors import ConfigError
from headrace.exposition import metrics_app
from headrace.idempotency import KeysInFlight
from headrace.keys import JOURNAL_DATABASE, PrimaryPaths
from headrace.lease import LeaseLog
from headrace.lock import find_or_make_identity, volume_lock
from headrace.log import GenerationLog
from headrace.logs import configure_logs
from headrace.place import Place
from headrace.privacy import forbid_inspection
from headrace.sockets import private_sockets
from headrace.stopping import Stop
from headrace.store import Store
from headrace.store_costs import find_prices
from headrace.tracing import tracing
from headrace.web import Requests, listening
from ingest.access import Access
from ingest.api import Node, make_app
from ingest.api.node import RowLimits
from ingest.archive import Archive
from ingest.audit import AuditLog
from ingest.buckets.places import make_watched
from ingest.buckets.watching import Buckets
from ingest.checksums import Checksums
from ingest.converters import Limits
from ingest.disk import Disk
from ingest.fetch import Fetcher
from ingest.fetch_rules import FetchRules
from ingest.holds import Holds
from ingest.incoming import Incoming
from ingest.journal import Journal
from ingest.lease import LeaseHolder
from ingest.metrics import IngestMetrics
from ingest.plugins import configured, load_registry
from ingest.preview import Previews
from ingest.primary import Primary
from ingest.prune import LogPruner
from ingest.prune_objects import Pruner, Retention
from ingest.publish import Publisher
from ingest.rates import Rate
from ingest.rebuild import Rebuilder, find_damaged
from ingest.regions import Regions
from ingest.replicate import Litestream
from ingest.roll_call import RollCall
from ingest.rollback import Rollback
from ingest.rows.commit import Commit
from ingest.rows.writer import RowWriter
from ingest.schedules import Scheduler
from ingest.stopping import come_to_rest
from ingest.succession import JournalReplica, find_journal
from ingest.token_store import TokenStore
from ingest.turns import Places
from ingest.tus import sweep
from ingest.tus.uploads import TusUploads
from ingest.upload import Uploads
from ingest.volume import clean, find_held, make_folders, sort_on_volume
from ingest.watchdog import Watchdog
from ingest.watchers import Watchers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from headrace.config import IngestSettings
    from headrace.web import Listener
    from ingest.buckets.places import Watched
    from ingest.lease import Taken

log = structlog.get_logger()

Done = TypeVar("Done")

# A thread that is done waits up to so long for a busy event loop, and a batch of rows has several
# in a row. With Python's 5 ms, they took most of its time.
SWITCH_S = 0.0005

_TOKENS = ("token", "secret")


async def run(settings: IngestSettings) -> None:
    """Run the primary until SIGINT or SIGTERM; a standby waits until it is its turn.

    Raises:
        ConfigError: It cannot start like this.
        LitestreamError: The journal could not be restored.
        LogError: The log or the lease cannot be read.
        PrimaryLostError: Another primary has published, or has the lease.
        StoreError: The store could not be asked.
    """
    configure_logs("ingest")
    forbid_inspection()  # converters run as the same user
    sys.setswitchinterval(SWITCH_S)
    paths = PrimaryPaths(settings.data.absolute())
    make_folders(paths)
    sort_on_volume(paths.staging)
    store = Store(store_url(settings))
    watched = make_watched(settings, store)
    stop = Stop(settings.shutdown_timeout)
    stop.listen()
    failed: list[BaseException] = []

    def give_up(exc: BaseException) -> None:
        failed.append(exc)
        stop.hurry()  # what is under way can hardly be finished

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(tracing("ingest"))
        await stack.enter_async_context(volume_lock(paths.lock))
        metrics = IngestMetrics()
        metrics.watch_store(store.counts, find_prices(store.url, settings.store_prices))
        about = await stack.enter_async_context(
            listening(
                metrics_app(metrics.registry, metrics.refresh),
                settings.host,
                settings.metrics_port,
            )
        )
        log.info("metrics are ready", metrics_port=about.port)
        await store.check_creates()
        generations = GenerationLog(store)
        lease = _lease_holder(settings, paths, store, metrics)
        taken = await _unless(stop, _take_lease(lease, generations, settings))
        if taken is None:
            return
        stack.push_async_callback(lambda: lease.give_back(stop.left_s()))
        await stack.enter_async_context(_running(lease.run(), give_up))
        leading = _lead(
            stack,
            settings,
            paths=paths,
            store=store,
            watched=watched,
            generations=generations,
            lease=lease,
            taken=taken,
            metrics=metrics,
            stop=stop,
            give_up=give_up,
        )
        led = await _unless(stop, leading)
        await stop.asked.wait()
        log.info("ingest is stopping", within_s=round(stop.left_s(), 1))
        if led is not None:
            await come_to_rest(*led, stop)
    if failed:
        raise failed[0]
    log.info("ingest has stopped")


async def _lead(
    stack: AsyncExitStack,
    settings: IngestSettings,
    *,
    paths: PrimaryPaths,
    store: Store,
    watched: list[Watched],
    generations: GenerationLog,
    lease: LeaseHolder,
    taken: Taken,
    metrics: IngestMetrics,
    stop: Stop,
    give_up: Callable[[BaseException], None],
) -> tuple[Node, Listener]:
    """Start what only the holder of the lease may do; the stack ends it."""
    fetcher = Fetcher(FetchRules.parse(settings.fetch), settings.fetch_time)
    retention, believed = _retention(settings), taken.believed
    publisher = Publisher(generations, await generations.read_newest(), lambda: lease.epoch)
    if not believed:
        await publisher.fence()
    journal_lineage = await find_journal(
        paths, store, lease.journal, believed=believed, anew=settings.new_journal
    )
    clock = SteadyClock(taken.at)
    journal = Journal(paths.database(JOURNAL_DATABASE, journal_lineage), clock)
    unfinished = {receipt.id for receipt, _options in await journal.read_unfinished()}
    lineages = {name: cut.lineage for name, cut in publisher.state.databases.items()}
    # A journal that was restored may not know of merges that the volume's databases hold already.
    believed = believed and journal_lineage == lease.journal
    held = find_held(paths, publisher.state) if believed else {}
    sound = held.keys() - await find_damaged(held)
    kept = {(name, lineages[name]) for name in sound} | {(JOURNAL_DATABASE, journal_lineage)}
    await asyncio.to_thread(clean, paths, kept=kept, spooled=unfinished)
    sockets = stack.enter_context(private_sockets(paths.root))
    litestream = Litestream(
        config=find_litestream_config(settings.litestream_config),
        paths=paths,
        store=store,
        socket_path=sockets / "litestream.sock",
        metrics=metrics,
        stop=stop,
    )
    await stack.enter_async_context(_running(lease.while_held(litestream.run), give_up))
    # Before Litestream ends: the last connection to close would take the WAL away from it.
    stack.push_async_callback(journal.close)
    primary = Primary(
        paths=paths,
        store=store,
        litestream=litestream,
        publisher=publisher,
        checksums=Checksums(paths, store, metrics),
        metrics=metrics,
        held=[lineages[name] for name in sound],
    )
    metrics.watch_databases(lambda: primary.state.databases, journal_lineage)
    rebuilder = Rebuilder(paths, store, primary, metrics)
    await rebuilder.lock(lineages.keys() - sound)
    await stack.enter_async_context(_running(rebuilder.run(), give_up))
    registry = load_registry(configured(settings), partial(_count_broken_plugin, metrics))
    disk = Disk(paths.root, settings.disk_reserve, metrics)
    archive = Archive(store, disk, on=settings.archive, retention=retention.uploads)
    holds = Holds()
    journal_replica = JournalReplica(litestream, lease, journal_lineage, stop=stop, metrics=metrics)
    tus = TusUploads(paths.tus, timedelta(hours=settings.tus_expiry))
    await tus.shelf.load(believed=taken.believed)
    metrics.tus_uploads.set_function(tus.shelf.count_open)
    uploads = Uploads(
        paths=paths,
        clock=clock,
        journal=journal,
        archive=archive,
        disk=disk,
        primary=primary,
        registry=registry,
        metrics=metrics,
        limits=_limits(settings, paths),
        journal_replica=journal_replica,
        places=Places(settings.queue_uploads),
        on_lost=give_up,
    )
    rows = RowWriter(
        primary=primary,
        commit=Commit(
            paths=paths,
            journal=journal,
            journal_replica=journal_replica,
            primary=primary,
            disk=disk,
        ),
        metrics=metrics,
        clock=clock,
        on_lost=give_up,
        window_s=settings.write_window,
    )
    stack.push_async_callback(rows.park)
    stack.push_async_callback(uploads.park)
    await rows.resume(await journal.read_unfinished())
    await uploads.resume()
    await stack.enter_async_context(_running(Watchdog(paths, primary, metrics).run(), give_up))
    pruner = Pruner(
        store=store,
        generations=generations,
        log_pruner=LogPruner(store, generations, timedelta(days=settings.log_retention), metrics),
        primary=primary,
        paths=paths,
        journal=journal,
        lease=lease,
        holds=holds,
        retention=retention,
        metrics=metrics,
    )
    await stack.enter_async_context(_running(pruner.run(), give_up))
    tokens = TokenStore(journal, clock.now)
    await tokens.load()
    audit = AuditLog(journal, tokens, clock.now, timedelta(days=settings.audit_retention))
    await stack.enter_async_context(_running(audit.run(), give_up))
    regions = Regions(journal, metrics)
    await regions.recall()
    roll_call = RollCall(journal, clock.now)
    await roll_call.recall()
    node = Node(
        paths=paths,
        place=Place.of(settings),
        clock=clock,
        access=Access(
            _token(settings),
            tokens,
            clock.now,
            token_rate=Rate(settings.token_rate, "a token"),
            address_rate=Rate(settings.address_rate, "an address"),
        ),
        tokens=tokens,
        audit=audit,
        archive=archive,
        disk=disk,
        keys_in_flight=KeysInFlight(),
        journal=journal,
        journal_replica=journal_replica,
        uploads=uploads,
        previews=Previews(
            paths.staging,
            registry=registry,
            limits=_limits(settings, paths),
            nursery=uploads.nursery,
            disk=disk,
        ),
        rows=rows,
        row_limits=RowLimits(bytes=settings.max_write_bytes, rows=settings.max_write_rows),
        tus=tus,
        watchers=Watchers(metrics),
        registry=registry,
        primary=primary,
        publisher=publisher,
        generations=generations,
        rollback=Rollback(generations, primary, rebuilder, holds),
        holds=holds,
        pruner=pruner,
        regions=regions,
        roll_call=roll_call,
        lease=lease,
        litestream=litestream,
        metrics=metrics,
        stop=stop,
        requests=Requests(),
        store=store,
        fetcher=fetcher,
        schedules_changed=asyncio.Event(),
        incoming_told=asyncio.Event(),
        buckets=Buckets(watched),
        max_upload_bytes=settings.max_upload,
    )
    return node, await _open(stack, settings, node, give_up)


async def _open(
    stack: AsyncExitStack,
    settings: IngestSettings,
    node: Node,
    give_up: Callable[[BaseException], None],
) -> Listener:
    """Take uploads, by each of the ways in; the stack ends it."""
    incoming = Incoming(node, node.store, alone=not node.buckets.sees_readers)
    await stack.enter_async_context(_running(incoming.run(), give_up))
    await stack.enter_async_context(_running(node.buckets.run(node), give_up))
    await stack.enter_async_context(_running(Scheduler(node).run(), give_up))
    sweep_s = min(sweep.LOOK_EVERY_S, settings.tus_expiry * 3600)
    await stack.enter_async_context(_running(sweep.run(node, every_s=sweep_s), give_up))
    # A client that hangs up must not cancel the writing down of what happened to its upload.
    listener = await stack.enter_async_context(
        listening(make_app(node), settings.host, settings.port, handler_cancellation=False)
    )
    log.info(
        "ingest is ready",
        port=listener.port,
        generation=node.publisher.state.number,
        epoch=node.lease.epoch,
        store=node.store.url,
    )
    return listener


def _lease_holder(
    settings: IngestSettings, paths: PrimaryPaths, store: Store, metrics: IngestMetrics
) -> LeaseHolder:
    """Give the lease's holder.

    Raises:
        ConfigError: The lease would run out between two renewals.
    """
    if settings.lease_renewal * 3 > settings.lease_duration:
        raise ConfigError(
            "cannot use --lease-renewal: it is more than a third of --lease-duration",
            hint="one renewal that is late must not end the lease",
        )
    return LeaseHolder(
        LeaseLog(store),
        find_or_make_identity(paths.identity),
        duration_s=settings.lease_duration,
        renew_every_s=settings.lease_renewal,
        metrics=metrics,
    )


def _retention(settings: IngestSettings) -> Retention:
    """Give how long things are kept.

    Raises:
        ConfigError: The log would forget a generation that can be brought back.
    """
    if settings.generation_retention > settings.log_retention:
        raise ConfigError(
            "cannot use --generation-retention: it is more than --log-retention",
            hint="what is not in the log any more cannot be brought back",
        )
    return Retention(
        generations=timedelta(days=settings.generation_retention),
        uploads=timedelta(days=settings.upload_retention),
    )


async def _take_lease(
    lease: LeaseHolder, generations: GenerationLog, settings: IngestSettings
) -> Taken:
    newest = await generations.read_newest()
    return await lease.take(standby=settings.standby, least_epoch=newest.epoch)


async def _unless(stop: Stop, work: Coroutine[Any, Any, Done]) -> Done | None:
    """Do something long; None if a stop comes first."""
    working = asyncio.create_task(work)
    waiting = asyncio.create_task(stop.asked.wait())
    try:
        await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        working.cancel()
        waiting.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)


def _secrets(paths: PrimaryPaths) -> tuple[str, ...]:
    """List what converters have no business to read: tokens, other uploads, live databases."""
    # `headrace up` keeps its own one folder above.
    tokens = (folder / name for folder in (paths.root, paths.root.parent) for name in _TOKENS)
    clouds = (Path.home() / name for name in (".aws", ".azure", ".config/gcloud"))
    return tuple(map(str, (paths.dbs, paths.spool, paths.staging, paths.tus, *tokens, *clouds)))


def _limits(settings: IngestSettings, paths: PrimaryPaths) -> Limits:
    return Limits(
        memory_bytes=settings.convert_memory,
        cpu_s=settings.convert_cpu,
        output_bytes=settings.convert_output,
        wall_s=settings.convert_time,
        hidden=_secrets(paths),
    )


def _count_broken_plugin(metrics: IngestMetrics, plugin: str, exc: BaseException) -> None:
    """Say that a plugin is left out: one that is broken does not stop the primary."""
    log.error("plugin not loaded", plugin=plugin, error=repr(exc))
    metrics.plugin_failures.labels(plugin).inc()


def _token(settings: IngestSettings) -> str:
    if settings.token is not None:
        return settings.token
    return find_or_make_secret(Path(settings.data) / "token")


@asynccontextmanager
async def _running(
    work: Coroutine[Any, Any, None], on_failure: Callable[[BaseException], None]
) -> AsyncIterator[None]:
    """Run a part of the primary while the block runs; say so if it fails."""

    def look(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (exc := task.exception()) is not None:
            on_failure(exc)

    task = asyncio.create_task(work)
    task.add_done_callback(look)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
