"""A folder of this machine where files are dropped; they may still be written.

Whoever may write to it must not get us to read, to publish, or to write what he could not himself.
So no link is followed, not even for a folder on the way, and only plain files are read.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog

from headrace.errors import ObjectChangedError, ObjectMissingError, StoreError
from ingest.buckets.names import FAILED
from ingest.buckets.place import Found, Sight

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

log = structlog.get_logger()

_CHUNK_BYTES = 1024 * 1024
# Of a pipe that nobody writes to, opening would wait for ever.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# A link on the way is no folder, and there is no file whose name is too long.
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
_LATEST_S = 253_402_300_799  # the last second of the year 9999: whoever owns a file dates it


class FolderPlace:
    """A folder, with all folders in it.

    Args:
        folder: Where it is.
        moves: Whether files are taken away from it. Then one that is moved back there is another
            file; else one that only its rights change of is not.
    """

    is_atomic = False

    def __init__(self, folder: Path, *, moves: bool) -> None:
        self._folder = folder
        self._moves = moves
        self.url = folder.as_uri()

    def name_of(self, bucket: str, key: str) -> str | None:  # noqa: ARG002 - of the protocol
        """Give nothing: folders are in no bucket."""
        return None

    async def look(self) -> Sight:
        """List what is here.

        Raises:
            StoreError: The folder cannot be read.
        """
        return await asyncio.to_thread(self._scan)

    async def find(self, name: str) -> Found | None:
        """Look at one file.

        Raises:
            StoreError: It is not known whether it is there.
        """
        try:
            return await asyncio.to_thread(self._stat, name)
        except ValueError:  # no name: it holds a NUL
            return None
        except OSError as exc:
            if exc.errno in _ABSENT:
                return None
            raise StoreError(f"cannot look at {name!r}: {exc.strerror}") from exc

    async def stream(self, found: Found) -> AsyncIterator[bytes]:
        """Give a file's bytes.

        Raises:
            ObjectChangedError: It is another by now, or was written to while it was read.
            ObjectMissingError: It is gone.
            StoreError: It cannot be read.
        """
        descriptor = await asyncio.to_thread(self._open, found)
        try:
            while chunk := await asyncio.to_thread(os.read, descriptor, _CHUNK_BYTES):
                yield chunk
            if self._found(found.name, os.fstat(descriptor)) != found:
                raise ObjectChangedError(f"cannot read {found.name!r}: it is being written")
        except OSError as exc:
            raise StoreError(f"cannot read {found.name!r}: {exc.strerror}") from exc
        finally:
            os.close(descriptor)

    async def write(self, name: str, body: bytes) -> None:
        """Write a small file.

        Raises:
            StoreError: It cannot be written.
        """

        def write() -> None:
            with self._inside(name, make=True) as (folder, last):
                part = f".{secrets.token_hex(8)}"
                with os.fdopen(os.open(part, _CREATE, 0o644, dir_fd=folder), "wb") as file:
                    file.write(body)
                os.replace(part, last, src_dir_fd=folder, dst_dir_fd=folder)

        await self._change(write)

    async def delete(self, found: Found) -> bool:
        """Delete a file, unless it is another by now; say whether it is gone.

        Raises:
            StoreError: It cannot be deleted.
        """

        def delete() -> None:
            with self._inside(found.name) as (folder, last):
                os.unlink(last, dir_fd=folder)

        return await self._change_same(found, delete)

    async def set_aside(self, found: Found) -> bool:
        """Move a file to where failed ones lie, unless it is another by now.

        Raises:
            StoreError: It cannot be moved.
        """

        def move() -> None:
            with (
                self._inside(found.name) as (folder, last),
                self._inside(f"{FAILED}/{found.name}", make=True) as (target, _last),
            ):
                os.replace(last, last, src_dir_fd=folder, dst_dir_fd=target)

        return await self._change_same(found, move)

    async def _change_same(self, found: Found, change: Callable[[], None]) -> bool:
        if await self.find(found.name) != found:
            return False
        await self._change(change)
        return True

    async def _change(self, change: Callable[[], Any]) -> None:
        try:
            await asyncio.to_thread(change)
        except OSError as exc:
            raise StoreError(f"cannot change {self.url}: {exc.strerror}") from exc

    @contextmanager
    def _inside(self, name: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """Open the folder that a file lies in, without following a link; give the last part too.

        Raises:
            OSError: It cannot be opened, or something on the way is no folder.
        """
        *folders, last = name.split("/")
        opened = os.open(self._folder, _ENTER & ~os.O_NOFOLLOW)  # that itself was chosen by us
        try:
            for part in folders:
                if part in {"", ".", ".."}:
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), part)
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, dir_fd=opened)
                within = os.open(part, _ENTER, dir_fd=opened)
                os.close(opened)
                opened = within
            yield opened, last
        finally:
            os.close(opened)

    def _stat(self, name: str) -> Found | None:
        with self._inside(name) as (folder, last):
            about = os.stat(last, dir_fd=folder, follow_symlinks=False)
        return self._found(name, about) if stat.S_ISREG(about.st_mode) else None

    def _scan(self) -> Sight:
        found: list[Found] = []
        complete = True
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                for entry in self._entries(folder):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(f"{folder}{entry.name}/")
                    elif entry.is_file(follow_symlinks=False):
                        about = entry.stat(follow_symlinks=False)
                        found.append(self._found(f"{folder}{entry.name}", about))
            except OSError as exc:
                if not folder:
                    raise StoreError(f"cannot list {self.url}: {exc.strerror}") from exc
                log.warning("folder not listed", place=self.url, folder=folder, reason=exc.strerror)
                complete = False
        return Sight(found=tuple(found), complete=complete)

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str]]:
        """Give what is in a folder, but for names that no text can hold."""
        with os.scandir(self._folder / folder) as entries:
            for entry in entries:
                try:
                    entry.name.encode()
                except UnicodeEncodeError:
                    log.warning("file left alone: its name is not UTF-8", place=self.url)
                else:
                    yield entry

    def _found(self, name: str, about: os.stat_result) -> Found:
        mark = about.st_ctime_ns if self._moves else about.st_mtime_ns
        return Found(
            name=name,
            size_bytes=about.st_size,
            etag=f"{about.st_ino:x}-{mark:x}",
            modified_at=datetime.fromtimestamp(min(max(about.st_mtime, 0), _LATEST_S), UTC),
        )

    def _open(self, found: Found) -> int:
        """Open a file that is what was found.

        Raises:
            ObjectChangedError: It is another by now.
            ObjectMissingError: It is gone.
            StoreError: It cannot be opened, or is a link, or lies behind one.
        """
        try:
            with self._inside(found.name) as (folder, last):
                descriptor = os.open(last, _READ, dir_fd=folder)
        except FileNotFoundError as exc:
            raise ObjectMissingError(f"find no {found.name!r}") from exc
        except OSError as exc:
            raise StoreError(f"cannot open {found.name!r}: {exc.strerror}") from exc
        about = os.fstat(descriptor)
        if stat.S_ISREG(about.st_mode) and self._found(found.name, about) == found:
            return descriptor
        os.close(descriptor)
        raise ObjectChangedError(f"cannot read {found.name!r}: it is another file by now")
