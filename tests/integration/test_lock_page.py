"""A database of more than 1 GiB: the page with the lock byte is never stored, nor replicated."""

from __future__ import annotations

import filecmp
from typing import TYPE_CHECKING

import pytest

from tests.integration.slots_kit import (
    litestream_restore,
    make_restorer,
    replicating,
    serve,
    with_checksum,
)

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

PAGE_BYTES = 65_536
ROWS = 1_100  # of 1 MB each: they compress to nearly nothing


def _fill(db: sqlite3.Connection) -> None:
    db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    db.execute("PRAGMA journal_mode = off")
    db.execute("PRAGMA synchronous = off")
    db.execute("CREATE TABLE filler (id INTEGER PRIMARY KEY, body BLOB)")
    db.executemany("INSERT INTO filler VALUES (?, zeroblob(1000000))", ((n,) for n in range(ROWS)))
    db.commit()


@pytest.mark.timeout(180)
async def test_slot_over_1_gib_is_restored_and_rolled_as_litestream_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I4 holds on both sides of the lock page, from a snapshot and from what follows it."""
    monkeypatch.setattr("serve.spare_slots.COPY_AFTER_S", 0)
    async with replicating(tmp_path) as publisher:
        first = await publisher.adopt("sales", _fill)
        assert first.pages * first.page_size > 2**30
        restorer = make_restorer(publisher)
        await serve(restorer, first)
        await restorer.prepare_spares()

        insert = "INSERT INTO filler (body) VALUES (randomblob(3000000))"
        second = await publisher.write("sales", insert, page_size=PAGE_BYTES)
        slot = await serve(restorer, with_checksum(publisher, "sales", second))

        oracle = litestream_restore(publisher.store, "sales", second, tmp_path / "oracle.db")
        assert filecmp.cmp(slot, oracle, shallow=False)
