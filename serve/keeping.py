"""Files of uploads on their way into the object store, through this machine and not onto it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headrace.arriving import Spooled, too_large
from headrace.errors import Refusal, StoreError
from headrace.keys import upload_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headrace.arriving import ArrivedFile
    from headrace.store import Store

STALL_S = 60.0  # without the store taking anything
PARTS_AT_ONCE = 2  # of 5 MiB, on their way to the store


class StoreKeeper:
    """Keeps files in the object store alone.

    Args:
        store: The store.
        max_upload_bytes: The largest file that is taken.
    """

    def __init__(self, store: Store, max_upload_bytes: int) -> None:
        self.max_upload_bytes = max_upload_bytes
        self._store = store

    def now(self) -> datetime:
        """Give the time."""
        return datetime.now(UTC)

    def require_room(self, size_bytes: int) -> None:
        """Find room for anything: a store is never full."""

    async def keep(self, arrived: ArrivedFile, chunks: AsyncIterator[bytes]) -> None:
        """Stream a file to where the primary would have put it.

        Raises:
            Refusal: It did not arrive whole, is too large or empty, or the store did not take it.
        """
        key = upload_key(arrived.receipt_id, arrived.filename)
        body = _Body(chunks, self.max_upload_bytes)
        putting = asyncio.create_task(
            self._store.put_stream(key, body.read(), parts_at_once=PARTS_AT_ONCE)
        )
        try:
            while not putting.done():
                await asyncio.wait([putting], timeout=STALL_S / 10)
                if body.idle_s > STALL_S:
                    putting.cancel()
            putting.result()
        except StoreError as exc:
            raise body.refusal or not_kept() from exc
        except asyncio.CancelledError as exc:
            if putting.cancelled():
                raise not_kept() from exc
            raise
        finally:
            putting.cancel()
        arrived.archive = key
        arrived.spooled = Spooled(path=None, bytes=body.size, sha256=body.digest.hexdigest())


class _Body:
    """The bytes of a file on their way through, counted and hashed.

    Attributes:
        size: Bytes so far.
        digest: SHA-256 of them.
        refusal: What ended it.
    """

    def __init__(self, chunks: AsyncIterator[bytes], limit_bytes: int) -> None:
        self.size = 0
        self.digest = hashlib.sha256()
        self.refusal: Refusal | None = None
        self._chunks = chunks
        self._limit_bytes = limit_bytes
        self._given_s: float | None = time.monotonic()

    @property
    def idle_s(self) -> float:
        """Seconds since the store was given something, and wanted no more."""
        return 0.0 if self._given_s is None else time.monotonic() - self._given_s

    async def read(self) -> AsyncIterator[bytes]:
        """Give the bytes.

        Raises:
            Refusal: They end too early or too late.
        """
        try:
            self._given_s = None
            async for chunk in self._chunks:
                self.size += len(chunk)
                if self.size > self._limit_bytes:
                    raise too_large(self._limit_bytes)
                self.digest.update(chunk)
                self._given_s = time.monotonic()
                yield chunk
                self._given_s = None
            if not self.size:
                raise Refusal("empty-file", "the file has no bytes")
        except Refusal as refusal:
            self.refusal = refusal
            raise
        finally:
            self._given_s = time.monotonic()


def not_kept() -> Refusal:
    """Give the refusal of an upload that the store did not take either."""
    return Refusal(
        "replication-down",
        "the primary did not answer, and the object store did not take the file",
        hint="send it again later, with the same Idempotency-Key",
    )
