"""What a lineage begins with, written beside Litestream, and Litestream that goes on from it."""

from __future__ import annotations

import filecmp
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from headrace.keys import level0_beside, sums_beside
from headrace.ltx import decode_header, decode_pages
from headrace.sums import Sums, sum_file
from ingest.merge import adopt
from tests.integration.merge_kit import write
from tests.integration.slots_kit import litestream_restore, ltx_files, replicating

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.generation import Cut
    from tests.integration.slots_kit import LivePublisher

ROWS = ("CREATE TABLE t (x)", "INSERT INTO t SELECT randomblob(3000000)", "CREATE INDEX i ON t (x)")


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_first_transactions_hold_every_page_of_the_file(tmp_path: Path, page_size: int) -> None:
    """I4: they are proven LTX files, and the sums beside them are those of what they restore to."""
    target = tmp_path / "dbs" / "sales" / "0123456789abcdef"
    staging = write(tmp_path / "s.db", f"PRAGMA page_size = {page_size}", "VACUUM", *ROWS)

    adopt(staging, target, "receipt-1")

    body = level0_beside(target, 1).read_bytes()
    header = decode_header(body)
    restored = tmp_path / "restored.db"
    restored.write_bytes(b"".join(page for _number, page in decode_pages(body)))
    expected = sum_file(restored, page_size)
    sums = Sums.read(sums_beside(target))
    assert (header.min_txid, header.max_txid, header.page_size) == (1, 1, page_size)
    assert (sums.txid, sums.pages, sums.value) == (2, header.commit, expected.value)
    assert restored.read_bytes() == target.read_bytes()

    # Litestream reads the last one whole when it opens the database: it holds what is there anyway.
    body = level0_beside(target, 2).read_bytes()
    header = decode_header(body)
    assert (header.min_txid, header.max_txid, header.commit) == (2, 2, sums.pages)
    ((number, page),) = decode_pages(body)
    assert page == target.read_bytes()[(number - 1) * page_size : number * page_size]


async def test_litestream_goes_on_after_the_first_transaction(tmp_path: Path) -> None:
    """What changes afterwards is a transaction of its own size, and the whole can be restored."""
    async with replicating(tmp_path) as publisher:
        cut = await _begin(publisher, shipped=True)
        assert cut.txid == 2

        cut = await publisher.write("sales", "CREATE TABLE small (y)")

        assert cut.txid == 3
        first, *rest = ltx_files(publisher, "sales", cut)
        assert len(rest) == 2
        assert max(file.stat().st_size for file in rest) < first.stat().st_size / 100
        _assert_restored(publisher, cut)


async def test_litestream_ships_the_first_transactions_if_nobody_has(tmp_path: Path) -> None:
    """I1: a primary that dies between the two loses nothing that it could have gone on with."""
    async with replicating(tmp_path) as publisher:
        cut = await _begin(publisher, shipped=False)

        assert cut.txid == 2
        assert len(ltx_files(publisher, "sales", cut)) == 2
        _assert_restored(publisher, cut)


async def test_litestream_that_was_stopped_goes_on_after_the_first_transaction(
    tmp_path: Path,
) -> None:
    """A restart begins no new lineage, and ships nothing twice."""
    async with replicating(tmp_path) as publisher:
        await _begin(publisher, shipped=True)
        path = publisher.path("sales")
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("CREATE TABLE meanwhile (y)")
        async with replicating(tmp_path) as again:
            again.take_over(publisher)
            cut = await again.write("sales", "CREATE TABLE small (y)")
            sizes = [file.stat().st_size for file in ltx_files(again, "sales", cut)]
            _assert_restored(again, cut)
    assert max(sizes[1:]) < sizes[0] / 100


async def test_litestream_that_looks_during_a_long_change_ships_its_pages_alone(
    tmp_path: Path,
) -> None:
    """A transaction that fills the WAL before it is committed does not cost the whole database."""
    async with replicating(tmp_path) as publisher:
        await _begin(publisher, shipped=True)
        with closing(sqlite3.connect(publisher.path("sales"), isolation_level=None)) as db:
            db.execute("PRAGMA wal_autocheckpoint = 0")
            db.execute("PRAGMA cache_size = 10")
            db.execute("BEGIN IMMEDIATE")
            for _ in range(100):
                db.execute("INSERT INTO t SELECT randomblob(3000)")
            await publisher.cut("sales")
            db.execute("COMMIT")
            cut = await publisher.cut("sales")
            first, *rest = ltx_files(publisher, "sales", cut)
            assert rest
            assert sum(file.stat().st_size for file in rest) < first.stat().st_size / 3
            _assert_restored(publisher, cut)


async def _begin(publisher: LivePublisher, *, shipped: bool) -> Cut:
    """Begin a lineage as the primary does; give its cut once Litestream has seen it."""
    path = publisher.begin("sales")
    adopt(write(publisher.root / "s.db", *ROWS), path, "receipt-1")
    if shipped:
        await publisher.ship("sales")
    return await publisher.cut("sales")


def _assert_restored(publisher: LivePublisher, cut: Cut) -> None:
    restored = litestream_restore(publisher.store, "sales", cut, publisher.root / "restored.db")
    fresh = publisher.root / "fresh.db"
    fresh.unlink(missing_ok=True)
    with closing(sqlite3.connect(publisher.path("sales"))) as db:
        db.execute("VACUUM INTO ?", [str(fresh)])
    other = publisher.root / "other.db"
    other.unlink(missing_ok=True)
    with closing(sqlite3.connect(restored)) as db:
        db.execute("VACUUM INTO ?", [str(other)])
    assert filecmp.cmp(fresh, other, shallow=False)
