"""The primary's databases: which lineage of each is live, and what changes them.

Uploads and deletions both end here: change a database under its lock, replicate it, publish it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog

from headrace.errors import LitestreamError, Refusal, StoreError
from headrace.generation import Cut
from headrace.keys import ltx_key
from headrace.metadata import without_table
from ingest.described import check_described
from ingest.insist import insist
from ingest.merge import FIRST_TXIDS
from ingest.volume import delete_lineage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping

    from headrace.generation import Entry, Source, State
    from headrace.keys import PrimaryPaths
    from headrace.store import Store
    from ingest.checksums import Checksums
    from ingest.metrics import IngestMetrics
    from ingest.publish import Publisher
    from ingest.replicate import Litestream
    from ingest.sending import Sending

log = structlog.get_logger()

Metadata: TypeAlias = "Mapping[str, Any]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What came of changing what is said about a database.

    Attributes:
        generation: The one that shows it.
        metadata: What is said now.
        warnings: What Datasette will not show, or that nothing changed.
    """

    generation: int
    metadata: Metadata
    warnings: tuple[str, ...]


class Primary:
    """The live databases of this volume.

    Args:
        paths: The volume.
        store: Where they are replicated to.
        sending: Sends first transactions there.
        litestream: Replicates them.
        publisher: Publishes them.
        checksums: Of what is replicated.
        metrics: Told of each generation.
        held: Lineages that were on the volume at its start.
    """

    def __init__(
        self,
        *,
        paths: PrimaryPaths,
        store: Store,
        sending: Sending,
        litestream: Litestream,
        publisher: Publisher,
        checksums: Checksums,
        metrics: IngestMetrics,
        held: Iterable[str] = (),
    ) -> None:
        self._paths = paths
        self._store = store
        self._sending = sending
        self._checksums = checksums
        self._litestream = litestream
        self._publisher = publisher
        self._metrics = metrics
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._unseen = set(held)  # lineages that Litestream may not have opened yet
        self._observe()

    @property
    def state(self) -> State:
        """The newest generation."""
        return self._publisher.state

    @asynccontextmanager
    async def database_lock(self, database: str) -> AsyncIterator[None]:
        """Hold the lock under which a database is changed, replicated and published.

        Nobody opens a lineage before Litestream has, also after a restart: who closes a database as
        the last one deletes its WAL, with what Litestream has not read of it.
        """
        async with self._locks[database]:
            cut = self.state.databases.get(database)
            if cut is not None and cut.lineage in self._unseen:
                await self._wait_seen(database, cut.lineage)
            yield

    async def _wait_seen(self, database: str, lineage: str) -> None:
        await self._litestream.up.wait()
        await insist(
            lambda: self._litestream.sync(database, lineage),
            LitestreamError,
            "database not opened",
            database=database,
        )
        self._unseen.discard(lineage)

    def cut(self, database: str) -> Cut:
        """Give a database's published cut.

        Raises:
            Refusal: ``not-found``.
        """
        found = self.state.databases.get(database)
        if found is None:
            raise Refusal("not-found", f"there is no database {database!r}")
        return found

    def kept_metadata(self, database: str, tables: Collection[str]) -> Metadata:
        """Give what is still said about a database when it has these tables."""
        before = self.state.databases.get(database)
        if before is None:
            return {}
        metadata: Metadata = before.metadata
        for gone in before.tables.keys() - set(tables):
            metadata = without_table(metadata, gone)
        return metadata

    def unpublished_cut(
        self, lineage: str, tables: Mapping[str, int], source: Source | None
    ) -> Cut:
        """Give the cut of what is not replicated yet; ``replicate`` fills in the rest."""
        return Cut(
            lineage=lineage,
            txid=0,
            page_size=0,
            pages=0,
            tables=tables,
            updated_at=datetime.now(UTC),
            source=source,
        )

    async def replicate(self, database: str, cut: Cut) -> Cut:
        """Have a database's commits in object storage; retries until they are there.

        Raises:
            Refusal: ``internal-error``: its lineage is gone, so they never will be.
        """
        with self._metrics.replication.commit():
            return await insist(
                lambda: self._replicate(database, cut),
                (LitestreamError, StoreError, OSError),  # of a disk that is full
                "replication delayed",
                database=database,
            )

    async def _replicate(self, database: str, cut: Cut) -> Cut:
        live = self.state.databases.get(database)
        begun = live is not None and live.lineage == cut.lineage
        if not begun and not self._paths.database(database, cut.lineage).exists():
            raise Refusal("internal-error", f"lineage {cut.lineage} of {database!r} is gone")
        if not begun and self._paths.sums(database, cut.lineage).exists():
            txid = await self._ship_first(database, cut.lineage)
        else:
            txid = await self._litestream.sync(database, cut.lineage)
        cut = replace(cut, txid=txid)
        sums = await self._checksums.advance(database, cut)
        return replace(cut, page_size=sums.page_size, pages=sums.pages, checksum=sums.value)

    async def _ship_first(self, database: str, lineage: str) -> int:
        """Put the transactions of an adopted lineage into object storage; give the last TXID.

        They lie there as if Litestream had written them, which sees them there and goes on after.
        """
        for txid in FIRST_TXIDS:
            key = ltx_key(database, lineage, 0, txid, txid, s3=self._store.is_s3)
            path = self._paths.level0(database, lineage, txid)
            await self._sending.send(key, path, sender=database)
        self._unseen.add(lineage)
        return FIRST_TXIDS[-1]

    async def publish(
        self,
        *,
        cause: Mapping[str, str],
        databases: Mapping[str, Cut] | None = None,
        removed: tuple[str, ...] = (),
    ) -> Entry:
        """Publish the next generation, and let go of the lineages that it replaces.

        Raises:
            PrimaryLostError: Another primary has published it.
        """
        before = self.state
        entry = await self._publisher.publish(cause=cause, databases=databases, removed=removed)
        self._observe()
        for name in (*entry.databases, *entry.removed):
            old, new = before.databases.get(name), self.state.databases.get(name)
            if old is not None and (new is None or new.lineage != old.lineage):
                await self.let_go(name, old.lineage)
        return entry

    async def change_metadata(
        self, database: str, change: Callable[[Metadata], Metadata]
    ) -> Described:
        """Publish a generation in which something else is said about a database.

        Args:
            database: Its name.
            change: Gives what is said, from what was said before.

        Raises:
            Refusal: ``not-found`` or ``invalid-metadata``.
        """
        async with self.database_lock(database):
            cut = self.cut(database)
            metadata = change(cut.metadata)
            if metadata == cut.metadata:
                nothing = "nothing changed: no new generation was published"
                return Described(
                    generation=self.state.number, metadata=metadata, warnings=(nothing,)
                )
            path = self._paths.database(database, cut.lineage)
            warnings = await check_described(metadata, [path], self._paths.staging)
            cut = replace(cut, metadata=metadata)
            entry = await self.publish(cause={"kind": "metadata"}, databases={database: cut})
            return Described(generation=entry.number, metadata=metadata, warnings=warnings)

    async def delete_database(self, database: str) -> Entry:
        """Publish a generation without a database.

        Raises:
            Refusal: ``not-found``.
        """
        async with self.database_lock(database):
            self.cut(database)
            return await self.publish(cause={"kind": "delete"}, removed=(database,))

    async def let_go(self, database: str, lineage: str) -> None:
        """End a lineage's replication and delete its files; its replica stays for rolling back."""
        try:
            await self._litestream.unregister(database, lineage)
        except LitestreamError as exc:  # the next start deletes it before Litestream runs
            log.warning("lineage kept", database=database, lineage=lineage, error=str(exc))
            return
        self._checksums.forget(lineage)
        self._unseen.discard(lineage)
        await asyncio.to_thread(delete_lineage, self._paths, database, lineage)

    def _observe(self) -> None:
        self._metrics.generation.set(self.state.number)
        self._metrics.databases.set(len(self.state.databases))
        if self.state.created_at is not None:
            self._metrics.published_at.set(self.state.created_at.timestamp())
