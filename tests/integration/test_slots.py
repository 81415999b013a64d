"""The pool of slots: which are written, which are kept, and how many."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from serve.slot_files import check_slot
from tests.integration.reader_kit import ORDERS, eventually
from tests.integration.slots_kit import (
    ROWS,
    LivePublisher,
    counted,
    live_publisher,  # noqa: F401 - a fixture
    ltx_files,
    make_restorer,
    restore,
    serve,
    write,
)

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def names(folder: Path) -> list[str]:
    """List the slots of a lineage."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".sums")


async def test_slot_that_workers_serve_is_never_written(publisher: LivePublisher) -> None:
    """What is in service, or draining, keeps its bytes and its inode."""
    restorer = make_restorer(publisher)
    slots: dict[Path, tuple[int, bytes]] = {}
    for _ in range(4):
        cut = await write(publisher, *(ORDERS if not slots else (ROWS,)))
        slot = await restore(restorer, cut)
        slots[slot] = (slot.stat().st_ino, slot.read_bytes())
        await restorer.prune(slots)

    assert {each: (each.stat().st_ino, each.read_bytes()) for each in slots} == slots


async def test_slot_given_out_is_not_written_before_it_is_served(publisher: LivePublisher) -> None:
    """Between restore and switch the slots of a generation are kept as well."""
    restorer = make_restorer(publisher)
    old = await serve(restorer, await write(publisher, *ORDERS))
    cut = await write(publisher, ROWS)
    slot = await restore(restorer, cut)

    await restorer.prepare_spares()

    assert check_slot(slot).value == cut.checksum
    assert old.exists()


async def test_drained_slot_is_rolled_in_place(publisher: LivePublisher) -> None:
    """Two files take turns: the one that drained becomes the next generation's."""
    restorer = make_restorer(publisher)
    first = await serve(restorer, await write(publisher, *ORDERS))
    inodes = {first.stat().st_ino}
    for _ in range(6):
        slot = await serve(restorer, await write(publisher, ROWS))
        inodes.add(slot.stat().st_ino)
        assert len(names(slot.parent)) == 2

    assert len(inodes) == 2
    assert names(slot.parent) == [f"{6:016x}.spare", f"{7:016x}.db"]


async def test_idle_slot_is_prepared_after_a_switch(
    publisher: LivePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first generation the next one needs no copy; after each, it has little to fetch."""
    monkeypatch.setattr("serve.restore.SPARES_AFTER_S", 0.01)
    monkeypatch.setattr("serve.spare_slots.SPARE_FROM_BYTES", 0)
    monkeypatch.setattr("serve.spare_slots.COPY_AFTER_S", 0)
    restorer = make_restorer(publisher)
    running = asyncio.create_task(restorer.run())
    slot = await serve(restorer, await write(publisher, *ORDERS))
    await eventually(slot.with_suffix(".spare").exists)
    monkeypatch.setattr("serve.slots.clone_slot", None)

    for _ in range(3):
        before = counted(restorer, "fetched_bytes")
        cut = await write(publisher, ROWS)
        slot = await serve(restorer, cut)
        newest = ltx_files(publisher, "sales", cut)[-1].stat().st_size
        assert counted(restorer, "fetched_bytes") - before == newest
        await eventually(slot.with_suffix(".spare").exists)
        assert len(names(slot.parent)) == 2

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_copy_is_put_off_while_a_slot_drains(
    publisher: LivePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generation waits for a copy to its end: none is begun where a slot is free in a moment."""
    monkeypatch.setattr("serve.spare_slots.SPARE_FROM_BYTES", 0)
    monkeypatch.setattr("serve.spare_slots.COPY_AFTER_S", 3600)
    restorer = make_restorer(publisher)
    draining = await serve(restorer, await write(publisher, *ORDERS))
    slot = await restore(restorer, await write(publisher, ROWS))
    monkeypatch.setattr("serve.slots.clone_slot", None)

    await restorer.prune([draining, slot])
    assert await restorer.prepare_spares()
    assert names(slot.parent) == [draining.name, slot.name]

    await restorer.prune([slot])
    assert not await restorer.prepare_spares()
    assert names(slot.parent) == [slot.name, slot.with_suffix(".spare").name]


async def test_idle_slot_of_an_earlier_run_is_read_before_it_is_rolled(
    publisher: LivePublisher,
) -> None:
    """An idle slot found on disk is used if it is whole, and thrown away if not."""
    restorer = make_restorer(publisher)
    for number in range(2):
        slot = await serve(restorer, await write(publisher, *(ROWS,) if number else ORDERS))
    spare = next(slot.parent.glob("*.spare"))
    spare.write_bytes(spare.read_bytes()[:-1] + b"?")
    restorer = make_restorer(publisher)
    cut = await write(publisher, ROWS)

    assert check_slot(await serve(restorer, cut)).value == cut.checksum
    assert counted(restorer, "proof_failures") == 0


async def test_earlier_txid_of_the_lineage_is_made_anew(publisher: LivePublisher) -> None:
    """After a rollback a slot that is ahead is of no use, and is not in the way."""
    restorer = make_restorer(publisher)
    old = await write(publisher, *ORDERS)
    await serve(restorer, await write(publisher, ROWS))

    slot = await serve(restorer, old)

    assert check_slot(slot).value == old.checksum
    assert names(slot.parent) == [slot.name]


async def test_copy_of_a_slot_that_comes_in_doubt_is_not_proven(publisher: LivePublisher) -> None:
    """What is found damaged while it is copied or rolled forward makes nothing to be trusted."""
    restorer = make_restorer(publisher)
    pool = restorer.pool
    slot = await serve(restorer, await write(publisher, *ORDERS))
    lineage, copy = slot.parent.name, slot.with_suffix(".spare")
    copied, rolled = copy.with_name("1.part"), copy.with_name("2.part")

    pool.copy(slot, copied)
    pool.keep(copied, copy)
    assert pool.is_proven(copy)

    pool.copy(slot, copied)
    assert pool.take_idle(lineage, 1, rolled)
    pool.distrust(lineage)
    pool.keep(copied, copy)
    assert not pool.is_proven(copy)
    pool.keep(rolled, copy)
    assert not pool.is_proven(copy)

    pool.copy(slot, copied)
    pool.keep(copied, copy)
    assert not pool.is_proven(copy)
