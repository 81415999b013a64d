"""The generation log on a real store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from headrace.errors import LogError, PrimaryLostError
from headrace.generation import State
from headrace.history import read_at
from headrace.keys import LAST_CHECKPOINT, generation_key
from headrace.log import CHECKPOINT_EVERY, GenerationLog
from headrace.store import Store
from headrace.store_counts import Operation
from tests.unit.test_generation import make_entry

if TYPE_CHECKING:
    from pathlib import Path


async def publish(log: GenerationLog, state: State, count: int) -> State:
    """Publish some entries."""
    for _number in range(count):
        state = await log.publish(state, make_entry(state.number + 1))
    return state


async def test_log_empty_is_generation_0(tmp_path: Path) -> None:
    """A log without entries is the empty generation."""
    assert await GenerationLog(Store(str(tmp_path))).read_newest() == State()


async def test_log_is_read_from_the_last_checkpoint(tmp_path: Path) -> None:
    """After a checkpoint, the entries before it are not needed any more."""
    log = GenerationLog(Store(str(tmp_path)))
    state = await publish(log, State(), CHECKPOINT_EVERY + 3)
    for number in range(1, CHECKPOINT_EVERY + 1):
        (tmp_path / generation_key(number)).unlink()
    assert await log.read_newest() == state


async def test_log_stale_hint_does_no_harm(tmp_path: Path) -> None:
    """An old hint only costs more reads."""
    log = GenerationLog(Store(str(tmp_path)))
    state = await publish(log, State(), CHECKPOINT_EVERY)
    hint = (tmp_path / LAST_CHECKPOINT).read_bytes()
    state = await publish(log, state, CHECKPOINT_EVERY)
    (tmp_path / LAST_CHECKPOINT).write_bytes(hint)
    assert await log.read_newest() == state


async def test_log_publish_twice_has_one_winner(tmp_path: Path) -> None:
    """Two primaries that publish the same generation: one wins, the other learns that it lost."""
    log = GenerationLog(Store(str(tmp_path)))
    tries = [log.publish(State(), make_entry(1, removed=(f"by{n}",))) for n in range(20)]
    ends = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(end, State) for end in ends) == 1
    assert sum(isinstance(end, PrimaryLostError) for end in ends) == 19


async def test_log_publish_again_after_a_lost_answer_succeeds(tmp_path: Path) -> None:
    """The very same entry may be put again: the answer to the first try may have been lost."""
    log = GenerationLog(Store(str(tmp_path)))
    entry = make_entry(1)
    assert await log.publish(State(), entry) == await log.publish(State(), entry)


async def test_log_entry_that_is_broken_is_an_error(tmp_path: Path) -> None:
    """An entry that cannot be read, or is another one, is not skipped."""
    log = GenerationLog(Store(str(tmp_path)))
    await publish(log, State(), 1)
    (tmp_path / generation_key(2)).write_bytes(b"{")
    with pytest.raises(LogError):
        await log.read_newest()
    (tmp_path / generation_key(2)).write_bytes(make_entry(7).encode())
    with pytest.raises(LogError, match="says that it is 7"):
        await log.read_newest()


async def test_generation_that_never_was_is_not_searched_for(tmp_path: Path) -> None:
    """A number that is far too high costs two reads, not one for each fifty below it."""
    store = Store(str(tmp_path))
    log = GenerationLog(store)
    state = await publish(log, State(), CHECKPOINT_EVERY + 1)
    assert await read_at(log, state.number) == state
    (tmp_path / generation_key(CHECKPOINT_EVERY)).unlink()  # pruned: its checkpoint holds all
    assert (await read_at(log, CHECKPOINT_EVERY)).number == CHECKPOINT_EVERY

    before = store.counts.requests[Operation.GET]
    with pytest.raises(LogError, match="there is no generation 999999"):
        await read_at(log, 999_999)
    assert store.counts.requests[Operation.GET] - before == 2
