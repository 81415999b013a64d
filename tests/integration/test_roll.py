"""Slots rolled forward, against the real litestream's restore of the same TXID.

They are compared byte for byte; no byte is left out, because both are made of the same LTX files:
what SQLite marks as volatile (the header's change counters, say) is in them as well.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from headrace.errors import LtxError
from headrace.roll import Roller
from serve.slot_files import check_slot
from tests.integration.reader_kit import ORDERS
from tests.integration.slots_kit import (
    ROWS,
    counted,
    litestream_restore,
    ltx_files,
    make_restorer,
    random_changes,
    replicating,
    serve,
    with_checksum,
    write,
)

if TYPE_CHECKING:
    from pathlib import Path

PAGE_SIZES = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]
AT_ONCE = 16
MANY_ROWS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000) "
    "INSERT INTO orders (item) SELECT hex(randomblob(50)) FROM n"
)


@pytest.mark.parametrize(
    ("page_size", "auto_vacuum"), [(size, index % 2 == 0) for index, size in enumerate(PAGE_SIZES)]
)
async def test_roll_over_random_changes_equals_litestream(
    tmp_path: Path, page_size: int, auto_vacuum: bool
) -> None:
    """I4: after any change a rolled slot is, byte for byte, what litestream restores."""
    rng = random.Random(page_size)
    async with replicating(tmp_path) as publisher:
        restorer = make_restorer(publisher)
        tables: list[str] = []
        for step in range(12):
            for _ in range(rng.randint(1, 4)):
                cut = await publisher.write(
                    "sales",
                    *random_changes(rng, tables),
                    page_size=page_size,
                    auto_vacuum=auto_vacuum,
                )
            if step == 7:
                cut = await publisher.vacuum("sales")
            cut = with_checksum(publisher, "sales", cut)

            slot = await serve(restorer, cut)

            oracle = litestream_restore(publisher.store, "sales", cut, tmp_path / "oracle.db")
            assert slot.read_bytes() == oracle.read_bytes(), f"step {step}"
            assert check_slot(slot).value == cut.checksum
            assert cut.page_size == page_size
        assert counted(restorer, "proof_failures") == 0


async def test_roll_of_a_small_change_fetches_only_that(tmp_path: Path) -> None:
    """What a generation costs grows with the change, not with the database."""
    async with replicating(tmp_path) as publisher:
        restorer = make_restorer(publisher)
        await serve(restorer, await publisher.write("sales", *ORDERS, MANY_ROWS))
        before = counted(restorer, "fetched_bytes")
        new = await publisher.write("sales", "INSERT INTO orders (item) VALUES ('pen')")

        await serve(restorer, with_checksum(publisher, "sales", new))

        newest = ltx_files(publisher, "sales", new)[-1]
        assert counted(restorer, "fetched_bytes") - before == newest.stat().st_size < 20_000


async def test_roll_of_a_database_without_tables_equals_litestream(tmp_path: Path) -> None:
    """A database of one page is a database, before its first table and after its last."""
    async with replicating(tmp_path) as publisher:
        restorer = make_restorer(publisher)
        for statements in ([], ORDERS, ["DROP TABLE orders"]):
            cut = with_checksum(publisher, "sales", await publisher.write("sales", *statements))

            slot = await serve(restorer, cut)

            assert slot.read_bytes() == (tmp_path / "oracle.db").read_bytes()


async def test_roll_over_many_transactions_lists_and_large_files_go_through_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slot that is far behind is rolled by a plan, and no file is held in memory."""
    monkeypatch.setattr("headrace.roll.GUESSED_FILES", 3)
    monkeypatch.setattr("headrace.roll.MEMORY_BYTES", 0)
    async with replicating(tmp_path) as publisher:
        restorer = make_restorer(publisher)
        await serve(restorer, await publisher.write("sales", *ORDERS))
        for number in range(8):
            cut = await publisher.write("sales", f"INSERT INTO orders VALUES ({number}, 'pen')")
        cut = with_checksum(publisher, "sales", cut)

        slot = await serve(restorer, cut)

        assert check_slot(slot).value == cut.checksum
        assert all(path.exists() for path in ltx_files(publisher, "sales", cut))


async def test_roll_fetches_sixteen_files_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is far away is not asked for one file after the other, nor for all of them."""
    async with replicating(tmp_path, levels=("24h",)) as publisher:
        cut = await publisher.write("sales", *ORDERS)
        restorer = make_restorer(publisher)
        await serve(restorer, cut)
        for _ in range(2 * AT_ONCE):
            cut = await publisher.write("sales", "INSERT INTO orders (item) VALUES ('x')")
        read = publisher.store.read_or_spill
        running = 0
        full, most = asyncio.Event(), 0

        async def read_together(*arguments: Any, **options: Any) -> bytes | Path:
            nonlocal running, most
            running += 1
            most = max(most, running)
            if running == AT_ONCE:
                full.set()
            await full.wait()
            try:
                return await read(*arguments, **options)
            finally:
                running -= 1

        monkeypatch.setattr(publisher.store, "read_or_spill", read_together)
        async with asyncio.timeout(30):
            await serve(restorer, cut)

    assert most == AT_ONCE


async def test_slot_that_only_litestream_can_make_is_rolled_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no plan works out, its own restore does, and that is gone on from."""
    async with replicating(tmp_path, levels=("24h",)) as publisher:
        restorer = make_restorer(publisher)
        await serve(restorer, await write(publisher, *ORDERS))
        cut = await write(publisher, ROWS)
        with monkeypatch.context() as patch:
            patch.setattr(Roller, "roll", _find_no_plan)
            slot = await serve(restorer, cut)
        assert check_slot(slot).value == cut.checksum

        for _ in range(2):  # two files take turns: the second is made of that slot
            cut = await write(publisher, ROWS)
            slot = await serve(restorer, cut)
            assert check_slot(slot).value == cut.checksum
        assert counted(restorer, "proof_failures") == 0


async def _find_no_plan(*_arguments: object) -> None:
    raise LtxError("no LTX files lead there")
