"""Pruning lineages, archives and what else lies in the store: nothing that is needed ever goes."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from headrace.clock import SteadyClock
from headrace.config import find_litestream_config
from headrace.errors import LogError, Refusal
from headrace.generation import Entry, State
from headrace.history import read_at
from headrace.keys import (
    JOURNAL_DATABASE,
    PrimaryPaths,
    generation_key,
    incoming_key,
    incoming_receipt_key,
    lease_key,
    lineage_key,
    ltx_key,
    reader_key,
    upload_key,
)
from headrace.lease import KEPT, LeaseLog
from headrace.log import CHECKPOINT_EVERY, GenerationLog
from headrace.receipt import new_receipt_id
from headrace.stopping import Stop
from headrace.store import Store
from ingest.checksums import Checksums
from ingest.holds import Holds
from ingest.journal import Journal, Options
from ingest.lease import LeaseHolder
from ingest.lease_note import LeaseNote
from ingest.metrics import IngestMetrics
from ingest.primary import Primary
from ingest.prune import LogPruner
from ingest.prune_objects import Pruner, Retention
from ingest.publish import Publisher
from ingest.replicate import Litestream
from ingest.sending import Sending
from tests.unit.test_generation import make_cut
from tests.unit.test_receipt import make_receipt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ingest.prune_objects import Doomed

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
RETENTION = Retention(generations=DAY, uploads=7 * DAY)
LOG_RETENTION = 30 * DAY


@dataclass(kw_only=True)
class Site:
    """A store in a folder with its past, and the primary of it."""

    store: Store
    folder: Path
    paths: PrimaryPaths
    journal: Journal
    lease: LeaseHolder
    state: State = field(default_factory=State)
    states: list[tuple[datetime, Entry, State]] = field(default_factory=list)
    holds: Holds = field(default_factory=Holds)
    metrics: IngestMetrics = field(default_factory=IngestMetrics)

    async def publish(
        self, at: datetime, cuts: dict[str, tuple[str, int]], removed: tuple[str, ...] = ()
    ) -> str:
        """Publish an upload as of some time; give its receipt's id."""
        receipt = new_receipt_id(datetime.now(UTC))
        entry = Entry(
            number=self.state.number + 1,
            epoch=self.lease.epoch,
            created_at=at,
            cause={"kind": "ingest", "receipt": receipt},
            databases={
                name: replace(make_cut(1), lineage=lineage, txid=txid)
                for name, (lineage, txid) in cuts.items()
            },
            removed=removed,
        )
        self.state = await GenerationLog(self.store).publish(self.state, entry)
        self.touch(generation_key(entry.number), at)
        if entry.number % CHECKPOINT_EVERY == 0:
            self.touch(f"generations/checkpoints/{entry.number:020d}.json", at)
        self.states.append((at, entry, self.state))
        return receipt

    def write(self, key: str, at: datetime, *, size: int = 10) -> None:
        """Have an object that was written at some time."""
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        self.touch(key, at)

    def touch(self, key: str, at: datetime) -> None:
        """Let an object look as if it was written at some time."""
        os.utime(self.folder / key, (at.timestamp(), at.timestamp()))

    def write_lineage(
        self, database: str, at: datetime, *, txid: int = 1, lineage: str = ""
    ) -> str:
        """Have a transaction of a lineage; give the lineage."""
        lineage = lineage or secrets.token_hex(8)
        self.write(ltx_key(database, lineage, 0, txid, txid, s3=False), at)
        return lineage

    def put_on_volume(self, database: str, lineage: str) -> None:
        """Have a lineage on the volume, as it is before it is published."""
        path = self.paths.database(database, lineage)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def pruner(self) -> Pruner:
        """Give the pruner of a primary that has just started."""
        generations = GenerationLog(self.store)
        publisher = Publisher(generations, self.state, lambda: self.lease.epoch)
        litestream = Litestream(
            config=find_litestream_config(None),
            paths=self.paths,
            store=self.store,
            socket_path=self.paths.root / "sock",
            metrics=self.metrics,
            stop=Stop(60),
        )
        return Pruner(
            store=self.store,
            generations=generations,
            log_pruner=LogPruner(self.store, generations, LOG_RETENTION, self.metrics),
            primary=Primary(
                paths=self.paths,
                store=self.store,
                sending=Sending(self.store),
                litestream=litestream,
                publisher=publisher,
                checksums=Checksums(self.paths, self.store, self.metrics),
                metrics=self.metrics,
            ),
            paths=self.paths,
            journal=self.journal,
            lease=self.lease,
            holds=self.holds,
            retention=RETENTION,
            metrics=self.metrics,
        )

    def files(self) -> set[str]:
        """List all objects."""
        paths = (path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)) for path in paths}


@asynccontextmanager
async def site_in(root: Path, kind: type[Store] = Store) -> AsyncIterator[Site]:
    """Give an empty site whose primary holds the lease."""
    store = kind(str(root / "store"))
    paths = PrimaryPaths(root / "volume")
    paths.dbs.mkdir(parents=True)
    paths.lock.touch()
    lease = LeaseHolder(
        LeaseLog(store),
        "owner",
        LeaseNote(paths.lease, paths.lock),
        duration_s=3600,
        renew_every_s=600,
        metrics=IngestMetrics(),
    )
    await lease.take(standby=False, least_epoch=0)
    journal = Journal(root / "journal.db", SteadyClock(datetime.now(UTC)))
    try:
        site = Site(store=store, folder=root / "store", paths=paths, journal=journal, lease=lease)
        site.touch(lease_key(1), NOW)  # the store's time
        yield site
    finally:
        await journal.close()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """Give an empty site."""
    async with site_in(tmp_path) as made:
        yield made


def names(doomed: list[Doomed], kind: str) -> set[str]:
    """Give what is doomed of a kind."""
    return {each.name for each in doomed if each.kind == kind}


class Past:
    """A random past of some weeks, and what of it may go."""

    def __init__(self, site: Site, rng: random.Random) -> None:
        self._site = site
        self._rng = rng
        self._at = NOW - timedelta(days=rng.choice([1, 3, 60]))
        self._live: dict[str, tuple[str, int]] = {}
        self._written: dict[str, list[datetime]] = {}  # of each lineage and upload
        self._kept: set[str] = set()

    async def make(self) -> None:
        """Have it in the store."""
        for _ in range(self._rng.choice([3, 30, 130])):
            later = self._at + self._rng.random() * (NOW - self._at) / 8
            self._at = min(later, NOW - timedelta(minutes=1))
            steps = [self._append, self._append, self._replace, self._delete, self._fail]
            await self._rng.choice([*steps, self._lose, self._begin])(self._rng.choice("abcd"))
        for number, (_at, entry, state) in enumerate(self._site.states, start=1):
            following = self._site.states[number:]
            if not following or following[0][0] > NOW - RETENTION.generations:
                lineages = state.databases.items()
                self._kept |= {lineage_key(name, cut.lineage) for name, cut in lineages}
                self._kept.add(f"uploads/{entry.cause['receipt']}")

    def doomed(self, root: str, age: timedelta) -> set[str]:
        """Give what is neither kept nor young."""
        return {
            prefix
            for prefix, times in self._written.items()
            if prefix.startswith(root)
            and prefix not in self._kept
            and all(each <= NOW - age for each in times)
        }

    async def _append(self, name: str) -> None:
        await self._publish(name, *self._live.get(name, ("", 0)))

    async def _replace(self, name: str) -> None:
        await self._publish(name, "", 0)

    async def _publish(self, name: str, lineage: str, txid: int) -> None:
        self._live[name] = (self._write(name, lineage, txid + 1), txid + 1)
        self._archive(await self._site.publish(self._at, {name: self._live[name]}))

    async def _delete(self, name: str) -> None:
        if self._live.pop(name, None):
            await self._site.publish(self._at, {}, removed=(name,))

    async def _fail(self, _name: str) -> None:
        self._archive(new_receipt_id(datetime.now(UTC)))

    async def _lose(self, name: str) -> None:
        """End before it is published."""
        self._write(name, "", 1)

    async def _begin(self, name: str) -> None:
        """Be on the way, and merged already."""
        lineage = self._write(name, "", 1)
        self._site.put_on_volume(name, lineage)
        receipt = make_receipt(id=new_receipt_id(datetime.now(UTC)))
        await self._site.journal.add([(receipt, Options(table=None, media_type=None))])
        self._kept |= {lineage_key(name, lineage), self._archive(receipt.id)}

    def _write(self, database: str, lineage: str, txid: int) -> str:
        lineage = self._site.write_lineage(database, self._at, txid=txid, lineage=lineage)
        self._written.setdefault(lineage_key(database, lineage), []).append(self._at)
        return lineage

    def _archive(self, receipt: str) -> str:
        key = upload_key(receipt, "a.csv")
        self._site.write(key, self._at)
        prefix = key.rpartition("/")[0]
        self._written.setdefault(prefix, []).append(self._at)
        return prefix


@pytest.mark.parametrize("seed", range(16))
async def test_prune_deletes_all_that_is_not_kept_and_nothing_else(site: Site, seed: int) -> None:
    """Of any past: every kept generation has all its objects; a dry run says what will go."""
    past = Past(site, random.Random(seed))
    await past.make()
    lineages = past.doomed("dbs/", RETENTION.generations)
    archives = past.doomed("uploads/", RETENTION.uploads)
    before = site.files()
    pruner = site.pruner()

    planned = await pruner.plan()

    assert names(planned, "lineage") == lineages
    assert names(planned, "archive") == archives
    assert site.files() == before
    done = await pruner.prune()
    assert done == planned
    gone = before - site.files()
    assert {name for name in gone if not name.startswith("generations/")} == {
        name
        for name in before
        if name.startswith(tuple(f"{each}/" for each in lineages | archives))
    }
    assert sum(each.objects for each in done) == len(gone)
    kept_from = NOW - RETENTION.generations
    for (_at, _entry, state), (next_at, _next, _state) in zip(
        site.states, site.states[1:], strict=False
    ):
        if next_at > kept_from:
            found = await read_at(GenerationLog(site.store), state.number)
            assert found.databases.keys() == state.databases.keys()
    assert names(await site.pruner().plan(), "lineage") == set()


async def test_generation_is_kept_from_when_the_next_took_its_place(site: Site) -> None:
    """What was published long ago and deleted just now can be brought back."""
    old, new = (site.write_lineage("sales", NOW - age * DAY) for age in (90, 80))
    await site.publish(NOW - 90 * DAY, {"sales": (old, 1)})
    await site.publish(NOW - 80 * DAY, {"sales": (new, 1)})
    await site.publish(NOW - timedelta(hours=23), {}, removed=("sales",))

    assert names(await site.pruner().plan(), "lineage") == {lineage_key("sales", old)}

    site.touch(generation_key(3), NOW - timedelta(hours=25))
    planned = await site.pruner().plan()
    assert names(planned, "lineage") == {lineage_key("sales", each) for each in (old, new)}


async def test_journal_of_the_lease_and_of_the_volume_stay(site: Site) -> None:
    """They are no generation's; one that nobody names any more goes."""
    named, here, old = (site.write_lineage(JOURNAL_DATABASE, NOW - 9 * DAY) for _ in range(3))
    await site.lease.name_journal(named)
    site.put_on_volume(JOURNAL_DATABASE, here)

    assert names(await site.pruner().prune(), "lineage") == {lineage_key(JOURNAL_DATABASE, old)}


async def test_old_files_of_a_live_lineage_go(site: Site) -> None:
    """All before the last snapshot that the oldest kept generation needs."""
    lineage = secrets.token_hex(8)
    ages = {1: 9, 2: 5, 3: 4, 4: 0}  # days, of each transaction
    for txid, age in ages.items():
        site.write_lineage("sales", NOW - age * DAY, txid=txid, lineage=lineage)
        await site.publish(NOW - age * DAY, {"sales": (lineage, txid)})
    site.write(ltx_key("sales", lineage, 1, 1, 3, s3=False), NOW - 4 * DAY)
    for txid in (1, 2, 4):
        site.write(ltx_key("sales", lineage, 9, 1, txid, s3=False), NOW - ages[txid] * DAY)
    before = site.files()

    (planned,) = await site.pruner().plan()
    assert (planned.kind, planned.name) == ("ltx", lineage_key("sales", lineage))
    await site.pruner().prune()

    keys = {(0, 1, 1), (0, 2, 2), (9, 1, 1)}
    assert before - site.files() == {ltx_key("sales", lineage, *key, s3=False) for key in keys}


async def test_leases_and_probes_that_were_left_go(site: Site) -> None:
    """What a lost answer or a crash left of the lease's log and of the tries at a start."""
    for _ in range(KEPT + 1):
        await site.lease.name_journal("0" * 16)
    body = (site.folder / lease_key(KEPT)).read_bytes()
    (site.folder / lease_key(1)).write_bytes(body)
    site.write("probes/old", NOW - 8 * DAY)
    site.write("probes/new", NOW)

    done = await site.pruner().prune()

    assert {(each.kind, each.name) for each in done} == {
        ("lease", lease_key(1)),
        ("probe", "probes/old"),
    }


async def test_reports_of_readers_go_after_a_day(site: Site) -> None:
    """A reader that is still there has written another one by then, if there is no primary."""
    site.write(reader_key("old"), NOW - DAY)
    site.write(reader_key("new"), NOW - DAY / 2)

    done = await site.pruner().prune()

    assert [(each.kind, each.name) for each in done] == [("report", reader_key("old"))]


async def test_uploads_that_no_primary_has_taken_stay(site: Site) -> None:
    """I1: what a reader took is kept until a primary has it; what it did not finish goes."""
    old, receipt_id = NOW - 30 * DAY, new_receipt_id(NOW)
    site.write(upload_key(receipt_id, "sales.csv"), old)
    site.write(incoming_receipt_key(receipt_id), old)
    site.write(incoming_key(receipt_id), old)
    before = site.files()

    assert await site.pruner().prune() == []
    assert site.files() == before

    await site.store.delete(incoming_key(receipt_id))  # as if it had never been written
    for kind in ("incoming", "archive"):
        assert [each.kind for each in await site.pruner().prune()] == [kind]
    assert not site.files() & before - {lease_key(1)}


async def test_what_is_being_read_stays(site: Site) -> None:
    """Somebody who goes back just now keeps the lineage; it goes the next time."""
    lineage = lineage_key("sales", site.write_lineage("sales", NOW - 9 * DAY))
    pruner = site.pruner()
    with site.holds.hold(lineage):
        assert names(await pruner.prune(), "lineage") == set()
    assert names(await pruner.prune(), "lineage") == {lineage}
    with site.holds.let_go(lineage) as free:
        assert free
        holding = site.holds.hold(lineage)
        with pytest.raises(Refusal, match="being deleted"):
            holding.__enter__()


class BusyStore(Store):
    """Does something before it deletes the first lineage."""

    before_first = staticmethod(lambda: asyncio.sleep(0))

    async def delete_all(self, prefix: str, *, stall_s: float) -> None:
        """Do it, and delete."""
        before, self.before_first = self.before_first, lambda: asyncio.sleep(0)
        await before()
        await super().delete_all(prefix, stall_s=stall_s)


async def test_lineage_that_appears_on_the_volume_during_a_prune_stays(tmp_path: Path) -> None:
    """Each is looked at once more before it is deleted."""
    async with site_in(tmp_path, BusyStore) as site:
        first, second = sorted(site.write_lineage("sales", NOW - 9 * DAY) for _ in range(2))

        async def appear() -> None:
            site.put_on_volume("sales", second)

        site.store.before_first = appear  # type: ignore[attr-defined]
        assert names(await site.pruner().prune(), "lineage") == {lineage_key("sales", first)}
        assert names(await site.pruner().plan(), "lineage") == set()


async def test_primary_whose_lease_ends_during_a_prune_deletes_no_more(tmp_path: Path) -> None:
    """Only the holder of the lease prunes."""
    async with site_in(tmp_path, BusyStore) as site:
        first, second = sorted(site.write_lineage("sales", NOW - 9 * DAY) for _ in range(2))
        site.store.before_first = partial(site.lease.give_back, 10)  # type: ignore[attr-defined]

        with pytest.raises(Refusal, match="lease"):
            await site.pruner().prune()

        left = {lineage_key("sales", each) for each in (second,)}
        assert names(await site.pruner().plan(), "lineage") == left
        assert first != second


async def test_log_that_cannot_be_read_lets_nothing_go(site: Site) -> None:
    """What is kept is not known then."""
    lineage = site.write_lineage("sales", NOW - 9 * DAY)
    for age in (5, 4, 0, 0):
        await site.publish(NOW - age * DAY, {"sales": (secrets.token_hex(8), 1)})
    site.write(generation_key(4), NOW)

    with pytest.raises(LogError):
        await site.pruner().prune()

    assert (site.folder / lineage_key("sales", lineage)).exists()


async def test_store_without_a_lease_lets_nothing_go(site: Site) -> None:
    """The store's time is not known then."""
    (site.folder / lease_key(1)).unlink()
    with pytest.raises(LogError, match="find no lease"):
        await site.pruner().plan()
