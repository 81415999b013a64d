"""A database that is made anew of the store, in processes of their own."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from headrace.durable import replace_file
from headrace.errors import LitestreamError
from headrace.generation import State
from headrace.keys import PrimaryPaths, sums_beside
from headrace.store_counts import Operation
from headrace.sums import Sums
from ingest.merge import adopt, find_last_merge
from ingest.metrics import IngestMetrics
from ingest.rebuild import Rebuilder
from ingest.revivers import Reviver, Revivers
from ingest.volume import make_folders
from tests.integration.merge_kit import write
from tests.integration.slots_kit import (
    litestream_restore,
    ltx_files,
    replicating,
    with_checksum,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from headrace.generation import Cut
    from tests.integration.slots_kit import LivePublisher

ROWS = ("CREATE TABLE t (x)", "INSERT INTO t SELECT randomblob(3000000)")


async def publish(publisher: LivePublisher) -> Cut:
    """Publish a database that came with an upload, and was changed since."""
    path = publisher.begin("sales")
    adopt(write(publisher.root / "s.db", *ROWS), path, "receipt-1")
    await publisher.ship("sales")
    await publisher.cut("sales")
    cut = await publisher.write("sales", "CREATE TABLE small (y)")
    return with_checksum(publisher, "sales", cut)


async def test_revived_database_is_gone_on_from_by_litestream(tmp_path: Path) -> None:
    """I5: it is a lineage of its own, with all that was published, and what follows is small."""
    async with replicating(tmp_path) as publisher:
        old = await publish(publisher)
        restored = tmp_path / "restored.db"
        asked = publisher.store.counts.requests[Operation.GET]
        async with Revivers().one() as reviver:
            assert await reviver.restore(publisher.store, "sales", old, restored) is None
            assert publisher.store.counts.requests[Operation.GET] > asked  # by its process
            oracle = litestream_restore(publisher.store, "sales", old, tmp_path / "oracle.db")
            assert restored.read_bytes() == oracle.read_bytes()
            path = publisher.begin("sales")
            assert await reviver.adopt(restored, path) is None
        await publisher.ship("sales")
        assert (await publisher.cut("sales")).txid == 2
        assert find_last_merge(path) == ("receipt-1", None)

        cut = await publisher.write("sales", "INSERT INTO small VALUES (1)")

        assert cut.txid == 3
        first, *rest = ltx_files(publisher, "sales", cut)
        assert max(file.stat().st_size for file in rest) < first.stat().st_size / 100
        again = litestream_restore(publisher.store, "sales", cut, tmp_path / "again.db")
        with closing(sqlite3.connect(again)) as db:
            assert db.execute("SELECT y, length(x) FROM small, t").fetchall() == [(1, 3000000)]


async def test_reviver_tells_why_it_failed_and_one_that_died_is_replaced(tmp_path: Path) -> None:
    """I4: what is not proven is not taken; and no failure is taken for a success."""
    async with replicating(tmp_path) as publisher:
        cut = await publish(publisher)
        output = tmp_path / "restored.db"
        revivers = Revivers()
        async with revivers.one() as reviver:
            wrong = replace(cut, checksum=1)
            told = await reviver.restore(publisher.store, "sales", wrong, output)
            assert told == "what was restored of sales is not what was published"
            body = ltx_files(publisher, "sales", cut)[0].read_bytes()
            replace_file(ltx_files(publisher, "sales", cut)[0], body[:-1])
            told = await reviver.restore(publisher.store, "sales", cut, output)
            assert told is not None
            assert "0-0000000000000001-0000000000000001.ltx: " in told
            assert "No such file" in str(await reviver.adopt(tmp_path / "none.db", output))

            os.kill(reviver.pid, signal.SIGKILL)
            told = await reviver.restore(publisher.store, "sales", cut, output)
            assert told == "its process ended with -9"
            async with revivers.one() as other:
                assert await other.restore(publisher.store, "sales", wrong, output) != told


class Replicator:
    """Stands in for the primary, which would replicate a lineage, and publish it."""

    def __init__(self, databases: dict[str, Cut] | None = None) -> None:
        self.state = State(databases=databases or {})
        self.published: list[str] = []

    async def replicate(self, _database: str, cut: Cut) -> Cut:
        """Say that it is there."""
        return replace(cut, txid=1)

    async def publish(self, *, cause: dict[str, str], databases: dict[str, Cut]) -> None:
        """Note what is ready."""
        assert cause == {"kind": "rebuild"}
        self.published += databases

    @asynccontextmanager
    async def database_lock(self, _database: str) -> AsyncIterator[None]:
        """Nobody else is there."""
        yield


async def test_hottest_database_is_ready_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that was changed last is what people wait for: its turn is the first."""
    monkeypatch.setattr("ingest.rebuild.PARALLEL", 1)
    paths = PrimaryPaths(tmp_path / "volume")
    make_folders(paths)
    now = datetime.now(UTC)
    changed = {"a": 2, "b": 0, "c": 1}  # hours ago
    async with replicating(tmp_path) as publisher:
        databases = {
            name: replace(
                await publisher.write(name, "CREATE TABLE t (x)"),
                updated_at=now - timedelta(hours=hours),
            )
            for name, hours in changed.items()
        }
        primary = Replicator(databases)
        rebuilder = Rebuilder(paths, publisher.store, primary, IngestMetrics())  # type: ignore[arg-type]
        await rebuilder.lock(databases)

        await rebuilder.run()

    assert primary.published == ["b", "c", "a"]


async def test_litestream_restores_what_cannot_be_made_by_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database comes back by other code than ours, if ours finds no way."""

    async def fail(*_arguments: object) -> str:
        return "no way was found"

    monkeypatch.setattr(Reviver, "restore", fail)
    paths = PrimaryPaths(tmp_path / "volume")
    make_folders(paths)
    async with replicating(tmp_path) as publisher:
        cut = await publish(publisher)
        rebuilder = Rebuilder(paths, publisher.store, Replicator(), IngestMetrics())  # type: ignore[arg-type]

        fresh, txid = await rebuilder.revive("sales", cut, nearest=False)

        assert (txid, fresh.txid, fresh.source) == (cut.txid, 1, cut.source)
        assert fresh.lineage != cut.lineage
        path = paths.database("sales", fresh.lineage)
        assert Sums.read(sums_beside(path)).pages == cut.pages
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT length(x) FROM t").fetchall() == [(3000000,)]
        with pytest.raises(LitestreamError, match="not what was published"):
            await rebuilder.revive("sales", replace(cut, checksum=1), nearest=False)
