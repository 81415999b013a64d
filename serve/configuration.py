"""The user's Datasette configuration directory: watched, and copied for the workers.

They read a copy. So the workers of one set all have the same configuration, also those that are
forked long after, while somebody edits a plugin or has broken it.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOK_S = 2.0  # between two looks
SETTLE_S = 0.25  # a change is one when nothing has changed further for so long
NOTHING = ""

# Datasette serves files with these endings, and sees their changes by itself: so a copy of the
# directory links to them. Source: Datasette 0.65.5, Datasette.__init__, config_dir mode.
_DATABASES = (".db", ".sqlite", ".sqlite3")
_BESIDE_DATABASES = ("-wal", "-shm", "-journal")
_IGNORED_FOLDERS = frozenset({"__pycache__", ".git"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What Datasette is configured with.

    Attributes:
        folder: A copy of the user's directory that nobody changes; None without one.
        fingerprint: Another one, other pages.
        base_url: Datasette's setting: the path that all of it lies below.
        live: Databases that the user put into the folder. They can change at any time.
    """

    folder: Path | None = None
    fingerprint: str = NOTHING
    base_url: str = "/"
    live: frozenset[str] = frozenset()


class ConfigurationWatch:
    """Looks at the directory every two seconds.

    Args:
        folder: The directory; None if there is none.
        copies: A folder for copies; what is in it is removed.

    Attributes:
        fingerprint: Stands for names, sizes and times of its files.
    """

    def __init__(self, folder: Path | None, copies: Path) -> None:
        self.fingerprint = read_fingerprint(folder)
        self._folder = folder
        self._copies = copies
        self._numbers = itertools.count(1)
        shutil.rmtree(copies, ignore_errors=True)

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

    def copy(self) -> Configuration:
        """Copy the directory as it is now.

        Raises:
            ConfigError: A file of it cannot be read.
        """
        if self._folder is None:
            return Configuration()
        fingerprint = self.fingerprint  # first: what changes while it is copied, changes this
        target = self._copies / str(next(self._numbers))
        try:
            target.mkdir(parents=True)
            _copy_files(self._folder, target)
        except OSError as exc:
            raise ConfigError(f"cannot read the configuration directory: {exc}") from exc
        return Configuration(
            folder=target,
            fingerprint=fingerprint,
            base_url=_read_base_url(target),
            live=frozenset(path.stem for path in target.iterdir() if path.suffix in _DATABASES),
        )

    async def forget(self, configuration: Configuration) -> None:
        """Remove a copy that nobody reads any more."""
        if configuration.folder is not None:
            await asyncio.to_thread(shutil.rmtree, configuration.folder, ignore_errors=True)


def read_fingerprint(folder: Path | None) -> str:
    """Give what changes when a file of a directory does; reads no file."""
    if folder is None:
        return NOTHING
    lines = sorted(_describe_files(folder))
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def _describe_files(folder: Path) -> Iterator[str]:
    for path in _walk(folder):
        if path.endswith(_DATABASES):
            yield path
            continue
        try:
            found = os.stat(path)  # noqa: PTH116 - cheaper
        except OSError:  # gone since, or a link to nothing
            continue
        yield f"{path} {found.st_size} {found.st_mtime_ns} {found.st_ino}"


def _copy_files(folder: Path, target: Path) -> None:
    for path in map(Path, _walk(folder)):
        copy = target / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if copy.name.endswith(_DATABASES):
            copy.symlink_to(path.resolve())
        elif path.exists():  # else it is gone since, or a link to nothing
            shutil.copy2(path, copy)


def _walk(folder: Path) -> Iterator[str]:
    """Give the paths of all files that make the configuration."""
    seen: set[str] = set()  # a link may lead to a folder above it
    for parent, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if name not in _IGNORED_FOLDERS]
        for name in names:
            if not name.endswith(_BESIDE_DATABASES):
                yield os.path.join(parent, name)  # noqa: PTH118 - os.walk's, and cheaper


def _read_base_url(folder: Path) -> str:
    try:
        settings: Any = json.loads((folder / "settings.json").read_text())
        return str(settings.get("base_url", "/"))
    except (OSError, ValueError, AttributeError):  # Datasette says what is wrong with it
        return "/"
