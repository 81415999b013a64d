"""What the holder of the lease runs: the parts of a primary, put together and opened."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from headrace.clock import SteadyClock
from headrace.config import find_litestream_config, find_or_make_secret
from headrace.errors import ConfigError
from headrace.generation import State
from headrace.idempotency import KeysInFlight
from headrace.keys import JOURNAL_DATABASE, PrimaryPaths
from headrace.place import Place
from headrace.sockets import private_sockets
from headrace.web import Requests, listening
from ingest.access import Access
from ingest.api import Node, make_app
from ingest.api.node import RowLimits
from ingest.archive import Archive
from ingest.audit import AuditLog
from ingest.background import background
from ingest.buckets.watching import Buckets
from ingest.buffers import Buffers
from ingest.catching_up import CatchingUp
from ingest.checksums import Checksums
from ingest.conversion_limits import conversion_limits
from ingest.disk import Disk
from ingest.fetch import Fetcher
from ingest.fetch_rules import FetchRules
from ingest.holds import Holds
from ingest.incoming import Incoming
from ingest.journal import Journal, Options
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
from ingest.sending import Sending
from ingest.succession import JournalReplica, find_journal
from ingest.token_store import TokenStore
from ingest.turns import Places
from ingest.tus import sweep
from ingest.tus.uploads import TusUploads
from ingest.upload import Uploads
from ingest.volume import clean, find_held
from ingest.watchdog import Watchdog
from ingest.watchers import Watchers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AsyncExitStack

    from headrace.config import IngestSettings
    from headrace.log import GenerationLog
    from headrace.receipt import Receipt
    from headrace.stopping import Stop
    from headrace.store import Store
    from headrace.web import Listener
    from ingest.buckets.places import Watched
    from ingest.journal import Options
    from ingest.lease import LeaseHolder, Taken
    from ingest.metrics import IngestMetrics

log = structlog.get_logger()

READ_BUFFER_BYTES = 64 * 1024  # of a connection; twice as much of a body comes before it is read


async def lead(
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
    unfinished = await journal.read_unfinished()
    # A journal that was restored may not know of merges that the volume's databases hold already.
    held = publisher.state if believed and journal_lineage == lease.journal else State()
    sound = await _keep_sound(paths, held, journal_lineage, unfinished)
    sockets = stack.enter_context(private_sockets(paths.root))
    litestream = Litestream(
        config=find_litestream_config(settings.litestream_config),
        paths=paths,
        store=store,
        socket_path=sockets / "litestream.sock",
        metrics=metrics,
        stop=stop,
    )
    await stack.enter_async_context(background(lease.while_held(litestream.run), give_up))
    # Before Litestream ends: the last connection to close would take the WAL away from it.
    stack.push_async_callback(journal.close)
    sending = Sending(store)
    primary = Primary(
        paths=paths,
        store=store,
        sending=sending,
        litestream=litestream,
        publisher=publisher,
        checksums=Checksums(paths, store, metrics),
        metrics=metrics,
        held=sound.values(),
    )
    metrics.watch_databases(lambda: primary.state.databases, journal_lineage)
    rebuilder = Rebuilder(paths, store, primary, metrics)
    await rebuilder.lock(publisher.state.databases.keys() - sound.keys())
    await stack.enter_async_context(background(rebuilder.run(), give_up))
    registry = load_registry(configured(settings), partial(_count_broken_plugin, metrics))
    disk = Disk(paths.root, settings.disk_reserve, metrics)
    buffers, holds = Buffers(), Holds()
    archive = Archive(
        store, sending, disk, buffers, on=settings.archive, retention=retention.uploads
    )
    journal_replica = JournalReplica(litestream, lease, journal_lineage, stop=stop, metrics=metrics)
    await stack.enter_async_context(background(journal_replica.run(), give_up))
    tus = TusUploads(paths.tus, timedelta(hours=settings.tus_expiry))
    await tus.shelf.load(believed=taken.believed)
    metrics.tus_uploads.set_function(tus.shelf.count_open)
    limits = conversion_limits(settings, paths)
    uploads = Uploads(
        paths=paths,
        clock=clock,
        journal=journal,
        archive=archive,
        disk=disk,
        primary=primary,
        registry=registry,
        metrics=metrics,
        limits=limits,
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
    catching_up = CatchingUp(paths=paths, journal=journal, primary=primary)
    await _resume(
        stack, unfinished, rows=rows, uploads=uploads, catching_up=catching_up, give_up=give_up
    )
    await stack.enter_async_context(background(Watchdog(paths, primary, metrics).run(), give_up))
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
    await stack.enter_async_context(background(pruner.run(), give_up))
    tokens = TokenStore(journal, clock.now)
    await tokens.load()
    audit = AuditLog(journal, tokens, clock.now, timedelta(days=settings.audit_retention))
    await stack.enter_async_context(background(audit.run(), give_up))
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
        buffers=buffers,
        disk=disk,
        keys_in_flight=KeysInFlight(),
        journal=journal,
        journal_replica=journal_replica,
        uploads=uploads,
        previews=Previews(
            paths.staging,
            registry=registry,
            limits=limits,
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


async def _keep_sound(
    paths: PrimaryPaths,
    held: State,
    journal_lineage: str,
    unfinished: Iterable[tuple[Receipt, Options]],
) -> dict[str, str]:
    """Delete from the volume what nobody knows; give the lineages of the databases that are sound.

    Args:
        paths: The volume.
        held: What it may hold.
        journal_lineage: The journal's.
        unfinished: Uploads whose spooled files stay.
    """
    files = find_held(paths, held)
    damaged = await find_damaged(files)
    sound = {name: held.databases[name].lineage for name in files.keys() - damaged}
    kept = {*sound.items(), (JOURNAL_DATABASE, journal_lineage)}
    spooled = {receipt.id for receipt, _options in unfinished}
    await asyncio.to_thread(clean, paths, kept=kept, spooled=spooled)
    return sound


async def _resume(
    stack: AsyncExitStack,
    unfinished: list[tuple[Receipt, Options]],
    *,
    rows: RowWriter,
    uploads: Uploads,
    catching_up: CatchingUp,
    give_up: Callable[[BaseException], None],
) -> None:
    """Go on with what a stop left: in this order they ask for the databases, before all else."""
    stack.push_async_callback(rows.park)
    stack.push_async_callback(uploads.park)
    await rows.resume(unfinished)
    await uploads.resume(unfinished)
    await stack.enter_async_context(background(catching_up.run(), give_up))


async def _open(
    stack: AsyncExitStack,
    settings: IngestSettings,
    node: Node,
    give_up: Callable[[BaseException], None],
) -> Listener:
    """Take uploads, by each of the ways in; the stack ends it."""
    incoming = Incoming(node, node.store, alone=not node.buckets.sees_readers)
    await stack.enter_async_context(background(incoming.run(), give_up))
    await stack.enter_async_context(background(node.buckets.run(node), give_up))
    await stack.enter_async_context(background(Scheduler(node).run(), give_up))
    sweep_s = min(sweep.LOOK_EVERY_S, settings.tus_expiry * 3600)
    await stack.enter_async_context(background(sweep.run(node, every_s=sweep_s), give_up))
    # A client that hangs up must not cancel the writing down of what happened to its upload.
    listener = await stack.enter_async_context(
        listening(
            make_app(node),
            settings.host,
            settings.port,
            handler_cancellation=False,
            read_bufsize=READ_BUFFER_BYTES,
        )
    )
    log.info(
        "ingest is ready",
        port=listener.port,
        generation=node.publisher.state.number,
        epoch=node.lease.epoch,
        store=node.store.url,
    )
    return listener


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


def _count_broken_plugin(metrics: IngestMetrics, plugin: str, exc: BaseException) -> None:
    """Say that a plugin is left out: one that is broken does not stop the primary."""
    log.error("plugin not loaded", plugin=plugin, error=repr(exc))
    metrics.plugin_failures.labels(plugin).inc()


def _token(settings: IngestSettings) -> str:
    if settings.token is not None:
        return settings.token
    return find_or_make_secret(Path(settings.data) / "token")
