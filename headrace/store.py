"""The object store, through obstore: whole small objects, and one conditional write.

All that Headrace needs of a store is read-after-write of a new key and put-if-absent
(DESIGN.md, section 4). Litestream writes its own files to the same place by ``litestream_url``.
"""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError

from headrace.durable import copy_file, create_file, replace_file
from headrace.errors import ConfigError, ObjectExistsError, ObjectMissingError, StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from obstore.store import ObjectStore

# Litestream 0.5 percent-encodes the path of a file URL and then takes it as it is
# (its replica_url.go, ParseReplicaURLWithQuery), so only these characters arrive unchanged.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./~-]+")

_CHUNK_BYTES = 4 * 1024 * 1024  # of a streamed object


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One object of a listing.

    Attributes:
        key: Its whole key.
        size_bytes: Its size.
        modified_at: When it was written, by the store's clock.
    """

    key: str
    size_bytes: int
    modified_at: datetime


class Store:
    """One bucket and prefix, or one local folder.

    Args:
        url: ``file:///folder``, a plain folder, ``s3://bucket/prefix``, ``gs://…`` or ``az://…``.
            Credentials come from the environment, never from the URL.

    Attributes:
        url: The URL, without a slash at its end.
        folder: The local folder, if it is one.
        is_s3: Whether it is S3, where Litestream's keys are others.

    Raises:
        ConfigError: The URL cannot be used.
    """

    def __init__(self, url: str) -> None:
        self.folder: Path | None = None
        if "://" not in url:
            url = Path(url).absolute().as_uri()
        parts = urlsplit(url)
        if parts.scheme == "file":
            self.folder = check_plain_path(Path(parts.path))
            url = f"file://{self.folder}"
        elif parts.username or parts.password:
            raise ConfigError("cannot take credentials from the store's URL: use the environment")
        self.url = url.rstrip("/")
        self.is_s3 = parts.scheme == "s3"
        self._store = _open(self.url, self.folder)

    def litestream_url(self, key: str) -> str:
        """Give the URL by which Litestream finds a prefix of this store."""
        base, question, query = self.url.partition("?")
        return f"{base.rstrip('/')}/{key}{question}{query}"

    async def read(self, key: str) -> bytes:
        """Read a whole object.

        Raises:
            ObjectMissingError: It is not there, or not visible yet.
            StoreError: The store could not be asked.
        """
        try:
            result = await obstore.get_async(self._store, key)
            return bytes(await result.bytes_async())
        except (FileNotFoundError, NotFoundError) as exc:
            raise ObjectMissingError(f"find no object {key}") from exc
        except (BaseError, OSError) as exc:
            raise StoreError(f"cannot read {key}: {_reason(exc)}") from exc

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
        async with _asking(f"read {key}", stall_s):
            result = await obstore.get_async(self._store, key)
            if result.meta["size"] <= memory_bytes:
                return bytes(await result.bytes_async())
        if self.folder is not None:
            return self.folder / key
        chunks = aiter(result.stream(_CHUNK_BYTES))
        with spill.open("wb", buffering=0) as file:
            while True:
                async with _asking(f"read {key}", stall_s):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    return spill
                await asyncio.to_thread(_write_all, file.fileno(), chunk)

    async def list_objects(self, prefix: str, *, stall_s: float) -> AsyncIterator[Listed]:
        """List the objects under a prefix, in any order.

        Raises:
            StoreError: The store could not be asked, or fell silent.
        """
        batches = aiter(obstore.list(self._store, prefix))
        while True:
            async with _asking(f"list {prefix}", stall_s):
                metas = await anext(batches, None)
            if metas is None:
                return
            for meta in metas:
                yield Listed(
                    key=meta["path"],
                    size_bytes=meta["size"],
                    modified_at=meta["last_modified"],
                )

    async def list_sizes(self, prefix: str, *, stall_s: float) -> dict[str, int]:
        """List the objects under a prefix: name after the prefix -> bytes.

        Raises:
            StoreError: The store could not be asked, or fell silent.
        """
        listed = self.list_objects(prefix, stall_s=stall_s)
        return {each.key.removeprefix(prefix).lstrip("/"): each.size_bytes async for each in listed}

    async def create(self, key: str, body: bytes) -> None:
        """Write a new object, only if there is none of that key; durable on return.

        Raises:
            ObjectExistsError: There is one.
            StoreError: The store could not be asked, or its answer was lost.
        """
        try:
            if self.folder is not None:
                await asyncio.to_thread(create_file, self.folder / key, body)
            else:
                await obstore.put_async(self._store, key, body, mode="create")
        except (AlreadyExistsError, FileExistsError) as exc:
            raise ObjectExistsError(f"find {key} taken") from exc
        except (BaseError, OSError) as exc:
            raise StoreError(f"cannot create {key}: {_reason(exc)}") from exc

    async def replace(self, key: str, body: bytes) -> None:
        """Write an object, whether or not there is one; for hints only.

        Raises:
            StoreError: The store could not be asked.
        """
        try:
            if self.folder is not None:
                await asyncio.to_thread(replace_file, self.folder / key, body)
            else:
                await obstore.put_async(self._store, key, body)
        except (BaseError, OSError) as exc:
            raise StoreError(f"cannot write {key}: {_reason(exc)}") from exc

    async def upload(self, key: str, path: Path) -> None:
        """Write a file's bytes as an object that nobody else writes; durable on return.

        Raises:
            StoreError: The store could not be asked.
        """
        try:
            if self.folder is not None:
                await asyncio.to_thread(copy_file, path, self.folder / key)
            else:
                await obstore.put_async(self._store, key, path)
        except (BaseError, OSError) as exc:
            raise StoreError(f"cannot write {key}: {_reason(exc)}") from exc

    async def delete(self, key: str) -> None:
        """Delete an object; that there is none is as good.

        Raises:
            StoreError: The store could not be asked.
        """
        try:
            await obstore.delete_async(self._store, key)
        except (FileNotFoundError, NotFoundError):
            return
        except (BaseError, OSError) as exc:
            raise StoreError(f"cannot delete {key}: {_reason(exc)}") from exc


@asynccontextmanager
async def _asking(what: str, stall_s: float) -> AsyncIterator[None]:
    """Give the store's errors, and its silence, as ours."""
    try:
        async with asyncio.timeout(stall_s):
            yield
    except TimeoutError as exc:
        raise StoreError(f"cannot {what}: no answer in {stall_s:g} s") from exc
    except (FileNotFoundError, NotFoundError) as exc:
        raise ObjectMissingError(f"cannot {what}: find no such object") from exc
    except (BaseError, OSError) as exc:
        raise StoreError(f"cannot {what}: {_reason(exc)}") from exc


def _write_all(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


def check_plain_path(path: Path) -> Path:
    """Return the absolute path if Litestream's and SQLite's URLs can carry it.

    Raises:
        ConfigError: It has a space or another character that they cannot.
    """
    path = path.absolute()
    if not _PLAIN_PATH.fullmatch(str(path)):
        raise ConfigError(
            f"cannot use the folder {str(path)!r}: Litestream's file URLs carry only letters, "
            "digits and '_ . ~ - /'",
            hint="choose another folder",
        )
    return path


def _open(url: str, folder: Path | None) -> ObjectStore:
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            return obstore.store.LocalStore(folder)
        return obstore.store.from_url(url)
    except (BaseError, OSError, ValueError) as exc:
        raise ConfigError(f"cannot open the store {url}: {_reason(exc)}") from exc


def _reason(exc: Exception) -> str:
    """Give the first line: obstore appends its source's debug form."""
    return (str(exc).splitlines() or [type(exc).__name__])[0]
