"""Files that survive a power cut: complete under their name, or not there at all.

Source for why a local store needs it: object_store's ``LocalFileSystem`` does not fsync.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path
    from typing import BinaryIO


def create_file(path: Path, body: bytes) -> None:
    """Write a new file.

    Raises:
        FileExistsError: There is one.
    """
    with _part(path) as part:
        _write(part, body)
        os.link(part, path)
        fsync_folder(path.parent)


def replace_file(path: Path, body: bytes) -> None:
    """Write a file, whether or not there is one."""
    with _part(path) as part:
        _write(part, body)
        part.rename(path)
        fsync_folder(path.parent)


def link_file(path: Path, target: Path) -> None:
    """Give a durable file a second name, whether or not another file has it.

    Where the two names are not on one file system it is a copy.
    """
    with _part(target) as part:
        try:
            os.link(path, part)
        except OSError as exc:
            if exc.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK}:
                raise
            shutil.copyfile(path, part)
            fsync_folder(part)
        part.rename(target)  # does nothing if both are names of one file
        fsync_folder(target.parent)


async def stream_file(path: Path, chunks: AsyncIterator[bytes]) -> None:
    """Write a file as its bytes come; nothing, if they end by an error. It may be there already."""
    with _part(path) as part:
        with part.open("xb") as file:
            async for chunk in chunks:
                await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(_sync, file)
        part.rename(path)
        fsync_folder(path.parent)


def fsync_path(path: Path) -> None:
    """Fsync a file (or folder), and the folder that names it."""
    fsync_folder(path)
    fsync_folder(path.parent)


def fsync_folder(path: Path) -> None:
    """Fsync a folder: the names in it. A file can be given as well."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _part(path: Path) -> Iterator[Path]:
    """Give a path for the bytes beside a file; what is there is gone after the block.

    Its name is that of a staged upload for object_store, which does not list it.
    """
    _make_folder(path.parent)
    part = path.with_name(f"{path.name}#{secrets.randbits(48)}")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _write(part: Path, body: bytes) -> None:
    with part.open("xb") as file:
        file.write(body)
        _sync(file)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, each durably named."""
    if not folder.exists():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        fsync_folder(folder.parent)
