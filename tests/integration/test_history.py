"""Restoring earlier generations whose transactions Litestream has compacted away."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from headrace.errors import ProofError, RestoreError
from headrace.generation import Cut, State
from headrace.history import restore_cut, restore_exactly, restore_files
from headrace.keys import lineage_key, ltx_level_key, parse_ltx_name
from headrace.litestream_restore import LitestreamRestore
from headrace.plan import LEVELS
from ingest.trim import SNAPSHOTS, choose_files
from tests.integration.reader_kit import eventually
from tests.integration.slots_kit import LivePublisher, replicating, with_checksum

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.s3_kit import S3

# Transactions are compacted within seconds, and single ones are deleted by Litestream itself.
LEVELS_OF_TEST = ("1s", "5m")

ANY_AGE = timedelta(days=1)


def forget_soon(config: str) -> str:
    """Have single transactions deleted after a second."""
    return config.replace("enabled: false", "enabled: true").replace("24h", "1s", 1)


@pytest.fixture(params=["folder", "s3"])
def store_url(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Give a store of each kind."""
    if request.param == "folder":
        return str(tmp_path / "store")
    server: S3 = request.getfixturevalue("s3")
    server.give_credentials(monkeypatch)
    return server.url(server.make_bucket())


async def files_of(
    publisher: LivePublisher, cut: Cut, levels: range = LEVELS
) -> set[tuple[int, int]]:
    """List the transactions that each file of a lineage covers, on some levels."""
    store = publisher.store
    found = set()
    for level in levels:
        prefix = ltx_level_key("sales", cut.lineage, level, s3=store.is_s3)
        names = await store.list_sizes(prefix, stall_s=30)
        found |= {parsed for name in names if (parsed := parse_ltx_name(name))}
    return found


async def compacted_cut(publisher: LivePublisher) -> tuple[Cut, int]:
    """Write until a transaction is in the middle of all files that hold it.

    Returns:
        Its cut, and the last transaction before it at which a file ends.
    """
    cuts = [await publisher.write("sales", "CREATE TABLE n (i)")]

    async def look() -> tuple[Cut, int] | None:
        # Litestream forgets single transactions after it has compacted others.
        cuts.append(await publisher.write("sales", "INSERT INTO n VALUES (1)"))
        # It does so one by one: whichever are left on level 0 may be about to go.
        single = await files_of(publisher, cuts[0], LEVELS[:1])
        ends = {last for _first, last in await files_of(publisher, cuts[0], LEVELS[1:])}
        for cut in cuts:
            before = [end for end in ends if end < cut.txid]
            if before and cut.txid not in ends and all(cut.txid < first for first, _ in single):
                return cut, max(before)
        return None

    found: tuple[Cut, int] = await eventually(look)
    return found


def rows(path: Path) -> int:
    """Count what a restored file holds."""
    with closing(sqlite3.connect(path)) as db:
        count: int = db.execute("SELECT count(*) FROM n").fetchone()[0]
        return count


async def test_generation_that_was_compacted_away_is_restored_at_the_nearest_before(
    tmp_path: Path, store_url: str
) -> None:
    """What is gone is not made up: the last kept state before it comes back, and it is named."""
    async with replicating(
        tmp_path, levels=LEVELS_OF_TEST, store_url=store_url, edit=forget_soon
    ) as publisher:
        cut, before = await compacted_cut(publisher)
        litestream = LitestreamRestore(publisher.store)
        output = tmp_path / "n.db"

        assert await restore_cut(publisher.store, litestream, "sales", cut, output) == before

        # Each transaction wrote one row, so the TXID says how many there are to be.
        missing = cut.txid - before
        assert rows(output) == cut.tables["n"] - missing
        state = State(number=7, databases={"sales": cut})
        given = [each async for each in restore_files(publisher.store, state, tmp_path, None)]
        assert given == [("sales", before)]
        assert rows(tmp_path / "sales.db") == rows(output)
        with pytest.raises(RestoreError, match="cannot restore sales at"):
            await restore_exactly(litestream, "sales", cut, tmp_path / "exact.db")
        pruned = replace(cut, lineage="0" * 16)
        with pytest.raises(RestoreError, match="cannot restore sales at") as failure:
            await restore_cut(publisher.store, litestream, "sales", pruned, tmp_path / "none.db")
        assert "--generation-retention" in (failure.value.hint or "")


async def test_generation_that_is_there_and_is_another_is_not_replaced_by_an_older_one(
    tmp_path: Path,
) -> None:
    """A copy that is not what was published is an error, and no reason to go further back."""
    async with replicating(tmp_path) as publisher:
        await publisher.write("sales", "CREATE TABLE n (i)")
        cut = await publisher.write("sales", "INSERT INTO n VALUES (1)")
        wrong = replace(cut, checksum=1)
        litestream = LitestreamRestore(publisher.store)
        with pytest.raises(ProofError):
            await restore_cut(publisher.store, litestream, "sales", wrong, tmp_path / "n.db")


def snapshot_soon(config: str) -> str:
    """Have a snapshot each second."""
    return config.replace("interval: 24h", "interval: 1s")


async def snapshots_of(publisher: LivePublisher, cut: Cut) -> set[int]:
    """List the last transactions of a lineage's snapshots."""
    prefix = ltx_level_key("sales", cut.lineage, SNAPSHOTS, s3=publisher.store.is_s3)
    names = await publisher.store.list_sizes(prefix, stall_s=30)
    return {parsed[1] for name in names if (parsed := parse_ltx_name(name))}


async def write_until_snapshot(publisher: LivePublisher) -> Cut:
    """Write once, and wait until a snapshot holds it."""
    cut = with_checksum(
        publisher, "sales", await publisher.write("sales", "INSERT INTO n VALUES (1)")
    )

    async def is_there() -> bool:
        return cut.txid in await snapshots_of(publisher, cut)

    await eventually(is_there)
    return cut


async def test_state_that_was_left_alone_for_long_can_be_brought_back_when_it_is_overwritten(
    tmp_path: Path,
) -> None:
    """Litestream deletes nothing itself, however old the files of a state are."""
    async with replicating(tmp_path, levels=LEVELS_OF_TEST, edit=snapshot_soon) as publisher:
        await publisher.write("sales", "CREATE TABLE n (i)")
        for _ in range(2):
            old = await write_until_snapshot(publisher)
        long_ago_s = time.time() - 90 * 86400
        for path in (tmp_path / "store").rglob("*.ltx"):
            os.utime(path, (long_ago_s, long_ago_s))
        for _ in range(2):
            await write_until_snapshot(publisher)

        litestream = LitestreamRestore(publisher.store)
        await restore_exactly(litestream, "sales", old, tmp_path / "old.db")


async def test_lineage_of_litestream_is_trimmed_to_what_is_needed(
    tmp_path: Path, store_url: str
) -> None:
    """Every transaction from the oldest needed one on can be restored; files before it are gone."""
    async with replicating(
        tmp_path, levels=LEVELS_OF_TEST, store_url=store_url, edit=snapshot_soon
    ) as publisher:
        await publisher.write("sales", "CREATE TABLE n (i)")
        cuts = []
        for _ in range(2):
            cuts.append(await write_until_snapshot(publisher))
            for _ in range(2):
                cut = await publisher.write("sales", "INSERT INTO n VALUES (1)")
                cuts.append(with_checksum(publisher, "sales", cut))
        prefix = lineage_key("sales", cuts[0].lineage)
        files = [each async for each in publisher.store.list_objects(prefix, stall_s=30)]
        needed = cuts[4]  # after the second snapshot

        doomed = choose_files(files, needed_from=needed.txid, since=datetime.now(UTC) + ANY_AGE)
        await publisher.store.delete_keys([each.key for each in doomed])

        assert len(doomed) >= 2
        litestream = LitestreamRestore(publisher.store)
        for cut in cuts[4:]:
            await restore_exactly(litestream, "sales", cut, tmp_path / f"{cut.txid}.db")
        with pytest.raises(RestoreError):
            await restore_exactly(litestream, "sales", cuts[0], tmp_path / "gone.db")
        more = await write_until_snapshot(publisher)  # Litestream goes on
        await restore_exactly(litestream, "sales", more, tmp_path / "more.db")
