"""Many bodies on their way to a real store at once: few parts of them in memory, and none lost."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from headrace.keys import upload_key
from headrace.store import PARTS_AT_ONCE, Store
from ingest.archive import Archive
from ingest.buffers import Buffers
from ingest.disk import Disk
from ingest.metrics import IngestMetrics
from ingest.sending import ARRIVING_AT_ONCE, LARGE_AT_ONCE, Sending

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    import pytest

    from tests.integration.s3_kit import S3

BODIES = 12
SIZE_BYTES = 6 * 1024 * 1024  # two parts


class WatchedStore(Store):
    """Notes how many parts may be on their way."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.parts = self.most_parts = 0
        self.streamed: list[str] = []
        self.all_begun = asyncio.Event()  # as many as there are places for

    @contextmanager
    def _noted(self, parts_at_once: int) -> Iterator[None]:
        self.parts += parts_at_once
        self.most_parts = max(self.most_parts, self.parts)
        try:
            yield
        finally:
            self.parts -= parts_at_once

    async def put_stream(
        self, key: str, chunks: AsyncIterator[bytes], *, parts_at_once: int = PARTS_AT_ONCE
    ) -> None:
        """Send a body."""
        self.streamed.append(key)
        if len(self.streamed) == ARRIVING_AT_ONCE:
            self.all_begun.set()
        with self._noted(parts_at_once):
            await super().put_stream(key, chunks, parts_at_once=parts_at_once)

    async def upload(self, key: str, path: Path, *, parts_at_once: int = PARTS_AT_ONCE) -> None:
        """Send a file."""
        with self._noted(parts_at_once):
            await super().upload(key, path, parts_at_once=parts_at_once)


def _body(number: int) -> bytes:
    return bytes([number]) * SIZE_BYTES


async def _pieces(body: bytes, wait: asyncio.Event | None = None) -> AsyncIterator[bytes]:
    """Give a body; its end only when it is waited for no more."""
    yield body[:-1]
    if wait is not None:
        await wait.wait()
    yield body[-1:]


async def test_bodies_at_once_all_arrive_with_few_parts_and_none_waits_for_a_slow_one(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three go there while they arrive; who comes meanwhile does not wait for their clients."""
    s3.give_credentials(monkeypatch)
    store = WatchedStore(s3.url(s3.make_bucket()))
    archive = Archive(
        store,
        Sending(store),
        Disk(tmp_path, 0, IngestMetrics()),
        Buffers(),
        on=True,
        retention=timedelta(days=30),
    )
    keys = [upload_key(f"{number:032x}", "a.bin") for number in range(BODIES)]

    async def send(number: int, wait: asyncio.Event | None = None) -> str:
        spooled = await archive.receive(
            _pieces(_body(number), wait),
            tmp_path / str(number),
            key=keys[number],
            limit_bytes=SIZE_BYTES,
            sender=str(number % 3),
        )
        return spooled.sha256

    others_are_there = asyncio.Event()
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        slow = [
            tasks.create_task(send(number, others_are_there)) for number in range(ARRIVING_AT_ONCE)
        ]
        await store.all_begun.wait()
        others = [tasks.create_task(send(number)) for number in range(ARRIVING_AT_ONCE, BODIES)]
        await asyncio.wait(others)
        others_are_there.set()
    assert sorted(store.streamed) == keys[:ARRIVING_AT_ONCE]
    assert store.most_parts > PARTS_AT_ONCE
    objects = ARRIVING_AT_ONCE + LARGE_AT_ONCE
    assert store.most_parts <= sum(PARTS_AT_ONCE // n for n in range(1, objects + 1))
    for number, sending in enumerate([*slow, *others]):
        assert sending.result() == hashlib.sha256(_body(number)).hexdigest()
        assert await store.read(keys[number]) == _body(number)
    (tmp_path / "0").unlink()
    await send(0)
    assert store.streamed[ARRIVING_AT_ONCE:] == [keys[0]]  # alone again, while it arrives
