"""The lease on a real store: one holder, however many want it, and however clocks go."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headrace.errors import ConfigError, LeaseLostError, LogError, Refusal
from headrace.keys import LEASES_PREFIX
from headrace.lease import KEPT, Lease, LeaseLog
from headrace.store import Store
from ingest.lease import LeaseHolder
from ingest.lease_note import LeaseNote
from ingest.metrics import IngestMetrics
from tests.integration.reader_kit import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def leases(store: str) -> LeaseLog:
    """Give the log of leases of an empty store, of each kind."""
    return LeaseLog(Store(store))


@pytest.fixture
def local(tmp_path: Path) -> LeaseLog:
    """Give that of an empty folder."""
    return LeaseLog(Store(str(tmp_path / "store")))


@pytest.fixture(autouse=True)
def _quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.lease.RETRY_S", 0.02)
    monkeypatch.chdir(tmp_path)  # volumes are made in it


def holder(
    leases: LeaseLog, owner: str, *, duration_s: float = 0.5, renew_every_s: float = 0.1
) -> LeaseHolder:
    """Give a node that has not tried for the lease yet, on the volume of that name."""
    volume = Path(f"volume-{owner}")
    volume.mkdir(exist_ok=True)
    (volume / "lock").touch()
    return LeaseHolder(
        leases,
        owner,
        LeaseNote(volume / "lease", volume / "lock"),
        duration_s=duration_s,
        renew_every_s=renew_every_s,
        metrics=IngestMetrics(),
    )


async def take(node: LeaseHolder, *, standby: bool = True) -> bool:
    """Take the lease; give whether the volume can be believed."""
    return (await node.take(standby=standby, least_epoch=0)).believed


@asynccontextmanager
async def renewing(node: LeaseHolder) -> AsyncIterator[asyncio.Task[None]]:
    """Renew while the block runs."""
    task = asyncio.create_task(node.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_lease_that_many_want_at_once_has_one_holder(leases: LeaseLog, store: str) -> None:
    """Put-if-absent decides: one takes it, the others wait."""
    count = 5 if store.startswith("s3") else 20  # SeaweedFS lets each wait for the one before
    nodes = [holder(leases, f"node-{number}", duration_s=60) for number in range(count)]
    tries = [asyncio.create_task(take(node)) for node in nodes]

    await asyncio.wait(tries, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0)  # whoever else would have taken it has by now

    assert sum(node.held.is_set() for node in nodes) == 1
    for each in tries:
        each.cancel()
    await asyncio.gather(*tries, return_exceptions=True)


async def test_lease_is_kept_by_renewals(leases: LeaseLog) -> None:
    """Each renewal is the next entry, of the same epoch; a standby sees them and waits on."""
    first, second = holder(leases, "a", duration_s=30), holder(leases, "b")
    assert await take(first)
    async with renewing(first):
        waiting = asyncio.create_task(take(second))

        async def look() -> bool:
            newest = await leases.find_newest()
            return newest is not None and newest.number > 8

        await eventually(look)

        newest = await leases.find_newest()
        assert newest is not None
        assert (newest.owner, newest.epoch) == ("a", 1)
        assert not waiting.done()
        first.check()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_lease_that_is_not_renewed_goes_to_the_standby(leases: LeaseLog) -> None:
    """A dead primary's lease is taken once it has expired, with the next epoch."""
    first, second = holder(leases, "a"), holder(leases, "b")
    await take(first)

    assert not await take(second)  # somebody else had it: the volume is not believed

    assert second.epoch == 2


async def test_standby_looks_again_at_the_end_of_the_lease(
    local: LeaseLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease that is over is not found out by the next look alone, which may be far away."""
    monkeypatch.setattr("ingest.lease.POLL", 1000)
    await take(holder(local, "first"))
    standby = holder(local, "second")

    async with asyncio.timeout(30):
        assert not await take(standby)

    assert standby.epoch == 2


async def test_lease_is_watched_not_read_off_a_clock(local: LeaseLog) -> None:
    """An entry's time says nothing: one that looks years old is left alone for its duration."""
    first, second = holder(local, "a"), holder(local, "b")
    await take(first)
    newest = await local.find_newest()
    assert newest is not None
    await local.create(replace(newest, number=2, created_at=newest.created_at.replace(year=1999)))
    started_s = asyncio.get_running_loop().time()

    await take(second)

    assert asyncio.get_running_loop().time() - started_s >= newest.duration_s


async def test_lease_that_was_given_back_is_free_at_once(leases: LeaseLog) -> None:
    """An orderly stop makes nobody wait."""
    first = holder(leases, "a", duration_s=3600, renew_every_s=10)  # which bounds a stop, too
    second = holder(leases, "b")
    await take(first)

    await first.give_back(10)

    await asyncio.wait_for(take(second), 10)
    with pytest.raises(Refusal, match="lease"):
        first.check()


async def test_lease_is_given_back_after_a_renewal_that_was_on_its_way(leases: LeaseLog) -> None:
    """A stop in the middle of a renewal makes nobody wait either."""
    first = holder(leases, "a", duration_s=3600, renew_every_s=10)
    await take(first)
    newest = await leases.find_newest()
    assert newest is not None
    await leases.create(replace(newest, number=2))  # whose answer the stop came before

    await first.give_back(10)

    newest = await leases.find_newest()
    assert newest is not None
    assert (newest.number, newest.duration_s) == (3, 0)


async def test_lease_of_the_same_volume_is_taken_at_once(leases: LeaseLog) -> None:
    """A restart on its volume does not wait for its own lease, and believes the volume."""
    await take(holder(leases, "a", duration_s=3600))
    again = holder(leases, "a")

    assert await asyncio.wait_for(take(again), 10)

    assert again.epoch == 2


async def test_volume_whose_process_died_at_once_is_believed(local: LeaseLog) -> None:
    """A process that died before it had the lease takes nothing from the one before it."""
    await take(holder(local, "a", duration_s=3600))
    newest = await local.find_newest()
    assert newest is not None
    note = LeaseNote(Path("volume-a/lease"), Path("volume-a/lock"))
    note.write(replace(newest, number=2, process="that died"))

    assert await asyncio.wait_for(take(holder(local, "a")), 10)


async def test_volume_that_cannot_be_written_keeps_the_lease(local: LeaseLog) -> None:
    """A full disk ends no primary; the next start waits for the lease."""
    node = holder(local, "a", renew_every_s=0.02)
    Path("volume-a/lease").mkdir()
    await take(node)
    async with renewing(node):

        async def look() -> bool:
            return await local.find(4) is not None

        await eventually(look)
        node.check()

    assert not await take(holder(local, "a"))


@pytest.mark.parametrize("same_inode", [False, True])
async def test_copy_of_a_volume_waits_for_its_running_original(
    local: LeaseLog, *, same_inode: bool
) -> None:
    """Files that were copied, and a snapshot of the disk: whoever is started from it is told."""
    first = holder(local, "a", duration_s=30)
    await take(first)
    _copy_volume("a", "copy", same_inode=same_inode)
    async with renewing(first):

        async def look() -> bool:
            return await local.find(2) is not None

        await eventually(look)

        with pytest.raises(ConfigError, match="another primary holds the lease"):
            await take(holder(local, "copy"), standby=False)


async def test_copied_files_are_not_believed_before_the_first_renewal(local: LeaseLog) -> None:
    """However soon a copy is started, it waits until its original has ended."""
    await take(holder(local, "a"))
    _copy_volume("a", "copy", same_inode=False)

    assert not await take(holder(local, "copy"))


@pytest.mark.parametrize("same_inode", [False, True])
async def test_copy_that_is_older_than_a_restart_is_not_believed(
    local: LeaseLog, *, same_inode: bool
) -> None:
    """What its original has done since is not on it."""
    first = holder(local, "a", renew_every_s=10)
    await take(first)
    await first.give_back(10)
    _copy_volume("a", "copy", same_inode=same_inode)
    again = holder(local, "a", renew_every_s=10)
    assert await take(again)
    await again.give_back(10)

    assert not await take(holder(local, "copy"))


async def test_copy_of_a_volume_that_was_left_in_order_is_believed(local: LeaseLog) -> None:
    """A volume is moved by a stop, a copy and a start: nobody waits, nothing is made anew."""
    first = holder(local, "a", duration_s=3600, renew_every_s=10)
    await take(first)
    await first.give_back(10)
    _copy_volume("a", "copy", same_inode=False)

    assert await asyncio.wait_for(take(holder(local, "copy")), 10)


def _copy_volume(owner: str, to: str, *, same_inode: bool) -> None:
    """Copy what a volume knows, as files or as a snapshot of the whole disk."""
    original, copy = Path(f"volume-{owner}"), Path(f"volume-{to}")
    copy.mkdir()
    shutil.copy(original / "lease", copy)
    if same_inode:
        (copy / "lock").hardlink_to(original / "lock")


async def test_second_primary_that_is_no_standby_is_refused(local: LeaseLog) -> None:
    """Who did not say that it would wait is told that another primary is alive."""
    first = holder(local, "a", duration_s=30)
    await take(first)
    async with renewing(first):
        with pytest.raises(ConfigError, match="another primary holds the lease"):
            await take(holder(local, "b"), standby=False)


async def test_holder_that_finds_its_number_taken_has_lost(leases: LeaseLog) -> None:
    """A primary that woke up too late learns it at its next renewal, and does not write on."""
    first, second = holder(leases, "a"), holder(leases, "b")
    await take(first)
    await take(second)

    async with renewing(first) as task:
        with pytest.raises(LeaseLostError):
            await asyncio.wait_for(task, 10)

    second.check()


async def test_lease_lapses_without_the_store_and_is_had_back(
    local: LeaseLog, tmp_path: Path
) -> None:
    """What may write stops when the lease cannot be renewed, and goes on when it can again."""
    node = holder(local, "a")
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        await asyncio.Event().wait()

    await take(node)
    working = asyncio.create_task(node.while_held(work))
    async with renewing(node):
        await eventually(lambda: runs == 1)
        store, away = tmp_path / "store", tmp_path / "away"
        store.rename(away)
        store.touch()  # in the way of whoever would make the folder anew
        await asyncio.wait_for(node.lapsed.wait(), 10)
        with pytest.raises(Refusal) as refused:
            node.check()
        assert refused.value.code == "lease-lapsed"

        store.unlink()
        away.rename(store)
        await asyncio.wait_for(node.held.wait(), 10)

        await eventually(lambda: runs == 2)
        assert node.epoch == 2
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_lapsed_lease_that_another_took_is_lost(local: LeaseLog, tmp_path: Path) -> None:
    """A primary that was cut off from the store ends when it finds a successor there."""
    first = holder(local, "a")
    await take(first)
    store, away = tmp_path / "store", tmp_path / "away"
    async with renewing(first) as task:
        store.rename(away)
        store.touch()
        await asyncio.wait_for(first.lapsed.wait(), 10)
        there = LeaseLog(Store(str(away)))  # as another sees it, who is not cut off
        newest = await there.find_newest()
        assert newest is not None
        await there.create(replace(newest, number=newest.number + 1, owner="b", process="b"))
        store.unlink()
        away.rename(store)

        with pytest.raises(LeaseLostError):
            await asyncio.wait_for(task, 10)


async def test_renewal_whose_answer_was_lost_is_its_own(leases: LeaseLog) -> None:
    """An entry that the same process created in an earlier try is gone on from."""
    node = holder(leases, "a", duration_s=60, renew_every_s=0.05)
    await take(node)
    newest = await leases.find_newest()
    assert newest is not None
    await leases.create(replace(newest, number=2, created_at=newest.created_at.replace(year=2020)))

    async with renewing(node):

        async def look() -> bool:
            return await leases.find(4) is not None

        await eventually(look)
    node.check()


async def test_epoch_is_above_that_of_the_generations(local: LeaseLog) -> None:
    """A log of local that was lost does not bring old epochs back."""
    node = holder(local, "a")

    await node.take(standby=False, least_epoch=41)

    assert node.epoch == 42


async def test_journal_that_the_lease_names_is_kept_by_renewals_and_heirs(
    leases: LeaseLog,
) -> None:
    """A successor learns from the lease which journal to go on with."""
    first, second = holder(leases, "a"), holder(leases, "b")
    await take(first)
    await first.name_journal("0123456789abcdef")

    await take(second)

    assert second.journal == "0123456789abcdef"


async def test_old_leases_are_deleted(leases: LeaseLog, store: str) -> None:
    """The log of leases does not grow without end."""
    node = holder(leases, "a", duration_s=60, renew_every_s=0.001)
    await take(node)
    async with renewing(node):

        async def look() -> bool:
            return await leases.find(KEPT + 20) is not None

        await eventually(look)

    assert await leases.find(1) is None
    assert len(await Store(store).list_sizes(LEASES_PREFIX, stall_s=30)) <= KEPT + 1


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"lease": 1}'])
async def test_lease_that_cannot_be_read_is_an_error(body: bytes) -> None:
    """What is no lease is not taken for none."""
    with pytest.raises(LogError):
        Lease.decode(body)


async def test_lease_is_read_back_as_it_was_written(local: LeaseLog) -> None:
    """The form of the contract: number, epoch, owner, process, duration, journal, time."""
    await take(holder(local, "a"))
    newest = await local.find_newest()
    assert newest is not None
    assert Lease.decode(newest.encode()) == newest
    assert list(json.loads(newest.encode())) == [
        *("lease", "epoch", "owner", "process", "duration_s", "journal", "created_at"),
    ]
