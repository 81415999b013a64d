"""What is sent: a file, which can be read again from anywhere, or a stream, which cannot."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from headrace.errors import RefusedError, RemoteError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

BLOCK_BYTES = 256 * 1024  # handed to the network at once
# Of one request. Proxies refuse large bodies (Cloudflare: 100 MB), and a whole one is answered.
CHUNK_BYTES = 64 * 1024 * 1024
HELD_BYTES = 8 * 1024 * 1024  # of a stream, in memory, until the server has it
CHANGED = "changed"  # the code of what is not what it was, or is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """What one request sends.

    Attributes:
        length: Bytes.
        is_last: Whether nothing comes after it.
    """

    length: int
    is_last: bool


class Source(Protocol):
    """What is sent.

    Attributes:
        size: Bytes; None: nobody knows yet.
    """

    size: int | None

    async def chunk_at(self, offset: int) -> Chunk:
        """Say what comes next; what is before the offset is not needed any more."""

    def blocks(self, offset: int, length: int) -> AsyncIterator[bytes]:
        """Read a part of the chunk."""

    async def read_sha256(self) -> str | None:
        """Give the SHA-256 of all that was sent; None: nobody knows it."""


class FileSource:
    """A file.

    Args:
        path: Of it.
        size: Bytes when it was looked at.
        mtime_ns: When it had been changed last then.
    """

    def __init__(self, path: Path, size: int, mtime_ns: int) -> None:
        self.size: int | None = size
        self._mtime_ns = mtime_ns
        self._path = path
        self._bytes = size

    async def chunk_at(self, offset: int) -> Chunk:
        """Say what comes next.

        Raises:
            RemoteError: The file is not what it was: what was sent is not sent to its end.
        """
        length = min(CHUNK_BYTES, self._bytes - offset)
        with self._reading():
            self._compare(self._path.stat())
        return Chunk(length=length, is_last=offset + length == self._bytes)

    async def blocks(self, offset: int, length: int) -> AsyncIterator[bytes]:
        """Read a part.

        Raises:
            RemoteError: The file is gone, is another one by now, or ends before.
        """
        with self._reading():
            file = await asyncio.to_thread(self._path.open, "rb")
        with file:
            self._compare(os.fstat(file.fileno()))
            left = length
            while left:
                where = offset + length - left
                count = min(BLOCK_BYTES, left)
                with self._reading():
                    block = await asyncio.to_thread(os.pread, file.fileno(), count, where)
                if not block:
                    raise changed(self._path)
                left -= len(block)
                yield block

    async def read_sha256(self) -> str:
        """Give the SHA-256 of the file."""
        return await asyncio.to_thread(sha256_of, self._path)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise RemoteError(
                f"cannot read {self._path} any more: {exc.strerror}", code=CHANGED
            ) from exc

    def _compare(self, found: os.stat_result) -> None:
        if (found.st_size, found.st_mtime_ns) != (self._bytes, self._mtime_ns):
            raise changed(self._path)


class StreamSource:
    """Standard input, or a pipe: what the server does not have yet is held, and nothing else.

    Args:
        file: Read once, from where it is.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.size: int | None = None
        self._file = file
        self._from = 0
        self._held = bytearray()
        self._ended = False
        self._digest = hashlib.sha256()

    async def chunk_at(self, offset: int) -> Chunk:
        """Let go of what is before the offset, and read on.

        Raises:
            RefusedError: It was let go of before.
            RemoteError: It cannot be read.
        """
        if not self._from <= offset <= self._from + len(self._held):
            raise RefusedError(
                "the server lost what it had of a stream, and it cannot be read again",
                hint="run the command again, or give it a file",
                code="stream-lost",
            )
        del self._held[: offset - self._from]
        self._from = offset
        while not self._ended and len(self._held) < HELD_BYTES:
            await self._read()
        return Chunk(length=len(self._held), is_last=self._ended)

    async def blocks(self, offset: int, length: int) -> AsyncIterator[bytes]:
        """Read a part of what is held."""
        start, end = offset - self._from, offset - self._from + length
        for at in range(start, end, BLOCK_BYTES):
            yield bytes(self._held[at : min(at + BLOCK_BYTES, end)])

    async def read_sha256(self) -> str:
        """Give the SHA-256 of what was read."""
        return self._digest.hexdigest()

    async def _read(self) -> None:
        try:
            block = await _in_daemon(lambda: self._file.read(HELD_BYTES - len(self._held)))
        except OSError as exc:
            raise RemoteError(
                f"cannot read standard input: {exc.strerror}", code="unreadable"
            ) from exc
        self._held += block
        self._digest.update(block)
        self._ended = not block


def sha256_of(path: Path) -> str:
    """Read a file, and give its SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def changed(path: Path) -> RemoteError:
    """Give the error of a file that is not what it was."""
    return RemoteError(
        f"{path} changed while it was sent",
        hint="send it again when it is finished",
        code=CHANGED,
    )


async def _in_daemon(read: Callable[[], bytes]) -> bytes:
    """Read in a thread that nobody has to wait for: Ctrl-C does not wake a read of a pipe."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bytes] = loop.create_future()

    def settle(block: bytes | None, exc: BaseException | None) -> None:
        if done.cancelled():
            return
        if exc is not None:
            done.set_exception(exc)
        else:
            done.set_result(block or b"")

    def work() -> None:
        try:
            block = read()
        except OSError as exc:
            loop.call_soon_threadsafe(settle, None, exc)
        else:
            loop.call_soon_threadsafe(settle, block, None)

    threading.Thread(target=work, daemon=True).start()
    return await done
