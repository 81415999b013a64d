"""Watches the user's Datasette configuration directory."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOOK_S = 2.0  # between two looks
SETTLE_S = 0.25  # a change is one when nothing has changed further for so long
NOTHING = ""

# Databases in the directory are mutable: Datasette sees their changes by itself.
_DATABASES = (".db", ".sqlite", ".sqlite3")
_BESIDE_DATABASES = ("-wal", "-shm", "-journal")
_IGNORED_FOLDERS = frozenset({"__pycache__", ".git"})


class ConfigurationWatch:
    """Looks at the directory every two seconds.

    Args:
        folder: The directory; None if there is none.

    Attributes:
        fingerprint: Stands for names, sizes and times of its files.
    """

    def __init__(self, folder: Path | None) -> None:
        self.fingerprint = read_fingerprint(folder)
        self._folder = folder

    async def run(self, on_change: Callable[[], None]) -> None:
        """Call back after each change, until cancelled."""
        while self._folder is not None:
            await asyncio.sleep(LOOK_S)
            found = await self._look()
            while found != self.fingerprint:
                await asyncio.sleep(SETTLE_S)
                before, found = found, await self._look()
                if found == before:
                    self.fingerprint = found
                    on_change()

    async def _look(self) -> str:
        return await asyncio.to_thread(read_fingerprint, self._folder)


def read_fingerprint(folder: Path | None) -> str:
    """Give what changes when a file of a directory does; reads no file."""
    if folder is None:
        return NOTHING
    lines = sorted(_describe_files(str(folder)))
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def _describe_files(folder: str) -> Iterator[str]:
    seen: set[str] = set()  # a link may lead to a folder above it
    for parent, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if name not in _IGNORED_FOLDERS]
        for name in names:
            path = os.path.join(parent, name)  # noqa: PTH118 - os.walk's, and cheaper
            if name.endswith(_BESIDE_DATABASES):
                continue
            if name.endswith(_DATABASES):
                yield path
                continue
            try:
                found = os.stat(path)  # noqa: PTH116
            except OSError:  # gone since, or a link to nothing
                continue
            yield f"{path} {found.st_size} {found.st_mtime_ns} {found.st_ino}"
