"""succession: what a primary goes on with, of its volume and of the store.

The volume is believed only if nobody else was the primary since it was written. Else, or where it
lacks what is published, the store is what counts: the journal is restored as far as it goes, and
each database as it was published (ingest/rebuild.py). Both become new lineages, so what a primary
that lost its lease may still write to the old ones is in nobody's way (invariant I5).
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import structlog

from headrace.durable import fsync_path
from headrace.errors import LeaseLostError, LitestreamError, Refusal, StoreError
from headrace.keys import JOURNAL_DATABASE, ltx_level_key, parse_ltx_name
from headrace.litestream_restore import LitestreamRestore
from ingest.insist import insist
from ingest.stopping import RECEIPTS
from ingest.volume import make_empty, new_lineage

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from headrace.keys import PrimaryPaths
    from headrace.stopping import Stop
    from headrace.store import Store
    from ingest.lease import LeaseHolder
    from ingest.metrics import IngestMetrics
    from ingest.replicate import Litestream

log = structlog.get_logger()

STALL_S = 30.0  # without an answer of the store
KEEP_TIMEOUT_S = 10.0  # until an answer waits no longer for the journal


async def find_journal(
    paths: PrimaryPaths, store: Store, named: str | None, *, believed: bool, anew: bool
) -> str:
    """Find the lineage of the journal to go on with; the volume has it then, if there is any.

    Args:
        paths: The volume.
        store: Where it is replicated to.
        named: The lineage that the lease names; None: there was no journal yet.
        believed: Whether the volume's own may be gone on with.
        anew: Whether to begin an empty one if there is none any more, here or there.

    Raises:
        LitestreamError: It is not here, or damaged, and could not be restored.
        StoreError: The store could not be asked.
    """
    if named is None:
        return new_lineage()
    fault = "another primary had the lease since it was written"
    if believed:
        found = await _find_fault(paths, store, named)
        if found is None:
            return named
        fault = found
    log.warning("journal of the volume not used", lineage=named, why=fault)
    try:
        return await _restore_journal(paths, store, named)
    except LitestreamError as exc:
        if not anew:
            raise LitestreamError(
                f"cannot go on without the journal: {exc}; that of the volume: {fault}",
                hint="what is published is not touched. If the store is sound, start again. If the "
                "journal is lost in both places, --new-journal on begins an empty one",
            ) from exc
        log.warning("journal begun anew: all receipts are lost", reason=str(exc))
        return new_lineage()


async def _find_fault(paths: PrimaryPaths, store: Store, named: str) -> str | None:
    """Say why the volume's journal cannot be gone on with; None if it can."""
    fault = await asyncio.to_thread(find_damage, paths.database(JOURNAL_DATABASE, named))
    if fault is not None:
        return fault
    folder = paths.level0_folder(JOURNAL_DATABASE, named)
    local = _newest_txid(each.name for each in folder.glob("*.ltx"))
    prefix = ltx_level_key(JOURNAL_DATABASE, named, 0, s3=store.is_s3)
    replicated = _newest_txid(await store.list_sizes(prefix, stall_s=STALL_S))
    return None if local >= replicated else f"it is at TXID {local}, its replica at {replicated}"


async def _restore_journal(paths: PrimaryPaths, store: Store, named: str) -> str:
    lineage = new_lineage()
    target = paths.database(JOURNAL_DATABASE, lineage)
    folder = paths.staging / "journal"
    await asyncio.to_thread(make_empty, folder)
    restored = folder / lineage
    reason = await LitestreamRestore(store).run(JOURNAL_DATABASE, named, None, restored)
    if reason is not None:
        raise LitestreamError(f"cannot restore the journal: {reason}")
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    restored.rename(target)
    await asyncio.to_thread(fsync_path, target)
    log.info("journal restored", lineage=lineage, from_lineage=named)
    return lineage


class JournalReplica:
    """The journal in the store: nothing is answered for before it is there.

    Args:
        litestream: Replicates it.
        lease: Names it, so that a successor finds it.
        lineage: Its lineage.
        stop: Bounds how long an answer waits.
        metrics: Told how long it takes.
    """

    def __init__(
        self,
        litestream: Litestream,
        lease: LeaseHolder,
        lineage: str,
        *,
        stop: Stop,
        metrics: IngestMetrics,
    ) -> None:
        self._litestream = litestream
        self._lease = lease
        self._lineage = lineage
        self._stop = stop
        self._metrics = metrics
        self._asked = asyncio.Event()
        self._next: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Replicate for all who wait, until cancelled; who comes meanwhile waits for the next time.

        So a crowd waits for two syncs at most, and not each for those of all others.
        """
        while True:
            await self._asked.wait()
            self._asked.clear()
            done, self._next = self._next, asyncio.get_running_loop().create_future()
            try:
                await insist(self._sync, LitestreamError, "journal not replicated")
                if self._lease.journal != self._lineage:
                    await insist(self._name, StoreError, "journal not named")
            except LeaseLostError as exc:
                done.set_exception(exc)
            else:
                done.set_result(None)

    async def keep(self) -> None:
        """Have all that is journalled where a successor finds it, while the lease is still held.

        Raises:
            Refusal: ``replication-down`` or ``lease-lapsed``: it may be there, or not.
            LeaseLostError: There is a successor.
        """
        try:
            async with asyncio.timeout(KEEP_TIMEOUT_S), self._stop.limit(RECEIPTS):
                await self.replicate()
        except TimeoutError as exc:
            raise Refusal(
                "replication-down",
                "the receipt could not be replicated: look for it before you send the file again",
            ) from exc
        self._lease.check()

    async def replicate(self) -> None:
        """Have all that is journalled where a successor finds it, however long that takes.

        Raises:
            LeaseLostError: There is a successor.
        """
        with self._metrics.replication.commit():
            self._asked.set()
            await asyncio.shield(self._next)

    async def _sync(self) -> None:
        await self._litestream.sync(JOURNAL_DATABASE, self._lineage)

    async def _name(self) -> None:
        await self._lease.name_journal(self._lineage)


def find_damage(journal: Path) -> str | None:
    """Read a whole journal, past SQLite's own checks too; say what is wrong with it, or None.

    It is opened read-only, because whoever closes a database as the last one checkpoints it, and
    deletes its WAL: Litestream has not read all of that.
    """
    if not journal.exists():
        return "it is not there"
    try:
        with closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as db:
            found = str(db.execute("PRAGMA integrity_check(1)").fetchone()[0])
            if found != "ok":
                return found
            rows = db.execute(
                "SELECT id, receipt, options, json_valid(receipt) AND json_valid(options) "
                "FROM receipts"
            )
            for receipt_id, _receipt, _options, is_json in rows:
                if not is_json:
                    return f"receipt {receipt_id} cannot be read"
    except sqlite3.Error as exc:
        return str(exc)
    return None


def _newest_txid(names: Iterable[str]) -> int:
    """Give the newest transaction of the names of LTX files; 0 if there are none."""
    return max((parsed[1] for name in names if (parsed := parse_ltx_name(name))), default=0)
