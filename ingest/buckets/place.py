"""Where files are dropped: a bucket and prefix; a folder of this machine is in ``folder``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import structlog

from headrace.errors import ObjectMissingError, StoreError
from ingest.buckets.names import FAILED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from headrace.store import Listed, Store

log = structlog.get_logger()

STALL_S = 60.0  # without an answer of the store


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An object of a place.

    Attributes:
        name: Its key below the place.
        size_bytes: Its size.
        etag: What its content is called by the store.
        modified_at: When it was written, by the store's clock.
    """

    name: str
    size_bytes: int
    etag: str
    modified_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What lies in a place.

    Attributes:
        found: Objects, in no order.
        complete: Whether these are all.
    """

    found: tuple[Found, ...]
    complete: bool


class Place(Protocol):
    """A bucket and prefix, or a folder."""

    @property
    def url(self) -> str:
        """To be shown."""

    @property
    def is_atomic(self) -> bool:
        """Whether an object is there whole or not at all."""

    def name_of(self, bucket: str, key: str) -> str | None:
        """Give the name of an object of some bucket, if it lies here."""

    async def look(self) -> Sight:
        """List what is here.

        Raises:
            StoreError: The store could not be asked.
        """

    async def find(self, name: str) -> Found | None:
        """Look at one object.

        Raises:
            StoreError: The store could not be asked.
        """

    def stream(self, found: Found) -> AsyncIterator[bytes]:
        """Give an object's bytes.

        Raises:
            ObjectChangedError: It is another by now.
            ObjectMissingError: It is gone.
            StoreError: The store could not be asked.
        """

    async def write(self, name: str, body: bytes) -> None:
        """Write a small object.

        Raises:
            StoreError: The store could not be asked.
        """

    async def delete(self, found: Found) -> bool:
        """Delete an object, unless it is another by now; say whether it is gone.

        Raises:
            StoreError: The store could not be asked.
        """

    async def set_aside(self, found: Found) -> bool:
        """Move an object to where failed ones lie, unless it is another by now.

        Raises:
            StoreError: The store could not be asked.
        """


class ObjectPlace:
    """A bucket and prefix.

    Args:
        store: Where it is.
        prefix: In the store, without slash at its end; "": all of it.
    """

    is_atomic = True

    def __init__(self, store: Store, prefix: str = "") -> None:
        self._store = store
        self._prefix = prefix
        self.url = f"{store.url}/{prefix}" if prefix else store.url
        parts = urlsplit(self.url)
        self._bucket = parts.netloc
        self._within = f"{parts.path.strip('/')}/".lstrip("/")

    def name_of(self, bucket: str, key: str) -> str | None:
        """Give the name of an object of some bucket, if it lies here."""
        if bucket != self._bucket or not key.startswith(self._within):
            return None
        return key.removeprefix(self._within) or None

    async def look(self) -> Sight:
        """List what is here; of databases whose objects cannot be listed, nothing.

        obstore gives no part of a listing that holds a key which it cannot read (``a//b``): so that
        one such key does not hide all others, the databases are listed each by itself then.

        Raises:
            StoreError: The store could not be asked.
        """
        try:
            return Sight(found=tuple(await self._list(self._prefix)), complete=True)
        except StoreError as exc:
            folders = await self._store.list_folders(self._prefix, stall_s=STALL_S)
            log.warning("bucket listed by its folders", place=self.url, reason=str(exc))
        found: list[Found] = []
        for folder in folders:
            try:
                found += await self._list(folder)
            except StoreError as exc:
                log.warning("folder not listed", place=self.url, folder=folder, reason=str(exc))
        return Sight(found=tuple(found), complete=False)

    async def find(self, name: str) -> Found | None:
        """Look at one object.

        Raises:
            StoreError: The store could not be asked.
        """
        try:
            return self._found(await self._store.look_at(self._key(name)))
        except (ObjectMissingError, ValueError):  # or no key, for obstore: a//b
            return None

    async def stream(self, found: Found) -> AsyncIterator[bytes]:
        """Give an object's bytes.

        Raises:
            ObjectChangedError: It is another by now.
            ObjectMissingError: It is gone.
            StoreError: The store could not be asked.
        """
        chunks = self._store.stream(self._key(found.name), stall_s=STALL_S, etag=found.etag)
        async for chunk in chunks:
            yield chunk

    async def write(self, name: str, body: bytes) -> None:
        """Write a small object.

        Raises:
            StoreError: The store could not be asked.
        """
        await self._store.replace(self._key(name), body)

    async def delete(self, found: Found) -> bool:
        """Delete an object, unless it is another by now; say whether it is gone.

        What is written between the look and the deletion is deleted unseen: no store but Amazon's
        has conditional deletes, and obstore does not know them.

        Raises:
            StoreError: The store could not be asked.
        """
        if await self.find(found.name) != found:
            return False
        await self._store.delete(self._key(found.name))
        return True

    async def set_aside(self, found: Found) -> bool:
        """Move an object to where failed ones lie, unless it is another by now.

        Raises:
            StoreError: The store could not be asked.
        """
        with suppress(ObjectMissingError):
            await self._store.copy(self._key(found.name), self._key(f"{FAILED}/{found.name}"))
            return await self.delete(found)
        return False

    async def _list(self, prefix: str) -> list[Found]:
        listed = self._store.list_objects(prefix, stall_s=STALL_S)
        return [self._found(each) async for each in listed]

    def _found(self, listed: Listed) -> Found:
        within = f"{self._prefix}/" if self._prefix else ""
        return Found(
            name=listed.key.removeprefix(within),
            size_bytes=listed.size_bytes,
            etag=listed.etag,
            # A listing has parts of a second, and a look at one object has not.
            modified_at=listed.modified_at.replace(microsecond=0),
        )

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name


async def read_small(place: Place, name: str, limit_bytes: int) -> bytes | None:
    """Read a small object; None if there is none.

    Raises:
        ObjectChangedError: It was written again meanwhile.
        StoreError: The store could not be asked.
    """
    found = await place.find(name)
    if found is None:
        return None
    body = bytearray()
    async for chunk in place.stream(found):
        body += chunk[: limit_bytes + 1 - len(body)]
        if len(body) > limit_bytes:
            break
    return bytes(body)
