"""A long log is read by few requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.generation import State
from headrace.keys import generation_key
from headrace.log import CHECKPOINT_EVERY, GenerationLog
from headrace.store import Store
from tests.unit.test_generation import make_entry

if TYPE_CHECKING:
    from pathlib import Path

ENTRIES = 10_000


class CountingStore(Store):
    """Counts what is read."""

    reads = 0

    async def read(self, key: str) -> bytes:
        """Count, and read."""
        self.reads += 1
        return await super().read(key)


async def test_log_of_10_000_entries_is_read_by_60_requests(tmp_path: Path) -> None:
    """Reading the newest state costs the hint, a checkpoint and the entries after it; no list."""
    store = CountingStore(str(tmp_path))
    log = GenerationLog(store)
    state = State()
    for number in range(1, ENTRIES):
        entry = make_entry(number)
        if number >= ENTRIES - CHECKPOINT_EVERY:
            state = await log.publish(state, entry)
        else:  # the same bytes, without an fsync for each
            state = state.apply(entry)
            (tmp_path / generation_key(1)).parent.mkdir(exist_ok=True)
            (tmp_path / generation_key(number)).write_bytes(entry.encode())
    store.reads = 0
    assert await log.read_newest() == state
    assert store.reads <= 60
