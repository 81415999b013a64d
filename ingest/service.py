"""``headrace ingest``: a node that has the lease, or waits for it."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from headrace.config import store_url
from headrace.errors import ConfigError
from headrace.exposition import metrics_app
from headrace.heap import give_back_heap_at_rest, use_one_heap
from headrace.keys import PrimaryPaths
from headrace.lease import LeaseLog
from headrace.lock import find_or_make_identity, volume_lock
from headrace.log import GenerationLog
from headrace.logs import configure_logs
from headrace.open_files import allow_many_open_files
from headrace.privacy import forbid_inspection
from headrace.stopping import Stop
from headrace.store import Store
from headrace.store_costs import find_prices
from headrace.tracing import tracing
from headrace.web import listening
from ingest.background import background
from ingest.buckets.places import make_watched
from ingest.leading import lead
from ingest.lease import LeaseHolder
from ingest.lease_note import LeaseNote
from ingest.metrics import IngestMetrics
from ingest.stopping import come_to_rest
from ingest.volume import make_folders, sort_on_volume

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from headrace.config import IngestSettings
    from ingest.lease import Taken

log = structlog.get_logger()

Done = TypeVar("Done")

# A thread that is done waits up to so long for a busy event loop, and a batch of rows has several
# in a row. With Python's 5 ms, they took most of its time.
SWITCH_S = 0.0005


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
    use_one_heap()
    allow_many_open_files()
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
        await stack.enter_async_context(background(give_back_heap_at_rest(), give_up))
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
        await stack.enter_async_context(background(lease.run(), give_up))
        leading = lead(
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
        LeaseNote(paths.lease, paths.lock),
        duration_s=settings.lease_duration,
        renew_every_s=settings.lease_renewal,
        metrics=metrics,
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
