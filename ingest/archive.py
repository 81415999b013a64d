"""The bytes as they came, in the object store: what a 202 promises (invariant I1).

While a body is spooled it also goes to the store; nothing is answered before it is there whole.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog

from headrace.durable import fsync_folder, stream_file
from headrace.errors import ObjectMissingError, Refusal, StoreError
from headrace.keys import upload_key
from ingest.receive import receive
from ingest.turns import Turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from headrace.arriving import Spooled
    from headrace.receipt import Receipt
    from headrace.store import Store
    from ingest.buffers import Buffers
    from ingest.disk import Disk
    from ingest.sending import Sending

log = structlog.get_logger()

QUEUED = 16  # chunks of a body that the store may be behind the spool
READ_AT_ONCE = 2  # objects: the store gives them in pieces of megabytes
STALL_S = 60.0  # without an answer of the store


class Archive:
    """Where uploads are kept.

    Args:
        store: Has them.
        sending: Sends them there.
        disk: Where the spool is.
        buffers: The memory of bodies.
        on: Whether they are kept.
        retention: For how long at least (ingest/prune_objects.py).
    """

    def __init__(
        self,
        store: Store,
        sending: Sending,
        disk: Disk,
        buffers: Buffers,
        *,
        on: bool,
        retention: timedelta,
    ) -> None:
        self._store = store
        self._sending = sending
        self._disk = disk
        self._buffers = buffers
        self._reading = Turns(READ_AT_ONCE)
        self.on = on
        self._retention = retention

    def key(self, receipt_id: str, filename: str) -> str | None:
        """Give the key of an upload; None if it is not archived."""
        return upload_key(receipt_id, filename) if self.on else None

    async def receive(
        self,
        chunks: AsyncIterator[bytes],
        path: Path,
        *,
        key: str | None,
        limit_bytes: int,
        sender: str,
    ) -> Spooled:
        """Spool a body, and have it in the store as well.

        Args:
            chunks: The body.
            path: Where it is spooled.
            key: The object; None: the body is not archived.
            limit_bytes: The largest body that is taken.
            sender: Id of who sends it.

        Raises:
            Refusal: Those of ``receive``; ``replication-down`` if the store did not take it.
        """
        with self._buffers.share(sender) as piece_bytes:
            spool = partial(
                receive,
                path=path,
                limit_bytes=limit_bytes,
                piece_bytes=piece_bytes,
                require_room=self._disk.require,
            )
            if key is not None:
                with self._sending.arriving() as parts_at_once:
                    if parts_at_once is not None:
                        return await self._receive_both(chunks, spool, path, key, parts_at_once)
            spooled = await spool(chunks)
        await self.keep(path, key=key, sender=sender)
        return spooled

    async def keep(self, path: Path, *, key: str | None, sender: str) -> None:
        """Have a spooled file in the store too; if it is not archived, have its name on the disk.

        Raises:
            Refusal: ``replication-down``: the file is not in the spool any more.
        """
        if key is None:
            await asyncio.to_thread(fsync_folder, path.parent)
            return
        try:
            await self._sending.send(key, path, sender)
        except StoreError as exc:
            await asyncio.to_thread(path.unlink, missing_ok=True)
            raise _not_taken() from exc

    async def fetch(self, receipt: Receipt, path: Path, sender: str) -> None:
        """Have an archived upload in the spool again: whole, or not at all.

        Args:
            receipt: The upload's.
            path: Where to.
            sender: Whose turn it is.

        Raises:
            Refusal: ``bytes-gone`` or ``disk-full``.
            StoreError: The store could not be asked.
        """
        try:
            # What a crash leaves beside it, the next start deletes.
            async with self._reading.turn(sender):
                await stream_file(path, self._read_whole(receipt))
        except ObjectMissingError as exc:
            raise self._gone() from exc

    async def _read_whole(self, receipt: Receipt) -> AsyncIterator[bytes]:
        """Give the bytes that a receipt stands for, while there is room; fail if they differ."""
        digest = hashlib.sha256()
        async for chunk in self._store.stream(key_of(receipt), stall_s=STALL_S):
            self._disk.require(len(chunk))
            digest.update(chunk)
            yield chunk
        if digest.hexdigest() != receipt.sha256:
            raise _changed()

    async def copy(self, receipt: Receipt, path: Path, *, key: str | None, sender: str) -> Spooled:
        """Have an archived upload in the spool once more, and in the store under another key.

        Raises:
            Refusal: ``bytes-gone``: it is not there, or not what its receipt says;
                ``replication-down``; ``disk-full``.
        """
        chunks = self._read(receipt, key_of(receipt))
        async with self._reading.turn(sender):
            spooled = await self.receive(
                chunks, path, key=key, limit_bytes=receipt.bytes, sender=sender
            )
        if (spooled.bytes, spooled.sha256) != (receipt.bytes, receipt.sha256):
            await asyncio.to_thread(path.unlink)
            if key is not None:
                await self.forget(key)
            raise _changed()
        return spooled

    async def _read(self, receipt: Receipt, key: str) -> AsyncIterator[bytes]:
        size_bytes = 0
        try:
            async for chunk in self._store.stream(key, stall_s=STALL_S):
                size_bytes += len(chunk)
                if size_bytes > receipt.bytes:
                    raise _changed()
                yield chunk
        except ObjectMissingError as exc:
            raise self._gone() from exc
        except StoreError as exc:
            raise Refusal(
                "replication-down", "the object store did not give the file: ask again"
            ) from exc
        if size_bytes == 0:
            raise _changed()

    def _gone(self) -> Refusal:
        days = self._retention / timedelta(days=1)
        return Refusal(
            "bytes-gone",
            "the bytes of this upload are not kept any more",
            hint=f"archived uploads are kept for {days:g} days (--upload-retention)",
        )

    async def forget(self, key: str) -> None:
        """Delete what nothing will be done with; if that fails, its retention does."""
        try:
            await self._store.delete(key)
        except StoreError as exc:
            log.warning("archived upload not deleted", key=key, reason=str(exc))

    async def _receive_both(
        self,
        chunks: AsyncIterator[bytes],
        spool: Callable[[AsyncIterator[bytes]], Awaitable[Spooled]],
        path: Path,
        key: str,
        parts_at_once: int,
    ) -> Spooled:
        queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(QUEUED)
        putting = asyncio.create_task(
            self._store.put_stream(key, _drain(queue), parts_at_once=parts_at_once)
        )
        try:
            spooled = await spool(_tee(chunks, queue, putting))
            await _hand_over(queue, None, putting)
            await putting
        except BaseException as exc:
            # An error inside of the body makes the store throw away what it has of it.
            with suppress(StoreError):
                await _hand_over(queue, ConnectionError("the body was not whole"), putting)
            await asyncio.gather(putting, return_exceptions=True)
            if isinstance(exc, StoreError):
                await asyncio.to_thread(path.unlink, missing_ok=True)
                raise _not_taken() from exc
            raise
        return spooled


def key_of(receipt: Receipt) -> str:
    """Give the key of an upload's bytes.

    Raises:
        Refusal: ``bytes-gone``.
    """
    if receipt.archive is None:
        raise Refusal(
            "bytes-gone",
            "the bytes of this upload were not archived",
            hint="it was refused before they had all arrived, or --archive was off",
        )
    return receipt.archive


def _not_taken() -> Refusal:
    return Refusal("replication-down", "the object store did not take the file: send it again")


def _changed() -> Refusal:
    return Refusal("bytes-gone", "the archived bytes are not those that were sent")


async def _tee(
    chunks: AsyncIterator[bytes],
    queue: asyncio.Queue[bytes | Exception | None],
    putting: asyncio.Task[None],
) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        await _hand_over(queue, chunk, putting)
        yield chunk


async def _hand_over(
    queue: asyncio.Queue[bytes | Exception | None],
    item: bytes | Exception | None,
    putting: asyncio.Task[None],
) -> None:
    """Put something into the queue, unless whoever reads it has ended.

    Raises:
        StoreError: It has ended by this.
    """
    handing = asyncio.create_task(queue.put(item))
    try:
        await asyncio.wait([handing, putting], return_when=asyncio.FIRST_COMPLETED)
        if putting.done():
            putting.result()
    finally:
        handing.cancel()


async def _drain(queue: asyncio.Queue[bytes | Exception | None]) -> AsyncIterator[bytes]:
    while (item := await queue.get()) is not None:
        if isinstance(item, Exception):
            raise item
        yield item
