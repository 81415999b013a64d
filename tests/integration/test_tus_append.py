"""The bytes of a request on their way to the disk, and their hash."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from headrace.errors import Refusal
from headrace.stopping import Stop
from ingest.buffers import Buffers
from ingest.tus.append import append
from ingest.tus.protocol import Checksum
from ingest.tus.record import TusUpload
from ingest.tus.uploads import TusUploads
from tests.unit.test_receipt import AT

if TYPE_CHECKING:
    from pathlib import Path

BODY = bytes(range(256)) * 10_000
QUARTER = len(BODY) // 4
OF_ANOTHER = Checksum(algorithm="sha256", digest=bytes(32))


class Request:
    """A body.

    Args:
        chunks: What comes of it.
        cut: Whether the connection is cut then.
    """

    def __init__(self, *chunks: bytes, cut: bool) -> None:
        self._chunks = list(chunks)
        self._cut = cut

    async def read(self, _count: int) -> bytes:
        """Give what comes next."""
        if self._chunks:
            return self._chunks.pop(0)
        if self._cut:
            raise ConnectionResetError
        return b""


@pytest.mark.parametrize(
    ("checksum", "cut", "kept"),
    [(None, True, 2 * QUARTER), (OF_ANOTHER, True, QUARTER), (OF_ANOTHER, False, QUARTER)],
)
async def test_hash_is_of_what_is_kept_of_a_request_that_failed(
    tmp_path: Path, checksum: Checksum | None, cut: bool, kept: int
) -> None:
    """A connection that was cut does not make a large file be read again at its end."""
    tus = TusUploads(tmp_path, timedelta(days=1))
    node: Any = SimpleNamespace(
        tus=tus,
        buffers=Buffers(),
        max_upload_bytes=len(BODY),
        now=lambda: AT,
        require_room=lambda _size: None,
        stop=Stop(60),
    )
    new = TusUpload(
        id="0" * 32, owner="root", address="", metadata="", length=len(BODY), concat=None,
        key=None, touched_at=AT,
    )  # fmt: skip
    whole = Request(BODY[:QUARTER], cut=False)
    upload = await append(
        node, await tus.shelf.create(new), whole.read, give_way=asyncio.Event(), checksum=None
    )
    failing = Request(BODY[QUARTER : 2 * QUARTER], cut=cut)
    with pytest.raises(Refusal):
        await append(node, upload, failing.read, give_way=asyncio.Event(), checksum=checksum)
    found = tus.shelf.find(upload.id)
    assert found is not None
    assert found.offset == kept
    hashed, digest = tus.hashed(found)
    assert (hashed, digest.digest()) == (kept, hashlib.sha256(BODY[:kept]).digest())
