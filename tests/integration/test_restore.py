"""Making slots with the real litestream."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from headrace.errors import RestoreError
from headrace.generation import Cut, State, format_txid
from headrace.keys import ReaderPaths
from headrace.patience import Patience
from serve.metrics import ReaderMetrics
from serve.restore import Restorer
from serve.verify import verify_copy
from tests.integration.reader_kit import ORDERS, Publisher, eventually, with_broken_txid

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    """Give a publisher with an empty log."""
    return Publisher(tmp_path)


@pytest.fixture
def paths(tmp_path: Path) -> ReaderPaths:
    """Give a reader's folders."""
    return ReaderPaths(tmp_path / "reader")


def make_restorer(publisher: Publisher, paths: ReaderPaths, retry_for_s: float = 30.0) -> Restorer:
    """Give a restorer."""
    metrics = ReaderMetrics("test")
    return Restorer(paths, publisher.store, metrics, retry_for_s=retry_for_s)


async def restore(restorer: Restorer, cut: Cut, superseded: asyncio.Event | None = None) -> Path:
    """Restore one database."""
    state = State(number=1, databases={"sales": cut})
    slots = await restorer.restore(state, superseded=superseded or asyncio.Event())
    return slots["sales"]


def read_items(slot: Path) -> list[str]:
    """Read the copy."""
    with closing(sqlite3.connect(f"file:{slot}?immutable=1", uri=True)) as db:
        return [item for (item,) in db.execute("SELECT item FROM orders ORDER BY id")]


def files_in(folder: Path) -> list[str]:
    """List all files under a folder."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


async def test_restore_of_an_older_txid_gives_the_rows_of_that_time(
    publisher: Publisher, paths: ReaderPaths
) -> None:
    """A slot holds its TXID, although the replica has gone on."""
    old = publisher.write("sales", *ORDERS, "INSERT INTO orders VALUES (1, 'pen')")
    new = publisher.write("sales", "INSERT INTO orders VALUES (2, 'ink')")
    restorer = make_restorer(publisher, paths)

    slot = await restore(restorer, old)
    await restorer.prune([slot])
    assert read_items(await restore(restorer, new)) == ["pen", "ink"]
    assert read_items(slot) == ["pen"]
    names = [f"{format_txid(cut.txid)}.db" for cut in (old, new)]
    assert files_in(paths.slots) == sorted([*names, *(f"{name}.sums" for name in names)])


async def test_restore_of_a_slot_that_exists_asks_nobody(
    publisher: Publisher, paths: ReaderPaths
) -> None:
    """A slot that is there is whole, and is used again while the store is away."""
    cut = publisher.write("sales", *ORDERS)
    slot = await restore(make_restorer(publisher, paths), cut)
    publisher.remove_replica("sales", cut)

    assert await restore(make_restorer(publisher, paths, retry_for_s=0), cut) == slot


async def test_restore_of_what_is_not_there_says_why_and_leaves_nothing(
    publisher: Publisher, paths: ReaderPaths
) -> None:
    """A copy that cannot be made is refused by its name, its TXID and litestream's own reason."""
    cut = with_broken_txid(publisher.write("sales", *ORDERS))

    with pytest.raises(RestoreError, match=f"cannot restore sales at {format_txid(cut.txid)} of "):
        await restore(make_restorer(publisher, paths, retry_for_s=0.2), cut)

    assert files_in(paths.slots) == []


async def test_restore_from_a_store_behind_the_log_waits_for_it(
    publisher: Publisher, paths: ReaderPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that becomes visible later than its log entry is waited for."""
    cut = publisher.write("sales", *ORDERS, "INSERT INTO orders VALUES (1, 'pen')")
    hidden = publisher.remove_replica("sales", cut)
    assert publisher.store.folder
    restorer = make_restorer(publisher, paths)
    reasons, wait = [], Patience.wait

    async def wait_and_count(self: Patience, reason: str) -> None:
        reasons.append(reason)
        await wait(self, reason)

    monkeypatch.setattr(Patience, "wait", wait_and_count)
    restoring = asyncio.create_task(restore(restorer, cut))
    await eventually(lambda: len(reasons) > 1)
    hidden.rename(publisher.store.folder / "dbs" / "sales" / cut.lineage)

    assert read_items(await restoring) == ["pen"]
    assert reasons[0] == (
        "no LTX files lead from 0000000000000000 to 0000000000000001; there are none"
    )


async def test_restore_that_fails_is_given_up_when_a_newer_generation_is_known(
    publisher: Publisher, paths: ReaderPaths
) -> None:
    """Nobody waits for a generation that nobody needs any more."""
    cut = with_broken_txid(publisher.write("sales", *ORDERS))
    superseded = asyncio.Event()
    superseded.set()

    with pytest.raises(RestoreError):
        await restore(make_restorer(publisher, paths, retry_for_s=3600), cut, superseded)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"pages": 99}, "not 99 pages of 4096"),
        ({"page_size": 1024}, "pages of 1024"),
        ({"tables": {"orders": 0, "gone": 1}}, "find no table 'gone'"),
    ],
)
async def test_restore_of_another_copy_than_published_is_refused(
    publisher: Publisher, paths: ReaderPaths, change: dict[str, object], reason: str
) -> None:
    """A copy that is not what the generation says never becomes a slot."""
    cut = replace(publisher.write("sales", *ORDERS), **change)  # type: ignore[arg-type]

    with pytest.raises(RestoreError, match=reason):
        await restore(make_restorer(publisher, paths), cut)

    assert files_in(paths.slots) == []


async def test_verify_of_a_torn_copy_is_refused(publisher: Publisher, paths: ReaderPaths) -> None:
    """A copy with a page of zeros is found out."""
    rows = [f"INSERT INTO orders VALUES ({n}, '{'x' * 500}')" for n in range(100)]
    cut = publisher.write("sales", *ORDERS, *rows)
    slot = await restore(make_restorer(publisher, paths), cut)
    with slot.open("r+b") as file:
        file.seek(5 * cut.page_size)
        file.write(bytes(cut.page_size))

    with pytest.raises(RestoreError, match="broken"):
        await verify_copy(slot, cut)


async def test_prune_keeps_what_is_wanted_only(publisher: Publisher, paths: ReaderPaths) -> None:
    """Slots that nobody serves go, all but the one that is rolled next; torn ones go."""
    restorer = make_restorer(publisher, paths)
    slots = []
    for number in range(3):
        statements = ORDERS if number == 0 else [f"INSERT INTO orders VALUES ({number}, 'a')"]
        slots.append(await restore(restorer, publisher.write("sales", *statements)))
        await restorer.prune(slots)
    publisher.begin_lineage("sales")
    other = await restore(restorer, publisher.write("sales", *ORDERS))
    torn = slots[0].with_name(f"{slots[0].name}.1234.part")
    torn.touch()

    await restorer.prune([slots[2]])
    await restorer.prune([slots[2]])

    spare = slots[1].with_suffix(".spare").name
    kept = [spare, slots[2].name]
    assert files_in(paths.slots) == sorted([*kept, *(f"{name}.sums" for name in kept)])
    assert not other.parent.exists()
