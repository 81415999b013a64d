"""receive: a body is streamed to the spool while it is hashed; little is held in memory."""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from headrace.arriving import Spooled, too_large
from headrace.errors import Refusal
from ingest.disk import refusal_of_full

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path
    from typing import BinaryIO

SYNC_BYTES = 32 * 1024 * 1024  # written before they are fsynced, so that little is left at the end


class Spool:
    """Writes and hashes one piece in a thread while the next one comes.

    Args:
        file: Takes them.
        update: Takes them for their hash.

    Attributes:
        written_bytes: What was written.
        synced_bytes: How much of it is durable.
    """

    def __init__(self, file: BinaryIO, update: Callable[[bytearray], None]) -> None:
        self.written_bytes = self.synced_bytes = 0
        self._update = update
        self._file = file
        self._writing: asyncio.Task[None] | None = None

    async def write(self, piece: bytearray) -> None:
        """Begin to write a piece, which is not to be changed, when the last one is written."""
        await self.settle()
        self._writing = asyncio.create_task(self._write(piece))

    async def settle(self) -> None:
        """Wait until the last piece is written; who is cancelled meanwhile leaves it being so."""
        if self._writing is not None:
            await asyncio.shield(self._writing)

    async def end(self) -> None:
        """Have everything on the disk."""
        await self.settle()
        await self._sync()

    async def _write(self, piece: bytearray) -> None:
        await asyncio.to_thread(self._put, piece)
        self.written_bytes += len(piece)
        if self.written_bytes - self.synced_bytes >= SYNC_BYTES:
            await self._sync()

    def _put(self, piece: bytearray) -> None:
        self._file.write(piece)
        self._update(piece)  # last: it is of what is there

    async def _sync(self) -> None:
        await asyncio.to_thread(self._flush)
        self.synced_bytes = self.written_bytes

    def _flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


@asynccontextmanager
async def spooling(file: BinaryIO, update: Callable[[bytearray], None]) -> AsyncIterator[Spool]:
    """Give a spool of a file, which is closed after the block."""
    spool = Spool(file, update)
    try:
        yield spool
    finally:
        with suppress(OSError):  # it was raised, or comes after what was
            await spool.settle()
        with suppress(OSError):
            file.close()


async def receive(
    chunks: AsyncIterator[bytes],
    path: Path,
    *,
    limit_bytes: int,
    piece_bytes: Callable[[], int],
    require_room: Callable[[], None],
) -> Spooled:
    """Stream a body to a new file, fsynced on return; on any failure the file is gone.

    Args:
        chunks: The body.
        path: Where to.
        limit_bytes: The largest body that is taken.
        piece_bytes: Says how much is gathered before it is written.
        require_room: Raises ``disk-full``; asked before each piece.

    Raises:
        Refusal: ``too-large``, ``empty-file``, ``incomplete-body`` or ``disk-full``; ``extra``
            holds the ``bytes`` that had arrived.
    """
    size = 0
    buffer = bytearray()
    digest = hashlib.sha256()
    try:
        file = await asyncio.to_thread(path.open, "xb")
        async with spooling(file, digest.update) as spool:
            async for chunk in chunks:
                size += len(chunk)
                if size > limit_bytes:
                    raise too_large(limit_bytes)
                buffer += chunk
                if len(buffer) >= piece_bytes():
                    require_room()
                    await spool.write(buffer)
                    buffer = bytearray()
            await spool.write(buffer)
            await spool.end()
        if size == 0:
            raise Refusal("empty-file", "the file has no bytes")
    except BaseException as exc:
        _remove(path)
        refusal = exc if isinstance(exc, Refusal) else refusal_of_full(exc)
        if refusal is None:
            raise
        refusal.extra["bytes"] = size
        raise refusal from exc
    return Spooled(path=path, bytes=size, sha256=digest.hexdigest())


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
