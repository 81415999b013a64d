"""rebuild: a database that the volume does not hold as it was published is made anew of the store.

At start no upload is merged into a database before that was looked at. Several are looked at, and
several are restored, at once: the one that was changed last comes first.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from headrace.durable import fsync_path
from headrace.errors import LitestreamError, ProofError
from headrace.litestream_restore import LitestreamRestore
from headrace.sums import sum_file
from ingest.insist import insist
from ingest.volume import make_empty, new_lineage
from ingest.watchdog import verify_apart

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from headrace.generation import Cut
    from headrace.keys import PrimaryPaths
    from headrace.store import Store
    from ingest.metrics import IngestMetrics
    from ingest.primary import Primary

log = structlog.get_logger()

PARALLEL = 4  # databases at once


class Rebuilder:
    """Looks at every database once, and makes anew those that the volume does not hold."""

    def __init__(
        self, paths: PrimaryPaths, store: Store, primary: Primary, metrics: IngestMetrics
    ) -> None:
        self._paths = paths
        self._primary = primary
        self._metrics = metrics
        self._litestream = LitestreamRestore(store)
        self._turns = asyncio.Semaphore(PARALLEL)
        self._locked: dict[str, AsyncExitStack] = {}

    async def lock_all(self) -> None:
        """Keep every database from being changed until ``run`` has looked at it."""
        for name in self._primary.state.databases:
            stack = self._locked[name] = AsyncExitStack()
            await stack.enter_async_context(self._primary.database_lock(name))

    async def run(self, missing: Collection[str]) -> None:
        """Look at every database that was locked; each is free as soon as it is ready.

        Args:
            missing: Those that the volume is known not to hold.
        """
        started_s = time.monotonic()
        databases = self._primary.state.databases
        newest_first = sorted(self._locked, key=lambda name: databases[name].updated_at)[::-1]
        async with asyncio.TaskGroup() as tasks:
            for name in newest_first:
                tasks.create_task(self._make_ready(name, whole=name not in missing))
        if self._locked:
            seconds = round(time.monotonic() - started_s, 2)
            log.info("databases ready", count=len(self._locked), rebuilt=len(missing), s=seconds)

    async def _make_ready(self, name: str, *, whole: bool) -> None:
        async with self._locked[name], self._turns:
            cut = self._primary.state.databases[name]
            if whole and await self._is_sound(name, cut):
                return
            await insist(
                lambda: self._rebuild(name, cut), LitestreamError, "rebuild failed", database=name
            )

    async def _is_sound(self, name: str, cut: Cut) -> bool:
        """Say whether the volume's file is what was replicated of it."""
        await self._primary.replicate(name, cut)  # what a crash left in the WAL
        differs = await verify_apart(self._paths.database(name, cut.lineage))
        self._metrics.verifications.labels("differs" if differs else "equal").inc()
        if differs:
            log.error("database differs from its replica", database=name, why=differs)
        return differs is None

    async def _rebuild(self, name: str, cut: Cut) -> None:
        """Restore a database as it was published, and publish it as a new lineage.

        Raises:
            LitestreamError: It could not be restored, or is not what was published.
        """
        started_s = time.monotonic()
        folder = self._paths.staging / f"rebuild-{name}"
        await asyncio.to_thread(make_empty, folder)
        restored = folder / "restored.db"
        reason = await self._litestream.run(name, cut, restored)
        if reason is not None:
            raise LitestreamError(f"cannot restore {name}: {reason}")
        lineage = new_lineage()
        target = self._paths.database(name, lineage)
        await asyncio.to_thread(_keep, restored, cut, target)
        fresh = await self._primary.replicate(name, replace(cut, lineage=lineage))
        await self._primary.publish(cause={"kind": "rebuild"}, databases={name: fresh})
        self._metrics.rebuilds.inc()
        seconds = round(time.monotonic() - started_s, 2)
        log.info("database rebuilt", database=name, lineage=lineage, s=seconds)


def _keep(restored: Path, cut: Cut, target: Path) -> None:
    """Move a restored file to its place, if it is what was published.

    Raises:
        LitestreamError: It is not.
    """
    try:
        checksum = sum_file(restored, cut.page_size).value
    except ProofError as exc:
        raise LitestreamError(f"cannot use what was restored: {exc}") from exc
    if cut.checksum not in {None, checksum}:
        raise LitestreamError("what was restored is not what was published")
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    restored.rename(target)
    fsync_path(target)
