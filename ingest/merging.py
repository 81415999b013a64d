"""merge, of an upload: what was staged goes into the live database, or begins a new lineage."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from headrace.receipt import UploadState
from ingest.described import brought, check_described, described
from ingest.insist import to_end, try_hard
from ingest.merge import (
    Merged,
    adopt,
    count_tables,
    find_last_merge,
    find_texts,
    keeps_texts,
    merge,
    require_keys,
)
from ingest.outcome import is_sqlite, source_of, with_merged, with_nothing
from ingest.turns import Turns
from ingest.volume import new_lineage

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from headrace.generation import Cut
    from headrace.keys import PrimaryPaths
    from headrace.receipt import Receipt
    from ingest.converters import Converted
    from ingest.disk import Disk
    from ingest.journal import Journal, Options
    from ingest.primary import Primary

AT_ONCE = max(2, os.cpu_count() or 1)  # more are no faster, and each has caches and a thread
MERGED = frozenset({UploadState.MERGING, UploadState.REPLICATING})  # perhaps


class Merging:
    """Merges uploads, each under the lock of its database.

    Args:
        paths: The volume.
        journal: Has the uploads before it.
        disk: Where the databases are.
        primary: The live databases.
    """

    def __init__(
        self, *, paths: PrimaryPaths, journal: Journal, disk: Disk, primary: Primary
    ) -> None:
        self._paths = paths
        self._journal = journal
        self._disk = disk
        self._primary = primary
        self._turns = Turns(AT_ONCE)

    async def find_merged(self, receipt: Receipt) -> tuple[Receipt, Cut | None]:
        """Find the cut of a resumed upload that was merged before the stop, into a live lineage.

        Called under its database's lock, which is held until it is published: the next merge would
        take the place of what is found here.
        """
        live = self._primary.state.databases.get(receipt.database or "")
        if live is None:
            return receipt, None
        path = self._paths.database(receipt.database or "", live.lineage)
        last = await try_hard(partial(asyncio.to_thread, find_last_merge, path), receipt.id)
        if last is None or last[0] != receipt.id:
            return receipt, None
        if last[1] is not None:
            receipt = with_merged(receipt, Merged.decode(last[1]))
        tables = await try_hard(partial(asyncio.to_thread, count_tables, path), receipt.id)
        return receipt, self._primary.unpublished_cut(live.lineage, tables, source_of(receipt))

    async def find_texts(self, receipt: Receipt) -> dict[str, frozenset[str]]:
        """Find the columns that an upload finds texts in, and leaves so (``Conversion.texts``).

        Raises:
            sqlite3.Error: The database was replaced just now; not under its lock.
        """
        cut = self._primary.state.databases.get(receipt.database or "")
        if cut is None or receipt.mode == "create":
            return {}
        path = self._paths.database(receipt.database or "", cut.lineage)
        return await asyncio.to_thread(find_texts, path, receipt.mode)

    async def keeps_texts(
        self,
        receipt: Receipt,
        staged: Converted,
        *,
        told: Mapping[str, frozenset[str]],
        texts: Mapping[str, frozenset[str]],
    ) -> bool:
        """Say whether an upload need not be converted again, to keep its texts."""
        staging = self._paths.staging / receipt.id / "staging.db"
        return await asyncio.to_thread(keeps_texts, staging, staged.tables, told=told, texts=texts)

    async def describe(self, receipt: Receipt, staged: Converted, options: Options) -> Receipt:
        """Note what an upload says about the database, if that can be shown of what will be there.

        Raises:
            Refusal: ``invalid-metadata``.
        """
        database = receipt.database or ""
        said = brought(staged.metadata, options.metadata, database)
        if said is None:
            return receipt
        before = self._primary.state.databases.get(database)
        receipt = replace(receipt, metadata=said.metadata)
        scratch = self._paths.staging / receipt.id
        files = [scratch / "staging.db"]
        if before is not None and not _takes_place(receipt):
            files.append(self._paths.database(database, before.lineage))
        metadata = described(receipt, before.metadata if before else {})
        warnings = await check_described(metadata, files, scratch)
        return replace(receipt, warnings=(*receipt.warnings, *said.warnings, *warnings))

    def written(self, receipt: Receipt) -> list[Path]:
        """Give the files that a merge writes, and folders with such."""
        paths = [self._paths.staging / receipt.id]
        before = self._primary.state.databases.get(receipt.database or "")
        if before is not None:
            path = self._paths.database(receipt.database or "", before.lineage)
            paths.append(path.with_name(f"{path.name}-wal"))
        return paths

    async def run(
        self, receipt: Receipt, staged: Converted, options: Options
    ) -> tuple[Receipt, Cut | None]:
        """Merge an upload.

        Returns:
            The receipt, and what is to be published; None if it is published already.

        Raises:
            Refusal: Nothing was changed.
        """
        before = self._primary.state.databases.get(receipt.database or "")
        staging = self._paths.staging / receipt.id / "staging.db"
        async with self._turns.turn(options.sent_by):
            if before is None or _takes_place(receipt):
                if before is not None and await self._is_same_file(receipt, options, before):
                    return with_nothing(receipt), None
                return await self._begin_lineage(receipt, staging, options, before)
            unwanted = {each.name: each.unwanted for each in staged.tables}
            return await self._merge_rows(receipt, staging, options, before, unwanted)

    async def _begin_lineage(
        self, receipt: Receipt, staging: Path, options: Options, before: Cut | None
    ) -> tuple[Receipt, Cut]:
        if receipt.mode == "upsert":
            await asyncio.to_thread(require_keys, staging, options.wishes.pk)
        lineage = new_lineage()
        target = self._paths.database(receipt.database or "", lineage)
        self._disk.require(await _size_bytes(staging))  # its first transaction
        await to_end(adopt, staging, target, receipt.id)
        old = before.tables if before else {}
        outcomes = tuple(
            replace(each, added=each.rows, changed=0, removed=old.get(each.name, 0), unchanged=0)
            for each in receipt.tables
        )
        tables = {each.name: each.rows for each in outcomes}
        cut = self._primary.unpublished_cut(lineage, tables, source_of(receipt))
        return replace(receipt, tables=outcomes), cut

    async def _merge_rows(
        self,
        receipt: Receipt,
        staging: Path,
        options: Options,
        before: Cut,
        unwanted: Mapping[str, Collection[str] | None],
    ) -> tuple[Receipt, Cut | None]:
        path = self._paths.database(receipt.database or "", before.lineage)
        settled = await self._find_last_published(path) is not None
        merged = await to_end(
            merge,
            path,
            staging,
            mode=receipt.mode,
            receipt_id=receipt.id,
            before=before.tables,
            key=options.wishes.pk,
            unwanted=unwanted,
            settled=settled,
            # Its WAL, and as much in Litestream's transactions.
            writing=partial(self._disk.writing, size_bytes=2 * await _size_bytes(staging)),
        )
        receipt = with_merged(receipt, merged)
        if settled and not merged.written:
            return receipt, None
        replaced = {each.name.lower() for each in merged.tables}
        tables = {
            **{name: rows for name, rows in before.tables.items() if name.lower() not in replaced},
            **{each.name: each.rows for each in merged.tables},
        }
        return receipt, self._primary.unpublished_cut(before.lineage, tables, source_of(receipt))

    async def _find_last_published(self, path: Path) -> Receipt | None:
        """Find the upload that a live database was last changed by, if that was published.

        It was not if something failed between its merge and its publication.
        """
        last = await asyncio.to_thread(find_last_merge, path)
        receipt = await self._journal.find(last[0]) if last else None
        if receipt is None or receipt.state is not UploadState.PUBLISHED:
            return None
        return receipt

    async def _is_same_file(self, receipt: Receipt, options: Options, before: Cut) -> bool:
        """Say whether a whole database is what this very upload would make of it again."""
        if before.source != source_of(receipt):
            return False
        path = self._paths.database(receipt.database or "", before.lineage)
        last = await self._find_last_published(path)
        return (
            last is not None
            and (last.sha256, last.mode) == (receipt.sha256, "replace")
            and is_sqlite(last.format)
            and (asked := await self._journal.find_options(last.id)) is not None
            and replace(asked, metadata=options.metadata) == options
        )


def _takes_place(receipt: Receipt) -> bool:
    """Say whether an upload is a whole database, which takes the place of what is there."""
    return is_sqlite(receipt.format) and receipt.mode == "replace"


async def _size_bytes(path: Path) -> int:
    return (await asyncio.to_thread(path.stat)).st_size
