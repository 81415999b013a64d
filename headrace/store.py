"""The object store, through obstore: whole small objects, and one conditional write.

All that Headrace needs of a store is read-after-write of a new key and put-if-absent
(DESIGN.md, section 4). Litestream writes its own files to the same place by ``litestream_url``.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError

from headrace.durable import create_file, link_file, replace_file, stream_file
from headrace.errors import (
    ConfigError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectMissingError,
    StoreError,
)
from headrace.keys import probe_key
from headrace.store_client import open_client
from headrace.store_counts import Operation, StoreCounts
from headrace.store_reason import tell_reason
from headrace.store_url import parse_store_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from obstore import ObjectMeta


ANSWER_S = 30.0  # for a small object, with all tries; some stores queue writers of one key for 10

_CHUNK_BYTES = 4 * 1024 * 1024  # of a streamed object
_PART_BYTES = 5 * 1024 * 1024  # of an object that is written in parts: the least that S3 takes
PARTS_AT_ONCE = 12  # of one object
_LISTED_AT_ONCE = 1000  # objects an answer, in S3 and most others
_DELETED_AT_ONCE = 32  # objects; not all stores know how to delete many by one request


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One object of a listing.

    Attributes:
        key: Its whole key.
        size_bytes: Its size.
        modified_at: When it was written, by the store's clock.
        etag: What the store calls this content of it; "" if it does not.
    """

    key: str
    size_bytes: int
    modified_at: datetime
    etag: str = ""

    @classmethod
    def of(cls, meta: ObjectMeta) -> Listed:
        """Read what obstore says of an object."""
        return cls(
            key=meta["path"],
            size_bytes=meta["size"],
            modified_at=meta["last_modified"],
            etag=meta["e_tag"] or "",
        )


class Store:
    """One bucket and prefix, or one local folder.

    Args:
        url: What ``parse_store_url`` reads. Credentials come from the environment, never from it.
        counts: Where what is asked of it is counted; by default its own.

    Attributes:
        url: The same, without a query: to be shown.
        folder: The local folder that it is, if it is one.
        is_s3: Whether it is S3, where Litestream's keys are others.
        counts: What was asked of it.

    Raises:
        ConfigError: The URL cannot be used.
    """

    def __init__(self, url: str, counts: StoreCounts | None = None) -> None:
        self._location = parse_store_url(url)
        self.url = self._location.base
        self.folder = self._location.folder
        self.is_s3 = self._location.is_s3
        self.counts = counts or StoreCounts()
        self._store = open_client(self._location)

    def reconnect(self) -> None:
        """Ask on new connections from now on: the old ones may be dead without a word."""
        self._store = open_client(self._location)

    def litestream_url(self, key: str) -> str:
        """Give the URL by which Litestream finds a prefix of this store."""
        return self._location.litestream_url(key)

    @property
    def whole_url(self) -> str:
        """The URL that opens the same store again; its query is not to be shown."""
        return self._location.whole_url

    async def read(self, key: str) -> bytes:
        """Read a whole object.

        Raises:
            ObjectMissingError: It is not there, or not visible yet.
            StoreError: The store could not be asked.
        """
        async with self._asking(Operation.GET, f"read {key}", ANSWER_S):
            result = await obstore.get_async(self._store, key)
            return self._counted(bytes(await result.bytes_async()))

    async def look_at(self, key: str) -> Listed:
        """Say what an object is, without reading it.

        Raises:
            ObjectMissingError: It is not there, or not visible yet.
            StoreError: The store could not be asked.
        """
        async with self._asking(Operation.HEAD, f"look at {key}", ANSWER_S):
            return Listed.of(await obstore.head_async(self._store, key))

    async def copy(self, key: str, target: str) -> None:
        """Have an object under another key as well; its bytes do not pass through here.

        Raises:
            ObjectMissingError: It is not there, or not visible yet.
            StoreError: The store could not be asked.
        """
        async with self._asking(Operation.PUT, f"copy {key}", None):
            await obstore.copy_async(self._store, key, target)

    async def read_or_spill(
        self, key: str, spill: Path, *, memory_bytes: int, stall_s: float
    ) -> bytes | Path:
        """Read a whole object: into memory, or into a file if it is large.

        Args:
            key: The object.
            spill: The file that a large object is streamed to; whoever calls removes it.
            memory_bytes: The largest object that is held in memory.
            stall_s: How long the store may send nothing.

        Returns:
            The bytes, or the file that they are in: ``spill``, or, in a local folder, the object's
            own, which must not be changed.

        Raises:
            ObjectMissingError: It is not there, or not visible yet.
            StoreError: The store could not be asked, or fell silent.
            OSError: The file could not be written.
        """
        async with self._asking(Operation.GET, f"read {key}", stall_s):
            result = await obstore.get_async(self._store, key)
            if result.meta["size"] <= memory_bytes:
                return self._counted(bytes(await result.bytes_async()))
        if self.folder is not None:
            self.counts.transferred_bytes[Operation.GET] += result.meta["size"]
            return self.folder / key
        chunks = aiter(result.stream(_CHUNK_BYTES))
        with spill.open("wb", buffering=0) as file:
            while True:
                chunk = await self._next(chunks, f"read {key}", stall_s)
                if chunk is None:
                    return spill
                await asyncio.to_thread(_write_all, file.fileno(), chunk)

    async def stream(
        self, key: str, *, stall_s: float, etag: str | None = None
    ) -> AsyncIterator[bytes]:
        """Give a whole object in pieces.

        Args:
            key: The object.
            stall_s: How long the store may send nothing.
            etag: Of the content that is wanted, and no other; None: of any.

        Raises:
            ObjectChangedError: It has another content by now.
            ObjectMissingError: It is not there, or not visible yet.
            StoreError: The store could not be asked, or fell silent.
        """
        async with self._asking(Operation.GET, f"read {key}", stall_s):
            result = await obstore.get_async(self._store, key)
        if etag is not None and (result.meta["e_tag"] or "") != etag:
            raise ObjectChangedError(f"cannot read {key}: it was written again")
        chunks = aiter(result.stream(_CHUNK_BYTES))
        while (chunk := await self._next(chunks, f"read {key}", stall_s)) is not None:
            yield bytes(chunk)

    async def list_objects(self, prefix: str, *, stall_s: float) -> AsyncIterator[Listed]:
        """List the objects under a prefix, in any order.

        Raises:
            StoreError: The store could not be asked, or fell silent.
        """
        batches = aiter(obstore.list(self._store, prefix, chunk_size=_LISTED_AT_ONCE))
        requests = 1
        while True:
            async with self._asking(Operation.LIST, f"list {prefix}", stall_s, requests=requests):
                metas = await anext(batches, None)
            if metas is None:
                return
            requests = len(metas) // _LISTED_AT_ONCE  # after a full answer comes another
            for meta in metas:
                yield Listed.of(meta)

    async def list_sizes(self, prefix: str, *, stall_s: float) -> dict[str, int]:
        """List the objects under a prefix: name after the prefix -> bytes.

        Raises:
            StoreError: The store could not be asked, or fell silent.
        """
        listed = self.list_objects(prefix, stall_s=stall_s)
        return {each.key.removeprefix(prefix).lstrip("/"): each.size_bytes async for each in listed}

    async def list_folders(self, prefix: str, *, stall_s: float) -> list[str]:
        """List what comes next in the keys under a prefix: ``prefix/name``, for each name.

        Raises:
            StoreError: The store could not be asked, or took too long.
        """
        async with self._asking(Operation.LIST, f"list {prefix}", stall_s):
            found = await obstore.list_with_delimiter_async(self._store, prefix)
        folders = list(found["common_prefixes"])
        listed = len(folders) + len(found["objects"])
        self.counts.requests[Operation.LIST] += max(listed - 1, 0) // _LISTED_AT_ONCE
        return folders

    async def create(self, key: str, body: bytes) -> None:
        """Write a new object, only if there is none of that key; durable on return.

        Raises:
            ObjectExistsError: There is one.
            StoreError: The store could not be asked, or its answer was lost.
        """
        async with self._asking(Operation.CREATE, f"create {key}", ANSWER_S, sent=body):
            try:
                if self.folder is not None:
                    await asyncio.to_thread(create_file, self.folder / key, body)
                else:
                    await obstore.put_async(self._store, key, body, mode="create")
            except (AlreadyExistsError, FileExistsError) as exc:
                raise ObjectExistsError(f"find {key} taken") from exc

    async def check_creates(self) -> None:
        """Try that a second create of a key fails, because the log and the lease rest on that.

        Raises:
            ConfigError: It succeeds.
            StoreError: The store could not be asked.
        """
        key = probe_key(secrets.token_hex(8))
        await self.create(key, b"first")
        try:
            await self.create(key, b"second")
        except ObjectExistsError:
            return
        finally:
            await self.delete(key)
        raise ConfigError(
            "cannot use the store: it lets an object be created that is there already, so two "
            "primaries could both believe that they had published",
            hint="choose a store with conditional writes (If-None-Match: *)",
        )

    async def put_stream(
        self, key: str, chunks: AsyncIterator[bytes], *, parts_at_once: int = PARTS_AT_ONCE
    ) -> None:
        """Write an object of unknown size, in several parts at once; for what is written once.

        If the chunks end by an error nothing is written.

        Args:
            key: The object.
            chunks: What is to be in it; durable on return.
            parts_at_once: How many parts, of 5 MiB each, are held in memory.

        Raises:
            StoreError: The store could not be asked, or the chunks ended by an error.
        """
        # As slow as the chunks come.
        async with self._asking(Operation.MULTIPART, f"write {key}", None, requests=2):
            if self.folder is not None:
                await stream_file(self.folder / key, self._counted_parts(chunks))
                return
            await obstore.put_async(
                self._store,
                key,
                self._counted_parts(chunks),
                use_multipart=True,
                chunk_size=_PART_BYTES,
                max_concurrency=parts_at_once,
            )

    async def replace(self, key: str, body: bytes) -> None:
        """Write an object, whether or not there is one; for hints only.

        Raises:
            StoreError: The store could not be asked.
        """
        async with self._asking(Operation.PUT, f"write {key}", ANSWER_S, sent=body):
            if self.folder is not None:
                await asyncio.to_thread(replace_file, self.folder / key, body)
            else:
                await obstore.put_async(self._store, key, body)

    async def upload(self, key: str, path: Path, *, parts_at_once: int = PARTS_AT_ONCE) -> None:
        """Have a durable file of this machine as an object, whether or not there is one.

        In a local folder it gets a second name, so nobody may write to it any more.

        Args:
            key: The object.
            path: The file.
            parts_at_once: How many parts of a large one, of 5 MiB each, are held in memory.

        Raises:
            StoreError: The store could not be asked.
        """
        if self.folder is not None:
            async with self._asking(Operation.PUT, f"write {key}", None):
                await asyncio.to_thread(link_file, path, self.folder / key)
            return
        size_bytes = (await asyncio.to_thread(path.stat)).st_size
        if in_parts := size_bytes > _PART_BYTES:
            operation, requests = Operation.MULTIPART, 2 + -(-size_bytes // _PART_BYTES)
        else:
            operation, requests = Operation.PUT, 1
        async with self._asking(operation, f"write {key}", None, requests=requests):
            await obstore.put_async(
                self._store,
                key,
                path,
                use_multipart=in_parts,
                chunk_size=_PART_BYTES,
                max_concurrency=parts_at_once,
            )
        self.counts.transferred_bytes[operation] += size_bytes

    async def delete(self, key: str) -> None:
        """Delete an object; that there is none is as good.

        Raises:
            StoreError: The store could not be asked.
        """
        with suppress(ObjectMissingError):
            async with self._asking(Operation.DELETE, f"delete {key}", ANSWER_S):
                await obstore.delete_async(self._store, key)

    async def delete_all(self, prefix: str, *, stall_s: float) -> None:
        """Delete all objects under a prefix.

        Raises:
            StoreError: The store could not be asked; some may be deleted.
        """
        if self.folder is not None:
            async with self._asking(Operation.DELETE, f"delete {prefix}", None):
                with suppress(FileNotFoundError):
                    await asyncio.to_thread(shutil.rmtree, self.folder / prefix)
            return
        await self.delete_keys(
            [each.key async for each in self.list_objects(prefix, stall_s=stall_s)]
        )

    async def delete_keys(self, keys: Sequence[str]) -> None:
        """Delete objects; those that are not there are no error.

        Raises:
            StoreError: The store could not be asked; some may be deleted.
        """
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            await asyncio.gather(*map(self.delete, keys[start : start + _DELETED_AT_ONCE]))

    @asynccontextmanager
    async def _asking(
        self,
        operation: Operation,
        what: str,
        stall_s: float | None,
        *,
        requests: int = 1,
        sent: bytes = b"",
    ) -> AsyncIterator[None]:
        """Give the store's errors, and its silence, as ours; count what is asked."""
        self.counts.requests[operation] += requests
        begun_s = time.perf_counter()
        try:
            async with asyncio.timeout(stall_s):
                yield
        except TimeoutError as exc:
            self.counts.errors[operation] += 1
            raise StoreError(f"cannot {what}: no answer in {stall_s:g} s") from exc
        except (FileNotFoundError, NotFoundError) as exc:
            raise ObjectMissingError(f"cannot {what}: there is no such object") from exc
        except (BaseError, OSError) as exc:
            self.counts.errors[operation] += 1
            raise StoreError(f"cannot {what}: {tell_reason(exc)}") from exc
        finally:
            self.counts.wait(operation, time.perf_counter() - begun_s)
        self.counts.transferred_bytes[operation] += len(sent)

    async def _next(self, chunks: AsyncIterator[Any], what: str, stall_s: float) -> bytes | None:
        """Give the next piece of an object that is being read; None at its end."""
        async with self._asking(Operation.GET, what, stall_s, requests=0):
            chunk = await anext(chunks, None)
        return None if chunk is None else self._counted(bytes(chunk))

    def _counted(self, body: bytes) -> bytes:
        """Count what was read."""
        self.counts.transferred_bytes[Operation.GET] += len(body)
        return body

    async def _counted_parts(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Count what is written, and the parts that it makes."""
        sent_bytes = 0
        async for chunk in chunks:
            before, sent_bytes = -(-sent_bytes // _PART_BYTES), sent_bytes + len(chunk)
            self.counts.requests[Operation.MULTIPART] += -(-sent_bytes // _PART_BYTES) - before
            self.counts.transferred_bytes[Operation.MULTIPART] += len(chunk)
            yield chunk


def _write_all(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]
