"""A long log is read by few requests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from headrace.generation import State
from headrace.keys import generation_key
from headrace.log import CHECKPOINT_EVERY, GenerationLog
from headrace.store import Store
from tests.integration.reader_kit import NO_PRIMARY
from tests.integration.test_follow import following
from tests.unit.test_generation import make_entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from headrace.store import Listed

ENTRIES = 10_000


class CountingStore(Store):
    """Counts what is read, and refuses to be listed."""

    reads = 0

    async def read(self, key: str) -> bytes:
        """Count, and read."""
        self.reads += 1
        return await super().read(key)

    def list_objects(self, prefix: str, *, stall_s: float) -> AsyncIterator[Listed]:
        """Fail."""
        pytest.fail(f"{prefix} is listed, within {stall_s} s")


async def make_log(store: Store, folder: Path) -> State:
    """Make a log that ends right before the next checkpoint: the most that is to read."""
    log = GenerationLog(store)
    state = State()
    (folder / generation_key(1)).parent.mkdir(parents=True)
    for number in range(1, ENTRIES):
        entry = make_entry(number)
        if number >= ENTRIES - CHECKPOINT_EVERY:
            state = await log.publish(state, entry)
        else:  # the same bytes, without an fsync for each
            state = state.apply(entry)
            (folder / generation_key(number)).write_bytes(entry.encode())
    return state


async def test_reader_of_a_log_of_10_000_entries_starts_by_60_requests(tmp_path: Path) -> None:
    """Reading the newest state costs the hint, a checkpoint and the entries after it; no list."""
    store = CountingStore(str(tmp_path))
    state = await make_log(store, tmp_path)

    store.reads = 0
    assert await GenerationLog(store).read_newest() == state
    assert store.reads <= 60

    store.reads = 0
    async with following(store, NO_PRIMARY) as follower:
        assert await asyncio.wait_for(follower.wait_newer(-1), 20) == state
        assert store.reads <= 60
