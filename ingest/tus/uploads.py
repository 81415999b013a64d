"""The resumable uploads of a primary: what its requests work on."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from ingest.tus.shelf import Shelf
from ingest.tus.turns import Turns

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from pathlib import Path

    from ingest.tus.record import TusUpload

_READ_BYTES = 1024 * 1024


class TusUploads:
    """Where they are, whose turn it is, and for how long they stay.

    Args:
        folder: On the volume.
        expiry: How long one is kept after its last byte.

    Attributes:
        shelf: The uploads.
        turns: Who may work on one.
    """

    def __init__(self, folder: Path, expiry: timedelta) -> None:
        self.shelf = Shelf(folder)
        self.turns = Turns()
        self._expiry = expiry
        self._digests: dict[str, tuple[int, hashlib._Hash]] = {}

    def expires_at(self, upload: TusUpload) -> datetime:
        """Give when an upload is dropped if nothing more comes."""
        return upload.touched_at + self._expiry

    def hashed(self, upload: TusUpload) -> tuple[int, hashlib._Hash]:
        """Give how much of an upload's bytes is hashed, and the hash; after a start nothing is."""
        offset, digest = self._digests.pop(upload.id, (0, hashlib.sha256()))
        return (offset, digest) if offset <= upload.offset else (0, hashlib.sha256())

    def keep_hashed(self, upload: TusUpload, digest: hashlib._Hash) -> None:
        """Keep the hash of all bytes that an upload has, so that they need not be read again."""
        self._digests[upload.id] = upload.offset, digest

    def sha256_of(self, upload: TusUpload) -> str:
        """Give the SHA-256 of an upload, reading what is not hashed; to be called in a thread."""
        offset, digest = self.hashed(upload)
        with self.shelf.data(upload.id).open("rb") as file:
            file.seek(offset)
            while piece := file.read(min(_READ_BYTES, upload.offset - offset)):
                digest.update(piece)
                offset += len(piece)
        self.keep_hashed(upload, digest)
        return digest.hexdigest()

    async def remove(self, upload: TusUpload) -> None:
        """Delete an upload, its bytes, and what is known of it."""
        self._digests.pop(upload.id, None)
        await self.shelf.remove(upload)

    async def empty(self, upload: TusUpload) -> None:
        """Delete the bytes of an upload."""
        self._digests.pop(upload.id, None)
        await self.shelf.empty(upload)


def new_upload_id() -> str:
    """Make an id that cannot be guessed: who knows it may ask how far the upload is."""
    return secrets.token_hex(16)


def turn_of(upload: TusUpload) -> str:
    """Name the turn that a request for an upload needs; of one made of parts its first part's."""
    return next(iter(upload.parts), upload.id)
