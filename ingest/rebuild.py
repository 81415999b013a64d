"""rebuild: a database that the volume does not hold as it was published is made anew of the store.

What the volume holds is looked at before Litestream starts: that would make a snapshot of a damaged
file, and so of the damage. Nothing is merged into a database that is being made anew. Several are
restored at once, the one that was changed last first.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import structlog

from headrace.errors import LitestreamError, RestoreError, StoreError
from headrace.history import restore_cut, restore_exactly
from headrace.litestream_restore import LitestreamRestore
from ingest.insist import insist
from ingest.merge import count_tables, find_tables
from ingest.revivers import Revivers
from ingest.volume import make_empty, new_lineage
from ingest.watchdog import verify_apart

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from headrace.generation import Cut
    from headrace.keys import PrimaryPaths
    from headrace.store import Store
    from ingest.metrics import IngestMetrics
    from ingest.primary import Primary
    from ingest.revivers import Reviver

log = structlog.get_logger()

PARALLEL = 4  # databases at once
_STEPS = ("waited_s", "restored_s", "begun_s", "replicated_s")  # as the log names them


class Rebuilder:
    """Makes databases anew, as they were published."""

    def __init__(
        self, paths: PrimaryPaths, store: Store, primary: Primary, metrics: IngestMetrics
    ) -> None:
        self._paths = paths
        self._store = store
        self._primary = primary
        self._metrics = metrics
        self._litestream = LitestreamRestore(store)
        self._revivers = Revivers()
        self._turns = asyncio.Semaphore(PARALLEL)
        self._locked: dict[str, AsyncExitStack] = {}

    async def lock(self, names: Iterable[str]) -> None:
        """Keep databases from being changed until ``run`` has made them anew."""
        for name in names:
            stack = self._locked[name] = AsyncExitStack()
            await stack.enter_async_context(self._primary.database_lock(name))

    async def run(self) -> None:
        """Make every database anew that was locked; each is free as soon as it is ready."""
        if not self._locked:
            return
        started_s = time.monotonic()
        databases = self._primary.state.databases
        newest_first = sorted(self._locked, key=lambda name: databases[name].updated_at)[::-1]
        async with asyncio.TaskGroup() as tasks:
            for name in newest_first:
                tasks.create_task(self._make_ready(name))
        seconds = round(time.monotonic() - started_s, 2)
        log.info("databases rebuilt", count=len(newest_first), s=seconds)

    async def revive(self, name: str, cut: Cut, *, nearest: bool) -> tuple[Cut, int]:
        """Restore a cut into a new lineage, which is replicated.

        Called under the database's lock.

        Args:
            name: The database.
            cut: What is wanted.
            nearest: Whether what was there shortly before will do, if the cut is not kept any more
                (``restore_cut``). Only for who goes back: else acknowledged rows would be lost.

        Returns:
            Its cut, to be published, and the TXID that it was restored at. If that is not the one
            that was wanted, the cut has no source.

        Raises:
            LitestreamError: It could not be restored.
        """
        lineage = new_lineage()
        at_s = [time.monotonic()]
        async with self._turns:
            async with self._revivers.one() as reviver:
                at_s.append(time.monotonic())
                cut, txid, restored = await self._restore(reviver, name, cut, nearest=nearest)
                at_s.append(time.monotonic())
                failure = await reviver.adopt(restored, self._paths.database(name, lineage))
                if failure is not None:
                    raise LitestreamError(f"cannot begin a lineage of {name}: {failure}")
                at_s.append(time.monotonic())
            cut = await self._primary.replicate(name, replace(cut, lineage=lineage))
        at_s.append(time.monotonic())
        steps_s = {
            step: round(end_s - begin_s, 3)
            for step, (begin_s, end_s) in zip(_STEPS, pairwise(at_s), strict=True)
        }
        log.info("database revived", database=name, lineage=lineage, from_txid=txid, **steps_s)
        return cut, txid

    async def _restore(
        self, reviver: Reviver, name: str, cut: Cut, *, nearest: bool
    ) -> tuple[Cut, int, Path]:
        """Restore a cut; give what came of it, its TXID, and its file."""
        folder = self._paths.staging / f"revive-{name}"
        restored = folder / "restored.db"
        await asyncio.to_thread(make_empty, folder)
        failure = await reviver.restore(self._store, name, cut, restored)
        if failure is None:
            return await _with_its_tables(cut, restored), cut.txid, restored
        log.warning("litestream restores instead", database=name, reason=failure)
        await asyncio.to_thread(make_empty, folder)
        txid = cut.txid
        try:
            if nearest:
                txid = await restore_cut(self._store, self._litestream, name, cut, restored)
            else:
                await restore_exactly(self._litestream, name, cut, restored)
        except (RestoreError, StoreError) as exc:
            raise LitestreamError(str(exc), hint=exc.hint) from exc
        if txid != cut.txid:
            tables = await asyncio.to_thread(count_tables, restored)
            return replace(cut, tables=tables, source=None), txid, restored
        return await _with_its_tables(cut, restored), txid, restored

    async def _make_ready(self, name: str) -> None:
        async with self._locked[name]:
            cut = self._primary.state.databases[name]
            fresh, _txid = await insist(
                lambda: self.revive(name, cut, nearest=False),
                LitestreamError,
                "rebuild failed",
                database=name,
            )
            await self._primary.publish(cause={"kind": "rebuild"}, databases={name: fresh})
            self._metrics.rebuilds.inc()


async def _with_its_tables(cut: Cut, restored: Path) -> Cut:
    """Give a cut that names no table that is not there: no reader would show it."""
    if cut.tables.keys() <= await asyncio.to_thread(find_tables, restored):
        return cut
    return replace(cut, tables=await asyncio.to_thread(count_tables, restored))


async def find_damaged(held: Mapping[str, Path]) -> set[str]:
    """Find which files are not what was replicated of them, while nothing has them open.

    Args:
        held: File of each database.
    """
    by_size = sorted(held, key=lambda name: -held[name].stat().st_size)
    shares = [by_size[start::PARALLEL] for start in range(min(PARALLEL, len(by_size)))]
    looks = (verify_apart(*(held[name] for name in share), at_rest=True) for share in shares)
    damaged = set()
    for share, found in zip(shares, await asyncio.gather(*looks), strict=True):
        for name, differs in zip(share, found, strict=True):
            if differs is not None:
                log.error("database is damaged", database=name, why=differs)
                damaged.add(name)
    return damaged
