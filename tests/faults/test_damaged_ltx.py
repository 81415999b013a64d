"""Damaged LTX files, damaged slots and a store that falls silent.

I4 survives them: whatever is read, a slot that is given out is what litestream restored from the
undamaged files; and when the cause is gone, the next try succeeds.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from headrace.cli import main
from headrace.errors import ObjectMissingError, RestoreError, StoreError
from headrace.keys import ltx_key
from headrace.sums import sums_path
from serve.metrics import ReaderMetrics
from serve.scrub import Scrubber, verify_slots
from serve.slot_files import check_slot, remove_slot
from tests.integration.reader_kit import (
    ORDERS,
    Publisher,
    eventually,
    reading,
    settings_for,
    slot_name,
)
from tests.integration.slots_kit import (
    PROJECT,
    ROWS,
    LivePublisher,
    counted,
    cut_short,
    cut_to_nothing,
    flip,
    live_publisher,  # noqa: F401 - a fixture
    ltx_files,
    make_restorer,
    replicating,
    restore,
    serve,
    with_checksum,
    write,
)

if TYPE_CHECKING:
    from pathlib import Path

    from serve.restore import Restorer


def read_rows(slot: Path) -> int:
    """Count the rows of a slot as a worker does."""
    with closing(sqlite3.connect(f"file:{slot}?immutable=1", uri=True)) as db:
        count: int = db.execute("SELECT count(*) FROM orders").fetchone()[0]
        return count


async def test_bits_flipped_anywhere_are_caught(
    publisher: LivePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No bit of an LTX file can change what is served: in its header, pages, index or trailer.

    A page's compressed bytes are not summed, its bytes are: some bits can change and give the same
    page, as that of a distance within a run of zeros.
    """
    old = await write(publisher, *ORDERS)
    new = await write(publisher, "INSERT INTO orders (item) VALUES ('pen')")
    restorer = make_restorer(publisher, retry_for_s=0)
    await serve(restorer, old)
    # Litestream finds the damage too (it is asked above); starting it each time takes long.
    monkeypatch.setattr(restorer._litestream, "run", refuse)  # noqa: SLF001
    oracle = publisher.root / "oracle.db"  # of the newest, as litestream restored it
    ltx = ltx_files(publisher, "sales", new)[-1]
    whole = ltx.read_bytes()
    rng = random.Random(1)
    places = {*range(100), *range(len(whole) - 40, len(whole)), *rng.sample(range(len(whole)), 60)}
    for at in sorted(places):
        ltx.write_bytes(flip(whole, at, rng.randrange(8)))
        try:
            slot = await restore(restorer, new)
        except RestoreError:
            continue
        assert 100 <= at < len(whole) - 40
        assert slot.read_bytes() == oracle.read_bytes()
        remove_slot(slot)
        restorer.pool.distrust(new.lineage)
        await serve(restorer, old)
    ltx.write_bytes(whole)

    assert read_rows(await restore(restorer, new)) == 1


async def refuse(*_args: Any) -> str:
    """Stand for a litestream that finds the damage too."""
    return "refused"


async def test_missing_file_is_waited_for(publisher: LivePublisher) -> None:
    """A store that shows a file later than the log is waited for, within the deadline."""
    restorer = make_restorer(publisher)
    await serve(restorer, await write(publisher, *ORDERS))
    new = await write(publisher, ROWS)
    ltx = ltx_files(publisher, "sales", new)[-1]
    hidden = ltx.rename(publisher.root / "hidden")
    restoring = asyncio.create_task(restore(restorer, new))
    reads = spy_on_lists(restorer)
    await eventually(lambda: reads)

    hidden.rename(ltx)

    assert read_rows(await restoring) == 500


def spy_on_lists(restorer: Restorer) -> list[str]:
    """Note the prefixes that are listed from now on."""
    store = restorer._roller._store  # noqa: SLF001
    listed: list[str] = []
    list_sizes = store.list_sizes

    async def note(prefix: str, **options: Any) -> dict[str, int]:
        listed.append(prefix)
        return await list_sizes(prefix, **options)

    store.list_sizes = note  # type: ignore[method-assign]
    return listed


async def test_files_that_retention_deleted_are_replaced_by_compacted_ones(tmp_path: Path) -> None:
    """A slot that is far behind is rolled forward by the levels above."""
    async with replicating(tmp_path, levels=("1s", "2s")) as publisher:
        restorer = make_restorer(publisher)
        old = await write(publisher, *ORDERS, ROWS)
        await serve(restorer, old)
        for _ in range(5):
            new = await write(publisher, ROWS)
        await eventually(
            lambda: any(
                int(path.stem[17:], 16) >= new.txid
                for path in ltx_files(publisher, "sales", new, level=1)
            )
        )
        for path in ltx_files(publisher, "sales", new):
            path.unlink()
        before = counted(restorer, "fetched_bytes")

        slot = await restore(restorer, new)

        assert check_slot(slot).value == new.checksum
        assert counted(restorer, "fetched_bytes") - before < 2 * slot.stat().st_size
        assert counted(restorer, "proof_failures") == 0


async def test_another_checksum_than_published_is_refused(publisher: LivePublisher) -> None:
    """What is whole, and still not what the primary published, is not served."""
    cut = await write(publisher, *ORDERS)
    assert cut.checksum is not None
    restorer = make_restorer(publisher, retry_for_s=0)

    with pytest.raises(RestoreError, match="find checksum"):
        await restore(restorer, replace(cut, checksum=cut.checksum ^ 1))

    assert counted(restorer, "proof_failures") == 2  # a copy of ours, and litestream's
    assert list(verify_slots(publisher.root / "reader")) == []


async def test_store_that_is_silent_is_given_up(publisher: LivePublisher) -> None:
    """A read that gets no answer ends with an error that says so, not never."""
    cut = await write(publisher, *ORDERS)
    key = ltx_key("sales", cut.lineage, 0, cut.txid, cut.txid, s3=False)
    spill = publisher.root / "spill"

    with pytest.raises(StoreError, match="no answer in 0 s"):
        await publisher.store.read_or_spill(key, spill, memory_bytes=10**9, stall_s=0)
    with pytest.raises(ObjectMissingError):
        await publisher.store.read_or_spill(f"{key}x", spill, memory_bytes=10**9, stall_s=9)


async def test_slot_torn_by_a_kill_is_never_served(publisher: LivePublisher) -> None:
    """What a killed reader was writing has no name of a slot, and is thrown away."""
    old = await write(publisher, *ORDERS, ROWS)
    new = await write(publisher, *[ROWS] * 40)
    reader = f"""
import asyncio, os, signal, sys
from headrace.generation import Cut
from headrace import roll
from tests.integration import slots_kit
import json, pathlib
class P:
    root = pathlib.Path({str(publisher.root)!r})
    store = slots_kit.Store({publisher.store.url!r})
old, new = (Cut.decode(json.loads(text)) for text in sys.argv[1:])
write, batches = roll._write_batch, 0
def write_then_die(*args):
    global batches
    batches += 1
    write(*args)
    if batches == 2:
        os.kill(os.getpid(), signal.SIGKILL)
async def main():
    restorer = slots_kit.make_restorer(P)
    await slots_kit.serve(restorer, old)
    await restorer.prune([])  # nobody serves it: it is idle, and is rolled itself
    restorer.pool._live = frozenset()
    roll._write_batch = write_then_die
    await slots_kit.restore(restorer, new)
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", reader, *(json.dumps(cut.encode()) for cut in (old, new))),
        cwd=PROJECT,
    )
    assert await process.wait() == -signal.SIGKILL
    torn = [path.name for path in (publisher.root / "reader" / "slots").rglob("*")]
    assert any(name.endswith(".part") for name in torn)
    assert not any(name.endswith((".db", ".spare")) for name in torn)
    restorer = make_restorer(publisher)

    slot = await serve(restorer, new)

    assert check_slot(slot).value == new.checksum
    assert {path.name for path in slot.parent.iterdir()} == {slot.name, f"{slot.name}.sums"}


async def test_slot_damaged_while_the_reader_was_down_is_restored_anew(
    publisher: LivePublisher,
) -> None:
    """A slot found on disk is read whole before it is served."""
    cut = await write(publisher, *ORDERS, ROWS)
    slot = await serve(make_restorer(publisher), cut)
    slot.write_bytes(flip(slot.read_bytes(), 9000))
    assert [fault is None for _, fault in verify_slots(publisher.root / "reader")] == [False]
    restorer = make_restorer(publisher)

    assert check_slot(await serve(restorer, cut)).value == cut.checksum
    assert counted(restorer, "proof_failures") == 1
    assert [fault for _, fault in verify_slots(publisher.root / "reader")] == [None]


async def test_damaged_sums_never_vouch_for_a_slot(publisher: LivePublisher) -> None:
    """A slot whose sums are gone or damaged is made anew, and they with it."""
    cut = await write(publisher, *ORDERS, ROWS)
    slot = await serve(make_restorer(publisher), cut)
    sums = sums_path(slot)
    whole = sums.read_bytes()
    for damage in (
        cut_to_nothing,
        cut_short,
        lambda body: flip(body, 20),
        lambda body: flip(body, -1),
    ):
        sums.write_bytes(damage(whole))

        assert check_slot(await serve(make_restorer(publisher), cut)).value == cut.checksum
        assert sums.read_bytes() == whole


async def test_byte_flipped_under_a_reader_is_scrubbed_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slot in service that changes on the disk is replaced, and no read fails meanwhile."""
    monkeypatch.setattr("serve.scrub.SCRUB_PAUSE_S", 0.05)
    publisher = Publisher(tmp_path)
    cut = publisher.write("sales", *ORDERS, "INSERT INTO orders VALUES (1, 'pen')")
    await publisher.publish({"sales": with_checksum(publisher, "sales", cut)})
    async with reading(settings_for(tmp_path)) as client:
        await client.wait_generation(1)
        slot = tmp_path / "reader" / "slots" / cut.lineage / slot_name(cut)
        whole = slot.read_bytes()
        at = whole.index(b"pen")
        with slot.open("r+b") as file:
            file.seek(at)
            file.write(b"pan")

        async def is_whole() -> bool:
            return slot.read_bytes() == whole and await client.rows("/sales/orders") == [
                {"id": 1, "item": "pen"}
            ]

        await eventually(is_whole)
        assert await client.metric("headrace_reader_proof_failures_total") >= 1
        assert (await client.json("/-/headrace.json"))["generation"] == 1


async def test_byte_flipped_in_slots_that_take_turns_is_found(
    publisher: LivePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Generations that come faster than a slot can be read do not keep it from being read."""
    monkeypatch.setattr("serve.scrub.SCRUB_PAUSE_S", 0)
    monkeypatch.setattr("serve.scrub.SCRUB_STEP_BYTES", 4096 * 4)
    monkeypatch.setattr("serve.scrub.SCRUB_BYTES_PER_S", 4096 * 400)
    restorer = make_restorer(publisher)
    await serve(restorer, await write(publisher, *ORDERS, *[ROWS] * 20))
    slot = await serve(restorer, await write(publisher, ROWS))
    for each in (slot, next(slot.parent.glob("*.spare"))):
        each.write_bytes(flip(each.read_bytes(), 200 * 4096 - 1))
    found = asyncio.Event()
    scrubbing = asyncio.create_task(Scrubber(restorer.pool, ReaderMetrics("test"), found.set).run())

    async with asyncio.timeout(60):
        while not found.is_set():
            await serve(restorer, await write(publisher, ROWS))
    scrubbing.cancel()
    await asyncio.wait([scrubbing])

    slot = await serve(restorer, cut := await write(publisher, ROWS))
    assert check_slot(slot).value == cut.checksum


async def test_verify_command_tells_of_each_slot(publisher: LivePublisher) -> None:
    """`headrace verify` on a reader's folder names the damaged slot, and fails."""
    cut = await write(publisher, *ORDERS, ROWS)
    slot = await serve(make_restorer(publisher), cut)
    arguments = ["verify", "--data", str(publisher.root / "reader")]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.output) == (0, f"slots/{cut.lineage}/{slot.name}: ok\n")

    slot.write_bytes(flip(slot.read_bytes(), 5000))

    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert f"slots/{cut.lineage}/{slot.name}: find checksum" in result.output
