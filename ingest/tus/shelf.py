"""The uploads on the volume: a file of bytes and a record for each, written durably."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import structlog

from headrace.durable import fsync_folder, replace_file
from headrace.errors import Refusal
from ingest.tus.record import TusUpload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = structlog.get_logger()

MAX_UPLOADS = 10_000  # unfinished ones; each is a file and a record in memory
_RECORD = ".json"


class Shelf:
    """The uploads of one volume.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._uploads: dict[str, TusUpload] = {}

    def __iter__(self) -> Iterator[TusUpload]:
        """Give all of them."""
        return iter(list(self._uploads.values()))

    def count_open(self) -> int:
        """Count those that are not finished, and are in no other one yet."""
        return sum(not each.finished and each.final is None for each in self._uploads.values())

    async def load(self, *, believed: bool) -> None:
        """Read what was left by a stop or a crash, and delete what belongs to no upload.

        Args:
            believed: Whether nobody else was the primary meanwhile. Else whoever sent them was told
                that they are not there, and has begun again: they are deleted.
        """
        await asyncio.to_thread(self._load, believed)

    def data(self, upload_id: str) -> Path:
        """Path of an upload's bytes; what lies beyond its offset counts for nothing."""
        return self._folder / upload_id

    def find(self, upload_id: str) -> TusUpload | None:
        """Give an upload, if it is there."""
        return self._uploads.get(upload_id)

    async def create(self, upload: TusUpload) -> TusUpload:
        """Begin an upload.

        Raises:
            Refusal: ``overloaded``.
        """
        if self.count_open() >= MAX_UPLOADS:
            raise Refusal("overloaded", f"{MAX_UPLOADS} resumable uploads are unfinished already")
        await asyncio.to_thread(self.data(upload.id).touch, 0o600)
        return await self.save(upload)

    async def save(self, upload: TusUpload) -> TusUpload:
        """Write down how an upload is now, durably."""
        body = json.dumps(upload.encode()).encode()
        await asyncio.to_thread(replace_file, self._record(upload.id), body)
        self._uploads[upload.id] = upload
        return upload

    async def empty(self, upload: TusUpload) -> None:
        """Delete an upload's bytes; what is known of it stays."""
        await asyncio.to_thread(self.data(upload.id).unlink, missing_ok=True)

    async def remove(self, upload: TusUpload) -> None:
        """Delete all of an upload."""
        self._uploads.pop(upload.id, None)
        await asyncio.to_thread(self._remove, upload.id)

    def _record(self, upload_id: str) -> Path:
        return self._folder / f"{upload_id}{_RECORD}"

    def _remove(self, upload_id: str) -> None:
        # The record first: bytes without one are deleted at the next start.
        self._record(upload_id).unlink(missing_ok=True)
        fsync_folder(self._folder)
        self.data(upload_id).unlink(missing_ok=True)

    def _load(self, believed: bool) -> None:
        files = list(self._folder.iterdir())
        for path in files if believed else ():
            if path.suffix == _RECORD and (found := _read(path)) is not None:
                self._uploads[found.id] = found
        kept = {name for each in self._uploads for name in (each, f"{each}{_RECORD}")}
        for path in files:
            if path.name not in kept:
                path.unlink()


def _read(path: Path) -> TusUpload | None:

    try:
        return TusUpload.decode(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as exc:
        log.warning("resumable upload not read", file=path.name, error=repr(exc))
        return None
