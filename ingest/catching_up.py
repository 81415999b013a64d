"""What a database holds, and no generation says, is published when a primary starts.

Every change is journalled, and goes on after a stop. So there is such a thing only where something
failed between a commit and its publication; or where a stop came to the deletion of a table by a
version that did not journal it. No reader can show a generation that names a table which is not
there.
"""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from headrace.receipt import UploadState
from ingest.insist import insist
from ingest.merge import count_tables, find_last_merge, find_tables

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.generation import Cut
    from headrace.keys import PrimaryPaths
    from ingest.journal import Journal
    from ingest.primary import Primary

log = structlog.get_logger()


class CatchingUp:
    """Looks at every database once.

    Args:
        paths: The volume.
        journal: Knows how the last change of each ended.
        primary: The databases.
    """

    def __init__(self, *, paths: PrimaryPaths, journal: Journal, primary: Primary) -> None:
        self._paths = paths
        self._journal = journal
        self._primary = primary

    async def run(self) -> None:
        """Look, and publish; each database is asked for after what was resumed, before all else."""
        async with asyncio.TaskGroup() as tasks:
            for name in self._primary.state.databases:
                tasks.create_task(self._catch_up(name))

    async def _catch_up(self, name: str) -> None:
        async with self._primary.database_lock(name):
            cut = self._primary.state.databases.get(name)
            if cut is None:
                return
            path = self._paths.database(name, cut.lineage)
            tables = await insist(
                lambda: self._find_unsaid(path, cut),
                (sqlite3.Error, OSError),
                "database not looked at",
                database=name,
            )
            if tables is None:
                return
            log.warning("database differs from its generation", database=name)
            metadata = self._primary.kept_metadata(name, tables)
            fresh = self._primary.unpublished_cut(cut.lineage, tables, None)
            fresh = await self._primary.replicate(name, replace(fresh, metadata=metadata))
            await self._primary.publish(cause={"kind": "rebuild"}, databases={name: fresh})

    async def _find_unsaid(self, path: Path, cut: Cut) -> dict[str, int] | None:
        """Give the rows of each table, where these are not what the generation says.

        They are counted only where that may be: it takes a while.
        """
        missing = cut.tables.keys() - await asyncio.to_thread(find_tables, path)
        last = await asyncio.to_thread(find_last_merge, path)
        receipt = await self._journal.find(last[0]) if last else None
        failed = receipt is not None and receipt.state is UploadState.FAILED
        if not missing and not failed:
            return None
        tables = await asyncio.to_thread(count_tables, path)
        return None if tables == cut.tables else tables
