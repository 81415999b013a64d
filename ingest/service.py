"""``headrace ingest``: the primary, put together and run."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from headrace.config import find_litestream_config, find_or_make_secret, store_url
from headrace.keys import PrimaryPaths, socket_folder
from headrace.lock import volume_lock
from headrace.log import GenerationLog
from headrace.logs import configure_logs
from headrace.privacy import forbid_inspection
from headrace.signals import stop_signals
from headrace.store import Store
from headrace.web import listening, metrics_app
from ingest.api import Node, make_app
from ingest.auth import Tokens
from ingest.checksums import Checksums
from ingest.converters import Limits
from ingest.converters.registry import Converter
from ingest.journal import Journal
from ingest.metrics import IngestMetrics
from ingest.plugins import load_registry
from ingest.primary import Primary
from ingest.prune import Pruner
from ingest.publish import Publisher
from ingest.regions import Regions
from ingest.replicate import Litestream
from ingest.upload import Uploads
from ingest.volume import check_and_clean, make_folders
from ingest.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headrace.config import IngestSettings
    from headrace.errors import PrimaryLostError

log = structlog.get_logger()

_TOKENS = ("token", "secret")
STOP_UPLOADS_S = 20.0  # seconds for uploads in flight at a stop; the rest goes on at the next start


async def run(settings: IngestSettings) -> None:
    """Run the primary until SIGINT or SIGTERM.

    Raises:
        ConfigError: It cannot start like this.
        LogError: The log cannot be read.
        PrimaryLostError: Another primary has published.
    """
    configure_logs("ingest")
    forbid_inspection()  # converters run as the same user
    paths = PrimaryPaths(settings.data.absolute())
    make_folders(paths)
    store = Store(store_url(settings))
    stopping = stop_signals()
    lost: list[PrimaryLostError] = []

    def give_up(exc: PrimaryLostError) -> None:
        lost.append(exc)
        stopping.set()

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(volume_lock(paths.lock))
        generations = GenerationLog(store)
        state = await generations.read_newest()
        journal = Journal(paths.journal)
        stack.push_async_callback(journal.close)
        unfinished = {receipt.id for receipt, _options in await journal.read_unfinished()}
        await asyncio.to_thread(check_and_clean, paths, state, unfinished)
        metrics = IngestMetrics()
        publisher = Publisher(generations, state)
        litestream = Litestream(
            config=find_litestream_config(settings.litestream_config),
            paths=paths,
            store=store,
            socket_path=socket_folder(paths.root) / "litestream.sock",
            metrics=metrics,
        )
        await stack.enter_async_context(_running(litestream))
        primary = Primary(
            paths=paths,
            store=store,
            litestream=litestream,
            publisher=publisher,
            checksums=Checksums(paths, store, metrics),
            metrics=metrics,
        )
        registry = load_registry(_configured(settings), partial(_count_broken_plugin, metrics))
        uploads = Uploads(
            paths=paths,
            journal=journal,
            primary=primary,
            registry=registry,
            metrics=metrics,
            limits=_limits(settings, paths),
            on_lost=give_up,
        )
        stack.push_async_callback(uploads.stop, STOP_UPLOADS_S)
        await uploads.resume()
        await stack.enter_async_context(_running(Watchdog(paths, primary, metrics)))
        retention = timedelta(days=settings.log_retention)
        await stack.enter_async_context(_running(Pruner(store, generations, retention, metrics)))
        node = Node(
            paths=paths,
            tokens=Tokens(_token(settings)),
            journal=journal,
            uploads=uploads,
            registry=registry,
            primary=primary,
            publisher=publisher,
            regions=Regions(journal, metrics),
            litestream=litestream,
            metrics=metrics,
            stopping=stopping,
            max_upload_bytes=settings.max_upload,
        )
        # A client that hangs up must not cancel the writing down of what happened to its upload.
        port = await stack.enter_async_context(
            listening(make_app(node), settings.host, settings.port, handler_cancellation=False)
        )
        metrics_port = await stack.enter_async_context(
            listening(metrics_app(metrics.registry), settings.host, settings.metrics_port)
        )
        log.info(
            "ingest is ready",
            port=port,
            metrics_port=metrics_port,
            generation=state.number,
            store=store.url.partition("?")[0],
        )
        await stopping.wait()
        log.info("ingest is stopping")
    if lost:
        raise lost[0]
    log.info("ingest has stopped")


def _configured(settings: IngestSettings) -> list[Converter]:
    """Give the converters that are programs of the configuration."""
    return [
        Converter(
            name=name,
            convert="ingest.converters.command:convert",
            match=each.match,
            settings={"command": each.arguments()},
        )
        for name, each in settings.converters.items()
    ]


def _secrets(paths: PrimaryPaths) -> tuple[str, ...]:
    """List what converters have no business to read: tokens, other uploads, live databases."""
    journal = (
        paths.journal.with_name(f"{paths.journal.name}{end}") for end in ("", "-wal", "-shm")
    )
    # `headrace up` keeps its own one folder above.
    tokens = (folder / name for folder in (paths.root, paths.root.parent) for name in _TOKENS)
    clouds = (Path.home() / name for name in (".aws", ".azure", ".config/gcloud"))
    return tuple(map(str, (paths.dbs, paths.spool, paths.staging, *journal, *tokens, *clouds)))


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
        return settings.token.get_secret_value()
    return find_or_make_secret(Path(settings.data) / "token")


@asynccontextmanager
async def _running(part: Litestream | Watchdog | Pruner) -> AsyncIterator[None]:
    """Run a part of the primary while the block runs."""
    task = asyncio.create_task(part.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
