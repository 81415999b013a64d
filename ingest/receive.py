"""receive: a body is streamed to the spool while it is hashed; nothing is held in memory."""

from __future__ import annotations

import asyncio
import hashlib
import os
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import aiofiles

from headrace.arriving import Spooled, too_large
from headrace.errors import Refusal
from ingest.disk import refusal_of_full

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from aiofiles.threadpool.binary import AsyncBufferedIOBase

WRITE_BYTES = 1024 * 1024  # gathered before one write: a thread is entered once for each
SYNC_BYTES = 32 * 1024 * 1024  # written before they are fsynced, so that little is left at the end


class Spool:
    """Hashes and writes one piece in threads while the next one comes.

    Args:
        file: Takes them.
        update: Takes them for their hash.

    Attributes:
        written_bytes: What was written.
        synced_bytes: How much of it is durable.
    """

    def __init__(
        self, file: AsyncBufferedIOBase, update: Callable[[bytes | bytearray], None]
    ) -> None:
        self.written_bytes = self.synced_bytes = 0
        self._update = update
        self._file = file
        self._writing: asyncio.Task[None] | None = None

    async def write(self, piece: bytes | bytearray) -> None:
        """Begin to write a piece, which is not to be changed, when the last one is written."""
        await self.settle()
        self._writing = asyncio.create_task(self._write(piece))

    async def settle(self) -> None:
        """Wait until the last piece is written."""
        if self._writing is not None:
            await self._writing

    async def end(self) -> None:
        """Have everything on the disk."""
        await self.settle()
        await self._sync()

    async def _write(self, piece: bytes | bytearray) -> None:
        await self._file.write(piece)
        await asyncio.to_thread(self._update, piece)  # last: it is of what is there
        self.written_bytes += len(piece)
        if self.written_bytes - self.synced_bytes >= SYNC_BYTES:
            await self._sync()

    async def _sync(self) -> None:
        await self._file.flush()
        await asyncio.to_thread(os.fsync, self._file.fileno())
        self.synced_bytes = self.written_bytes


@asynccontextmanager
async def spooling(
    file: AsyncBufferedIOBase, update: Callable[[bytes | bytearray], None]
) -> AsyncIterator[Spool]:
    """Give a spool; nothing is written any more after the block."""
    spool = Spool(file, update)
    try:
        yield spool
    finally:
        with suppress(OSError):  # it was raised, or comes after what was
            await spool.settle()


async def receive(
    chunks: AsyncIterator[bytes],
    path: Path,
    *,
    limit_bytes: int,
    require_room: Callable[[], None],
) -> Spooled:
    """Stream a body to a new file, fsynced on return; on any failure the file is gone.

    Args:
        chunks: The body.
        path: Where to.
        limit_bytes: The largest body that is taken.
        require_room: Raises ``disk-full``; asked every ``WRITE_BYTES``.

    Raises:
        Refusal: ``too-large``, ``empty-file``, ``incomplete-body`` or ``disk-full``; ``extra``
            holds the ``bytes`` that had arrived.
    """
    size = 0
    buffer = bytearray()
    digest = hashlib.sha256()
    try:
        async with aiofiles.open(path, "xb") as file, spooling(file, digest.update) as spool:
            async for chunk in chunks:
                size += len(chunk)
                if size > limit_bytes:
                    raise too_large(limit_bytes)
                buffer += chunk
                if len(buffer) >= WRITE_BYTES:
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
