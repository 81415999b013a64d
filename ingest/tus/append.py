"""The bytes of one request, appended to an upload: what came stays, whatever ends the request."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from headrace.arriving import read_chunks, too_large
from headrace.errors import Refusal
from ingest.disk import refusal_of_full
from ingest.receive import spooling
from ingest.stopping import BODIES
from ingest.tus.turns import locked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path
    from typing import BinaryIO

    from ingest.api.node import Node
    from ingest.receive import Spool
    from ingest.tus.protocol import Checksum
    from ingest.tus.record import TusUpload

    Read = Callable[[int], Awaitable[bytes]]


async def append(
    node: Node,
    upload: TusUpload,
    read: Read,
    *,
    give_way: asyncio.Event,
    checksum: Checksum | None,
) -> TusUpload:
    """Append a body to an upload, durably; give the upload as it is then.

    If the body ends early, what came of it is kept: unless it has a checksum, which nobody can
    compare then. Section Checksum: such a chunk is discarded.

    Args:
        node: The primary.
        upload: How it is; its turn is had.
        read: Reads the body.
        give_way: Set when another request wants the turn.
        checksum: What the body has to be.

    Raises:
        Refusal: ``incomplete-body``, ``too-large``, ``disk-full``, ``stopping``, ``upload-locked``
            or ``checksum-mismatch``.
    """
    appending = _Appending(node, upload, checksum)
    try:
        with node.buffers.share(upload.owner) as piece_bytes:
            body = partial(_read, node, read, give_way)
            await appending.run(_pieces(node, upload, body, piece_bytes))
    except OSError as exc:
        raise refusal_of_full(exc) or exc from exc
    return appending.upload


class _Appending:
    """One request's bytes on their way to the disk.

    Attributes:
        upload: How it is now.
    """

    def __init__(self, node: Node, upload: TusUpload, checksum: Checksum | None) -> None:
        self.upload = upload
        self._node = node
        self._from = upload.offset
        self._checksum = checksum
        self._check = (
            None if checksum is None else hashlib.new(checksum.algorithm, usedforsecurity=False)
        )
        hashed, digest = node.tus.hashed(upload)
        # Not of all that is here: it is read again at the end.
        self._digest = digest if hashed == upload.offset else None
        self._before = None if self._digest is None else self._digest.copy()

    async def run(self, pieces: AsyncIterator[bytearray]) -> None:
        """Write pieces, and down how far the upload is."""
        path = self._node.tus.shelf.data(self.upload.id)
        file = await asyncio.to_thread(_open_at, path, self._from)
        async with spooling(file, self._update) as spool:
            try:
                await self._write(spool, pieces)
            except Refusal:
                self._keep_hashed(spool)
                raise
            self._keep_hashed(spool)

    async def _write(self, spool: Spool, pieces: AsyncIterator[bytearray]) -> None:
        try:
            async for piece in pieces:
                await spool.write(piece)
                await self._note(spool)
        finally:
            with suppress(OSError):  # it was raised by what came before
                await spool.end()
            await self._note(spool)
        await self._compare(spool)

    def _keep_hashed(self, spool: Spool) -> None:
        """Keep the hash of the bytes that the upload has, with those of this request or without."""
        digests = {self._from: self._before, self._from + spool.written_bytes: self._digest}
        if (digest := digests.get(self.upload.offset)) is not None:
            self._node.tus.keep_hashed(self.upload, digest)

    def _update(self, piece: bytearray) -> None:
        for digest in (self._digest, self._check):
            if digest is not None:
                digest.update(piece)

    async def _note(self, spool: Spool) -> None:
        """Write down how much is durable, if that is more; not before it is proven."""
        if self._checksum is None:
            await self._save(spool)

    async def _compare(self, spool: Spool) -> None:
        if self._checksum is None or self._check is None:
            return
        if self._check.digest() != self._checksum.digest:
            raise Refusal(
                "checksum-mismatch",
                f"Upload-Checksum says another {self._checksum.algorithm} than what arrived",
                hint="nothing of this request was kept: send it again",
            )
        await self._save(spool)

    async def _save(self, spool: Spool) -> None:
        offset = self._from + spool.synced_bytes
        if offset > self.upload.offset:
            grown = replace(self.upload, offset=offset, touched_at=self._node.now())
            self.upload = await self._node.tus.shelf.save(grown)


def _open_at(path: Path, offset: int) -> BinaryIO:
    """Open a file to be written on at an offset; what lies beyond is gone."""
    file = path.open("r+b")
    file.truncate(offset)
    file.seek(offset)
    return file


async def _pieces(
    node: Node, upload: TusUpload, read: Read, piece_bytes: Callable[[], int]
) -> AsyncIterator[bytearray]:
    """Give a body in pieces that are worth a write; the last one also if the body breaks off."""
    most = node.max_upload_bytes if upload.length is None else upload.length
    left = most - upload.offset
    buffer = bytearray()
    failure: Refusal | None = None
    try:
        async for chunk in read_chunks(read):
            left -= len(chunk)
            if left < 0:
                raise too_large(most)
            buffer += chunk
            if len(buffer) >= piece_bytes():
                node.require_room(0)
                yield buffer
                buffer = bytearray()
    except Refusal as refusal:
        failure = refusal
    if buffer:
        node.require_room(0)
        yield buffer
    if failure is not None:
        raise failure


async def _read(node: Node, read: Read, give_way: asyncio.Event, count: int) -> bytes:
    """Read what comes next, unless another request wants the turn, or the primary stops."""
    if give_way.is_set():
        raise locked("another request for this upload came, and this one was ended")
    reading = asyncio.ensure_future(read(count))
    wanted = asyncio.ensure_future(give_way.wait())
    try:
        async with node.stop.limit(BODIES):
            await asyncio.wait([reading, wanted], return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            return reading.result()
    except TimeoutError as exc:
        raise Refusal(
            "stopping",
            "the primary is stopping; what has come is kept",
            hint="ask for the offset (HEAD) a moment later, and go on there",
        ) from exc
    finally:
        reading.cancel()
        wanted.cancel()
    raise locked("another request for this upload came, and this one was ended")
