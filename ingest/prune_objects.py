"""prune: lineages and archives that no kept generation names are deleted, never a live one.

Only the holder of the lease does it, and it asks for the lease before each deletion. What lies on
its volume is being written, or live: so an upload that is on its way to be published, and the
journal, are safe whatever the log says. A name that is free once is free for ever, since every
lineage and every receipt has a new one: so a primary that lost its lease in the middle of a prune,
and goes on a little, deletes only what its successor deletes as well.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from headrace.errors import HeadraceError, LogError
from headrace.keys import (
    DBS_PREFIX,
    GENERATIONS_PREFIX,
    INCOMING_PREFIX,
    INCOMING_RECEIPTS_PREFIX,
    JOURNAL_DATABASE,
    LEASES_PREFIX,
    PROBES_PREFIX,
    READERS_PREFIX,
    UPLOADS_PREFIX,
    lineage_key,
    parse_incoming_receipt_key,
    parse_lease_key,
    parse_lineage_key,
    parse_log_key,
    parse_upload_folder,
)
from headrace.lease import KEPT as LEASES_KEPT
from ingest.kept import KeptGenerations, find_first_kept
from ingest.trim import choose_files

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from datetime import datetime

    from headrace.keys import PrimaryPaths
    from headrace.log import GenerationLog
    from headrace.store import Listed, Store
    from ingest.holds import Holds
    from ingest.journal import Journal
    from ingest.kept import Named
    from ingest.lease import LeaseHolder
    from ingest.metrics import IngestMetrics
    from ingest.primary import Primary
    from ingest.prune import LogObject, LogPruner

log = structlog.get_logger()

INTERVAL_S = 6 * 3600.0  # between two prunes: a few listings each
REPORTS_KEPT = timedelta(days=1)
STALL_S = 30.0  # without an answer of the store

LINEAGE, LTX, ARCHIVE = "lineage", "ltx", "archive"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Doomed:
    """Something that nobody needs any more.

    Attributes:
        kind: ``lineage``, ``ltx`` (some files of a live lineage), ``archive``, ``lease``,
            ``probe``, ``report``, ``incoming``, ``entry`` or ``checkpoint``.
        name: Its key, or the prefix of its keys.
        objects: How many they are.
        size_bytes: Of all of them.
        keys: Of the objects, if they are not all under the prefix.
    """

    kind: str
    name: str
    objects: int
    size_bytes: int
    keys: tuple[str, ...] = ()

    @classmethod
    def of(cls, kind: str, name: str, files: Sequence[Listed], *, all_there: bool = True) -> Doomed:
        """Give some listed files of a prefix, or all of them."""
        return cls(
            kind=kind,
            name=name,
            objects=len(files),
            size_bytes=sum(each.size_bytes for each in files),
            keys=() if all_there else tuple(each.key for each in files),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long things are kept.

    Attributes:
        generations: After the next one took their place; with them the lineages that they name.
        uploads: Archived uploads, from when they came.
    """

    generations: timedelta
    uploads: timedelta


class Pruner:
    """Finds out what nobody needs, and deletes it.

    Args:
        store: Where it lies.
        generations: The log.
        log_pruner: Prunes the log itself.
        primary: Knows what is live.
        paths: The volume.
        journal: Knows which uploads are on their way.
        lease: Has to be held.
        holds: What is being read just now.
        retention: How long things are kept.
        metrics: Counts what was deleted.
    """

    def __init__(
        self,
        *,
        store: Store,
        generations: GenerationLog,
        log_pruner: LogPruner,
        primary: Primary,
        paths: PrimaryPaths,
        journal: Journal,
        lease: LeaseHolder,
        holds: Holds,
        retention: Retention,
        metrics: IngestMetrics,
    ) -> None:
        self._store = store
        self._kept = KeptGenerations(generations)
        self._log_pruner = log_pruner
        self._primary = primary
        self._paths = paths
        self._journal = journal
        self._lease = lease
        self._holds = holds
        self._retention = retention
        self._metrics = metrics
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Prune until cancelled; what fails is tried again the next time."""
        while True:
            try:
                await self.prune()
            except HeadraceError as exc:
                log.warning("prune failed", error=str(exc))
            await asyncio.sleep(INTERVAL_S)

    async def prune(self) -> list[Doomed]:
        """Delete what nobody needs; give what that was.

        Raises:
            LogError: The log cannot be read, so nothing was deleted.
            Refusal: ``lease-lapsed``: somebody else may be the primary.
            StoreError: The store could not be asked; what was deleted by then was not needed.
        """
        async with self._turn:
            done = [each for each in await self._find() if await self._delete(each)]
            in_log = await self._log_pruner.find_below()
            await self._log_pruner.prune()
        if done:
            counts = Counter(each.kind for each in done)
            size_bytes = sum(each.size_bytes for each in done)
            log.info("store pruned", bytes=size_bytes, **counts)
        return [*done, *(_of_log(each) for each in in_log)]

    async def plan(self) -> list[Doomed]:
        """Give what ``prune`` would delete, and delete nothing.

        Raises:
            LogError: The log cannot be read.
            StoreError: The store could not be asked.
        """
        in_log = await self._log_pruner.find_below()
        return [*await self._find(), *map(_of_log, in_log)]

    async def _find(self) -> list[Doomed]:
        leases = await self._list(LEASES_PREFIX)
        now = max((each.modified_at for each in leases), default=None)
        if now is None:
            raise LogError("find no lease, so the store's time is not known")
        # The log is read after this: whatever is listed here and published later is on the volume.
        lineages = await self._list_lineages()
        uploads = await self._list(UPLOADS_PREFIX)
        named = await self._read_named(since=now - self._retention.generations)
        # Before the journal is read: what is taken meanwhile is in one of them.
        incoming = await self._list(INCOMING_RECEIPTS_PREFIX)
        awaited = {parse_incoming_receipt_key(each.key) or "" for each in incoming}
        unfinished = {receipt.id for receipt, _options in await self._journal.read_unfinished()}
        since = now - self._retention.uploads
        doomed = [
            *choose_archives(uploads, kept=named.receipts | unfinished | awaited, since=since),
            *choose_leases(leases),
            *choose_probes(await self._list(PROBES_PREFIX), since=since),
            *choose_reports(await self._list(READERS_PREFIX), since=now - REPORTS_KEPT),
            *choose_halves(incoming, await self._list(INCOMING_PREFIX), since=since),
        ]
        since = now - self._retention.generations
        for database, lineage in lineages:
            name = lineage_key(database, lineage)
            if self._is_live(database, lineage):
                files = choose_files(
                    await self._list(name),
                    needed_from=named.lineages.get((database, lineage)),
                    since=since,
                )
                if files:
                    doomed.append(Doomed.of(LTX, name, files, all_there=False))
            elif (database, lineage) not in named.lineages and not self._is_here(database, lineage):
                files = await self._list(name)
                # One that was never published has an age all the same.
                if files and all(each.modified_at <= since for each in files):
                    doomed.append(Doomed.of(LINEAGE, name, files))
        return sorted(doomed)

    async def _list(self, prefix: str) -> list[Listed]:
        return [each async for each in self._store.list_objects(prefix, stall_s=STALL_S)]

    async def _list_lineages(self) -> set[tuple[str, str]]:
        return {
            parsed
            for database in await self._store.list_folders(DBS_PREFIX, stall_s=STALL_S)
            for prefix in await self._store.list_folders(database, stall_s=STALL_S)
            if (parsed := parse_lineage_key(prefix)) is not None
        }

    async def _read_named(self, *, since: datetime) -> Named:
        written_at = {
            parsed[0]: each.modified_at
            for each in await self._list(GENERATIONS_PREFIX)
            if (parsed := parse_log_key(each.key)) is not None and not parsed[1]
        }
        newest = self._primary.state.number
        first = find_first_kept(written_at, newest=newest, since=since)
        return await self._kept.read(first, newest)

    def _is_live(self, database: str, lineage: str) -> bool:
        """Say whether a lineage is what is published last, or the journal of the lease."""
        if database == JOURNAL_DATABASE:
            return lineage == self._lease.journal
        live = self._primary.state.databases.get(database)
        return live is not None and live.lineage == lineage

    def _is_here(self, database: str, lineage: str) -> bool:
        """Say whether a lineage is on this volume: it may be about to be published."""
        return self._paths.database(database, lineage).exists()

    async def _delete(self, doomed: Doomed) -> bool:
        """Delete something, unless it is being read; it is looked at once more."""
        self._lease.check()
        with self._holds.let_go(doomed.name) as free:
            if not free:
                return False
            if doomed.kind == LINEAGE:
                parsed = parse_lineage_key(doomed.name)
                if parsed is None or self._is_live(*parsed) or self._is_here(*parsed):
                    return False
            if doomed.kind == LTX:
                await self._store.delete_keys(doomed.keys)
            elif doomed.kind in {LINEAGE, ARCHIVE}:
                await self._store.delete_all(doomed.name, stall_s=STALL_S)
            else:
                await self._store.delete(doomed.name)
        self._metrics.pruned.labels(doomed.kind).inc(doomed.objects)
        self._metrics.pruned_bytes.inc(doomed.size_bytes)
        return True


def choose_archives(
    uploads: Iterable[Listed], *, kept: Container[str], since: datetime
) -> list[Doomed]:
    """Give the archived uploads that are too old, but those of some receipts."""
    folders: defaultdict[str, list[Listed]] = defaultdict(list)
    for each in uploads:
        folders[each.key.rpartition("/")[0]].append(each)
    return [
        Doomed.of(ARCHIVE, folder, files)
        for folder, files in folders.items()
        if (receipt_id := parse_upload_folder(folder)) is not None
        and receipt_id not in kept
        and all(each.modified_at <= since for each in files)
    ]


def choose_leases(leases: Iterable[Listed]) -> list[Doomed]:
    """Give the entries of the lease's log that its own pruning left."""
    found = {number: each for each in leases if (number := parse_lease_key(each.key)) is not None}
    newest = max(found, default=0)
    return [_one("lease", each) for number, each in found.items() if number <= newest - LEASES_KEPT]


def choose_probes(probes: Iterable[Listed], *, since: datetime) -> list[Doomed]:
    """Give what a primary left that ended while it tried the store."""
    return [_one("probe", each) for each in probes if each.modified_at <= since]


def choose_reports(reports: Iterable[Listed], *, since: datetime) -> list[Doomed]:
    """Give what readers said of themselves while the primary was away, once that is long ago."""
    return [_one("report", each) for each in reports if each.modified_at <= since]


def choose_halves(
    receipts: Iterable[Listed], requests: Sequence[Listed], *, since: datetime
) -> list[Doomed]:
    """Give the receipts of uploads that a reader did not finish taking; none while others wait."""
    if requests:
        return []
    return [_one("incoming", each) for each in receipts if each.modified_at <= since]


def _one(kind: str, listed: Listed) -> Doomed:
    return Doomed.of(kind, listed.key, [listed])


def _of_log(each: LogObject) -> Doomed:
    return Doomed(kind=each.kind, name=each.key, objects=1, size_bytes=each.size_bytes)
