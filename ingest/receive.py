"""receive: a body is streamed to the spool while it is hashed; nothing is held in memory."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiofiles

from headrace.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

WRITE_BYTES = 1024 * 1024  # gathered before one write: a thread is entered once for each


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """A body that has arrived whole, durable on the volume.

    Attributes:
        path: Where it lies.
        bytes: Its size.
        sha256: 64 hex digits.
    """

    path: Path
    bytes: int
    sha256: str


async def receive(chunks: AsyncIterator[bytes], path: Path, *, limit_bytes: int) -> Spooled:
    """Stream a body to a new file, fsynced on return; on any failure the file is gone.

    Raises:
        Refusal: ``too-large``, ``empty-file``, ``incomplete-body`` or ``disk-full``; ``extra``
            holds the ``bytes`` that had arrived.
    """
    size = 0
    digest = hashlib.sha256()
    buffer = bytearray()
    try:
        async with aiofiles.open(path, "xb") as file:
            async for chunk in chunks:
                size += len(chunk)
                if size > limit_bytes:
                    raise _too_large(limit_bytes)
                buffer += chunk
                if len(buffer) >= WRITE_BYTES:
                    digest.update(buffer)
                    await file.write(buffer)
                    buffer.clear()
            digest.update(buffer)
            await file.write(buffer)
            await file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        if size == 0:
            raise Refusal("empty-file", "the file has no bytes")
    except BaseException as exc:
        _remove(path)
        refusal = _refusal_of(exc)
        if refusal is None:
            raise
        refusal.extra["bytes"] = size
        raise refusal from exc
    return Spooled(path=path, bytes=size, sha256=digest.hexdigest())


def check_announced_size(content_length: int | None, limit_bytes: int) -> None:
    """Refuse a body before it is sent, if its announced length is over the limit.

    Raises:
        Refusal: ``too-large``.
    """
    if content_length is not None and content_length > limit_bytes:
        raise _too_large(limit_bytes)


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()


def _too_large(limit_bytes: int) -> Refusal:
    return Refusal("too-large", f"the limit is {limit_bytes} bytes", extra={"limit": limit_bytes})


def _refusal_of(exc: BaseException) -> Refusal | None:
    """Give the refusal that a failure while receiving means, or None if it is a defect."""
    if isinstance(exc, Refusal):
        return exc
    if isinstance(exc, OSError) and exc.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Refusal("disk-full", "the upload does not fit on the server's disk")
    return None
