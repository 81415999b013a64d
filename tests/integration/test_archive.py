"""The bytes of an upload, had back from the store."""

from __future__ import annotations

import hashlib
import os
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from headrace.errors import Refusal, StoreError
from headrace.keys import upload_key
from headrace.store import Store
from ingest.archive import Archive
from ingest.buffers import Buffers
from ingest.disk import Disk
from ingest.metrics import IngestMetrics
from ingest.sending import Sending
from tests.unit.test_receipt import make_receipt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

BODY = b"n\n1\n" * 1000
KEY = upload_key("a" * 32, "log.csv")
RECEIPT = make_receipt(archive=KEY, sha256=hashlib.sha256(BODY).hexdigest())


class CutStore(Store):
    """Loses the connection in the middle of a body."""

    async def stream(
        self,
        key: str,
        *,
        stall_s: float,
        etag: str | None = None,  # noqa: ARG002 - of what it stands for
    ) -> AsyncIterator[bytes]:
        """Give the first half."""
        async for chunk in super().stream(key, stall_s=stall_s):
            yield chunk[: len(chunk) // 2]
        raise StoreError("cannot read: cut")


async def archive_in(root: Path, kind: type[Store] = Store, reserve_bytes: int = 0) -> Archive:
    """Give an archive that holds the upload."""
    store = kind(str(root / "store"))
    await store.create(KEY, BODY)
    disk = Disk(root, reserve_bytes, IngestMetrics())
    return Archive(store, Sending(store), disk, Buffers(), on=True, retention=timedelta(days=30))


async def test_body_that_is_not_archived_has_a_durable_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut takes no file from the spool whose receipt it leaves."""
    archive = await archive_in(tmp_path)
    spool = tmp_path / "spool"
    spool.mkdir()
    synced: list[int] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        if (spool / "body").exists():
            synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", watched)

    async def body() -> AsyncIterator[bytes]:
        yield BODY

    await archive.receive(body(), spool / "body", key=None, limit_bytes=len(BODY), sender="a")

    assert synced[-2:] == [(spool / "body").stat().st_ino, spool.stat().st_ino]
    assert [each.name for each in (tmp_path / "store").rglob("*") if each.is_file()] == ["log.csv"]


async def test_fetched_upload_is_there_whole(tmp_path: Path) -> None:
    """A successor has the bytes as they were sent."""
    archive = await archive_in(tmp_path)
    await archive.fetch(RECEIPT, tmp_path / "fetched", "a")
    assert (tmp_path / "fetched").read_bytes() == BODY


async def test_upload_that_is_fetched_in_part_is_not_there(tmp_path: Path) -> None:
    """Whoever goes on after a crash takes what lies in the spool for all of the file (I2)."""
    archive = await archive_in(tmp_path, CutStore)
    with pytest.raises(StoreError, match="cut"):
        await archive.fetch(RECEIPT, tmp_path / "fetched", "a")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


async def test_upload_is_fetched_only_if_the_reserve_of_the_disk_is_left(tmp_path: Path) -> None:
    """Litestream's room is not for archived uploads either, and what is no upload is not kept."""
    archive = await archive_in(tmp_path, reserve_bytes=2**60)
    with pytest.raises(Refusal) as caught:
        await archive.fetch(RECEIPT, tmp_path / "fetched", "a")
    assert caught.value.code == "disk-full"
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


async def test_upload_whose_bytes_are_others_is_not_there(tmp_path: Path) -> None:
    """What was changed in the store is not taken for what was sent."""
    archive = await archive_in(tmp_path)
    with pytest.raises(Refusal, match="not those that were sent"):
        await archive.fetch(make_receipt(archive=KEY, sha256="0" * 64), tmp_path / "fetched", "a")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
