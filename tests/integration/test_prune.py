"""Pruning the generation log, and reading one that is pruned meanwhile."""

from __future__ import annotations

import asyncio
import os
import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from headrace.errors import ObjectMissingError, PrimaryLostError, StoreError
from headrace.generation import Entry, State
from headrace.keys import (
    GENERATIONS_PREFIX,
    LAST_CHECKPOINT,
    checkpoint_key,
    generation_key,
    parse_log_key,
)
from headrace.log import GenerationLog
from headrace.store import Store
from ingest.metrics import IngestMetrics
from ingest.prune import LogPruner
from ingest.publish import Publisher
from serve import follow
from tests.integration.reader_kit import NO_PRIMARY, eventually
from tests.integration.test_follow import following
from tests.unit.test_generation import make_cut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from headrace.store import Listed

ENTRIES = 230
LAST = 200  # checkpoint
RETENTION_DAYS = 30


class CountedStore(Store):
    """Counts, and may be taken away in the middle of a prune."""

    deletes_left = 10**9
    deletes = 0
    lists = 0

    async def delete(self, key: str) -> None:
        """Delete, unless the store is away."""
        if self.deletes_left == 0:
            raise StoreError(f"cannot delete {key}: the store is away")
        self.deletes_left -= 1
        self.deletes += 1
        await super().delete(key)

    def list_objects(self, prefix: str, *, stall_s: float) -> AsyncIterator[Listed]:
        """Count, and list."""
        self.lists += 1
        return super().list_objects(prefix, stall_s=stall_s)


class Log:
    """A log in a folder, of which a copy of each state is remembered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = CountedStore(str(folder))
        self.log = GenerationLog(self.store)
        self.states = [State()]
        self.metrics = IngestMetrics()

    async def publish(self, count: int = 1, *, at: datetime | None = None) -> State:
        """Publish some entries, each with another database changed."""
        for _ in range(count):
            number = self.states[-1].number + 1
            entry = Entry(
                number=number,
                epoch=1,
                created_at=(at or datetime.now(UTC)).replace(microsecond=0),
                cause={"kind": "ingest"},
                databases={f"db{number % 7}": make_cut(number)},
                removed=(f"db{(number + 1) % 7}",),
            )
            self.states.append(await self.log.publish(self.states[-1], entry))
        return self.states[-1]

    def age(self, newest: int, *, days: float) -> None:
        """Let all up to a number look as if it were written some days ago."""
        at_s = (datetime.now(UTC) - timedelta(days=days)).timestamp()
        for number, is_checkpoint in self.found():
            if number <= newest:
                key = checkpoint_key(number) if is_checkpoint else generation_key(number)
                os.utime(self.folder / key, (at_s, at_s))

    def found(self) -> list[tuple[int, bool]]:
        """List what lies in the log: numbers, and whether each is a checkpoint."""
        paths = (self.folder / GENERATIONS_PREFIX).rglob("*.json")
        parsed = (parse_log_key(str(path.relative_to(self.folder))) for path in paths)
        return sorted(each for each in parsed if each is not None)

    def entries(self) -> list[int]:
        """List the entries."""
        return [number for number, is_checkpoint in self.found() if not is_checkpoint]

    def checkpoints(self) -> list[int]:
        """List the checkpoints."""
        return [number for number, is_checkpoint in self.found() if is_checkpoint]

    def pruner(self) -> LogPruner:
        """Give a pruner that has not pruned yet."""
        retention = timedelta(days=RETENTION_DAYS)
        return LogPruner(self.store, self.log, retention, self.metrics)

    def counted(self, kind: str) -> float | None:
        """Give what the metric says."""
        return self.metrics.registry.get_sample_value(
            "headrace_ingest_pruned_total", {"kind": kind}
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Make a log once, for copies of it; its first 170 entries are old."""
    log = Log(tmp_path_factory.mktemp("log"))
    asyncio.run(log.publish(170, at=datetime.now(UTC) - timedelta(days=40)))
    asyncio.run(log.publish(ENTRIES - 170))
    log.age(170, days=40)
    return log


@pytest.fixture
def log(made: Log, tmp_path: Path) -> Log:
    """Give a log of 230 entries with checkpoints at 50 to 200, old up to entry 170."""
    shutil.copytree(made.folder, tmp_path / "log")  # with its times
    log = Log(tmp_path / "log")
    log.states = list(made.states)
    return log


async def test_prune_keeps_a_log_that_reads_the_same(log: Log) -> None:
    """What goes is old and before a checkpoint; a fresh reader gets the same state."""
    await log.pruner().prune()

    assert log.entries() == list(range(151, ENTRIES + 1))
    assert log.checkpoints() == [150, 200]
    assert await log.log.read_newest() == log.states[-1]
    assert (log.counted("entry"), log.counted("checkpoint")) == (150, 2)


async def test_prune_keeps_every_state_that_is_younger_than_the_retention(log: Log) -> None:
    """Each generation from the first young one on can still be put together, for rolling back."""
    log.age(119, days=40)
    for number, is_checkpoint in log.found():
        if number >= 120:
            key = checkpoint_key(number) if is_checkpoint else generation_key(number)
            os.utime(log.folder / key)
    await log.pruner().prune()

    state = State.decode(await log.store.read(checkpoint_key(100)))
    for number in range(101, ENTRIES + 1):
        entry = await log.log.find_entry(number)
        assert entry is not None
        state = state.apply(entry)
        assert state == log.states[number]


async def test_prune_of_a_log_without_old_checkpoints_deletes_nothing(tmp_path: Path) -> None:
    """An empty log, a short one, one that lost its hint, and a young one stay as they are."""
    log = Log(tmp_path / "log")
    await log.pruner().prune()
    await log.publish(49)
    log.age(49, days=400)
    await log.pruner().prune()
    await log.publish(101)
    await log.pruner().prune()
    log.age(100, days=400)
    hint = (log.folder / LAST_CHECKPOINT).rename(tmp_path / "hint")
    await log.pruner().prune()
    assert log.entries() == list(range(1, 151))

    hint.rename(log.folder / LAST_CHECKPOINT)
    await log.pruner().prune()
    assert log.entries() == list(range(101, 151))


async def test_prune_with_a_stale_hint_keeps_what_it_names(log: Log) -> None:
    """Readers that start at an old checkpoint find it, and all that came after it."""
    await log.store.replace(LAST_CHECKPOINT, b'{"generation": 100}')
    log.age(50, days=80)
    await log.pruner().prune()
    assert log.entries() == list(range(51, ENTRIES + 1))
    assert await log.log.read_newest() == log.states[-1]


async def test_prune_again_deletes_nothing_and_lists_nothing(log: Log) -> None:
    """It is done once for each checkpoint; another process finds nothing to do."""
    pruner = log.pruner()
    await pruner.prune()
    left, deletes, lists = log.found(), log.store.deletes, log.store.lists
    assert deletes == 152
    await pruner.prune()
    assert log.store.lists == lists
    await log.pruner().prune()
    assert (log.found(), log.store.deletes) == (left, deletes)


async def test_prune_that_ends_anywhere_leaves_a_log_that_reads_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each single deletion every checkpoint that is there leads to the newest state."""
    monkeypatch.setattr("headrace.log.CHECKPOINT_EVERY", 10)
    log = Log(tmp_path)
    await log.publish(46)
    log.age(34, days=40)
    pruner, prunes = log.pruner(), 0
    while True:
        log.store.deletes_left = 1
        try:
            await pruner.prune()
            break
        except StoreError:
            prunes += 1
        assert await log.log.read_newest() == log.states[-1]
        for number in log.checkpoints():
            state = State.decode(await log.store.read(checkpoint_key(number)))
            while (entry := await log.log.find_entry(state.number + 1)) is not None:
                state = state.apply(entry)
            assert state == log.states[-1], f"from checkpoint {number} after {prunes} prunes"

    assert prunes == 31
    assert log.entries() == list(range(31, 47))
    assert log.checkpoints() == [30, 40]


async def test_reader_that_is_behind_a_prune_goes_on_from_the_last_checkpoint(log: Log) -> None:
    """From any generation that there was, the newest state is reached, and never an older one."""
    await log.pruner().prune()
    for state in (*log.states[::10], *log.states[149:152]):
        behind = state
        while (newer := await log.log.find_newer(behind)) is not None:
            assert newer.number > behind.number
            behind = newer
        assert behind == log.states[-1]


async def test_reader_whose_hint_is_overtaken_by_a_prune_reads_it_again(log: Log) -> None:
    """A checkpoint that is pruned between reading the hint and reading it is no error."""

    class Slow(CountedStore):
        overtaken = False

        async def read(self, key: str) -> bytes:
            if key == LAST_CHECKPOINT and not self.overtaken:
                self.overtaken = True
                await log.pruner().prune()
                return b'{"generation": 50}'
            return await super().read(key)

    store = Slow(str(log.folder))
    assert await GenerationLog(store).read_newest() == log.states[-1]
    assert store.overtaken


async def test_hint_of_a_checkpoint_that_is_nowhere_is_an_error(log: Log) -> None:
    """What readers start from may be not visible yet: that is said, and nothing is pruned."""
    (log.folder / checkpoint_key(LAST)).unlink()
    with pytest.raises(ObjectMissingError):
        await log.log.read_newest()
    with pytest.raises(ObjectMissingError):
        await log.pruner().prune()
    assert log.entries() == list(range(1, ENTRIES + 1))


async def test_follower_that_slept_until_its_next_entry_was_pruned_catches_up(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Polling alone finds out that what is waited for will never come."""
    monkeypatch.setattr(follow, "POLL_S", 0.01)
    await log.pruner().prune()
    reader = Log(tmp_path / "reader")
    await reader.publish(30)
    async with following(reader.store, NO_PRIMARY) as follower:
        await asyncio.wait_for(follower.wait_newer(29), 20)

        (reader.folder / GENERATIONS_PREFIX).rename(tmp_path / "away")
        (log.folder / GENERATIONS_PREFIX).rename(reader.folder / GENERATIONS_PREFIX)

        assert await asyncio.wait_for(follower.wait_newer(30), 20) == log.states[-1]


async def test_follower_that_hears_of_a_pruned_gap_catches_up_at_once(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pushed entry far ahead is enough to look for the last checkpoint."""
    monkeypatch.setattr(follow, "POLL_S", 3600.0)
    reader = Log(tmp_path / "reader")
    await reader.publish(30)
    async with following(reader.store, NO_PRIMARY) as follower:
        await asyncio.wait_for(follower.wait_newer(29), 20)
        await eventually(lambda: "push" in follower.why)
        await log.pruner().prune()
        (reader.folder / GENERATIONS_PREFIX).rename(tmp_path / "away")
        (log.folder / GENERATIONS_PREFIX).rename(reader.folder / GENERATIONS_PREFIX)

        pushed = await reader.store.read(generation_key(ENTRIES))
        await follower._take(pushed, 0.0)  # noqa: SLF001 - as the push would give it

        assert await asyncio.wait_for(follower.wait_newer(30), 20) == log.states[-1]


async def test_follower_restarted_at_a_pruned_generation_goes_on(log: Log) -> None:
    """A log that begins after what was served last is no other log."""
    await log.pruner().prune()
    async with following(log.store, NO_PRIMARY) as follower:
        await follower.begin_at(log.states[30])
        assert await asyncio.wait_for(follower.wait_newer(30), 20) == log.states[-1]
        assert "log" not in follower.why


async def test_push_after_a_pruned_generation_begins_with_the_next_entry(log: Log) -> None:
    """A stream that cannot give what it was asked for goes on with what is published."""
    await log.pruner().prune()
    publisher = Publisher(log.log, log.states[-1], lambda: 1)
    stream = publisher.follow(30)
    upcoming = asyncio.ensure_future(anext(stream))
    await eventually(lambda: publisher._listeners)  # noqa: SLF001 - whether it listens

    await publisher.publish(cause={"kind": "delete"})

    assert (await asyncio.wait_for(upcoming, 20)).number == ENTRIES + 1
    await stream.aclose()


async def test_primary_that_slept_until_its_next_entry_was_pruned_has_lost(log: Log) -> None:
    """The key of a pruned entry is free again: putting it only if absent does not protect it."""
    await log.pruner().prune()
    asleep = log.states[30]
    entry = Entry(number=31, epoch=1, created_at=datetime.now(UTC), cause={"kind": "delete"})

    with pytest.raises(PrimaryLostError, match="knew more than generation 30"):
        await log.log.publish(asleep, entry)

    assert not (log.folder / generation_key(31)).exists()
    assert await log.log.read_newest() == log.states[-1]


async def test_primary_that_was_idle_for_long_publishes_on(log: Log) -> None:
    """Age alone is no sign of another primary."""
    await log.publish(1, at=datetime.now(UTC) - timedelta(days=90))
    assert (await log.publish()).number == ENTRIES + 2
