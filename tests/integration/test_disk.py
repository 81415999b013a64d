"""The reserve of the volume: what is written gives way to it."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from headrace.errors import Refusal
from ingest import disk as disk_module
from ingest.disk import Disk
from ingest.merge import merge
from ingest.metrics import IngestMetrics
from tests.integration.merge_kit import Live, query, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    Writing = Callable[[Callable[[], object]], AbstractContextManager[None]]

RESERVE_BYTES = 1000


class Filling(Disk):
    """A disk that is full once it was looked at."""

    looks = 0

    def _free_bytes(self) -> int:
        self.looks += 1
        return 2 * RESERVE_BYTES if self.looks == 1 else RESERVE_BYTES - 1


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Filling:
    """Give the disk; it is looked at all the time."""
    monkeypatch.setattr(disk_module, "LOOK_EVERY_S", 0.001)
    return Filling(tmp_path, RESERVE_BYTES, IngestMetrics())


def test_step_that_would_need_the_reserve_is_refused(tmp_path: Path) -> None:
    """What a step needs and the reserve must both be free."""
    metrics = IngestMetrics()
    disk = Disk(tmp_path, RESERVE_BYTES, metrics)
    free_bytes = metrics.registry.get_sample_value("headrace_ingest_disk_free_bytes")
    assert free_bytes is not None
    disk.require(int(free_bytes) // 2)
    with pytest.raises(Refusal, match=r"the upload needs .* MiB more") as caught:
        disk.require(2 * int(free_bytes))
    assert caught.value.code == "disk-full"
    assert caught.value.extra["reserve_bytes"] == RESERVE_BYTES
    assert caught.value.hint is not None
    assert "larger volume" in caught.value.hint


async def test_work_that_comes_to_the_reserve_is_cancelled(disk: Filling) -> None:
    """It has ended when that is said."""
    ended = asyncio.Event()

    async def fill() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)  # cancelled once, so it can clean up
            ended.set()

    with pytest.raises(Refusal) as caught:
        await disk.run(fill())

    assert (caught.value.code, ended.is_set()) == ("disk-full", True)


async def test_work_that_fails_or_ends_says_so_itself(tmp_path: Path) -> None:
    """With room, nothing is added to what a step says."""
    disk = Disk(tmp_path, 0, IngestMetrics())

    async def divide(number: int) -> float:
        return 1 / number

    assert await disk.run(divide(2)) == 0.5
    with pytest.raises(ZeroDivisionError):
        await disk.run(divide(0))


def many_rows(path: Path) -> Path:
    """Give a staging database that takes a while to merge."""
    numbers = "WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n LIMIT 500000)"
    return write(path, "CREATE TABLE t (a)", f"INSERT INTO t {numbers} SELECT a FROM n")


def append_many(live: Live, writing: Writing, *, rows: int) -> None:
    """Merge many rows into a table that has a few."""
    merge(
        live.path,
        many_rows(live.staging),
        mode="append",
        receipt_id="r1",
        before={"t": rows},
        writing=writing,
    )


def test_merge_gives_way_to_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is rolled back, and nothing else is begun."""
    monkeypatch.setattr(disk_module, "LOOK_EVERY_S", 0.001)
    disk, live = Disk(tmp_path, 0, IngestMetrics()), Live(tmp_path)
    live.begin("CREATE TABLE t (a)")

    @contextmanager
    def writing(give_way: Callable[[], object]) -> Iterator[None]:
        with disk.writing(give_way):
            disk.close()
            yield

    with pytest.raises(Refusal) as caught:
        append_many(live, writing, rows=0)

    assert caught.value.code == "stopping"
    assert query(live.path, "SELECT a FROM t") == []
    with pytest.raises(Refusal, match="stopping"):
        disk.require()


def test_merge_that_comes_to_the_reserve_is_rolled_back(disk: Filling, tmp_path: Path) -> None:
    """The live database is what it was, and takes the next upload."""
    live = Live(tmp_path)
    live.begin("CREATE TABLE t (a)", "INSERT INTO t VALUES (0)")

    with pytest.raises(Refusal) as caught:
        append_many(live, partial(disk.writing, size_bytes=10), rows=1)

    assert caught.value.code == "disk-full"
    assert query(live.path, "SELECT a FROM t") == [(0,)]
    live.merge("append", "CREATE TABLE t (a)", "INSERT INTO t VALUES (1)")
    assert query(live.path, "SELECT a FROM t") == [(0,), (1,)]
