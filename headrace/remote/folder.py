"""A folder and the folders in it: which files there are, and which of them may be new.

The kernel says when a file was closed by who wrote it (``IN_CLOSE_WRITE``) or got its name
(``IN_MOVED_TO``): then it is finished. Source: inotify(7).
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import asyncinotify
from asyncinotify import Mask

from headrace.errors import HeadraceError

if TYPE_CHECKING:
    from collections.abc import Iterator

_WATCHED = (
    Mask.CLOSE_WRITE
    | Mask.MOVED_TO
    | Mask.MOVED_FROM
    | Mask.DELETE
    | Mask.CREATE
    | Mask.ONLYDIR
    | Mask.DELETE_SELF
    | Mask.MOVE_SELF
)
_FINISHED = Mask.CLOSE_WRITE | Mask.MOVED_TO
_GONE = Mask.MOVED_FROM | Mask.DELETE
_ENDED = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.UNMOUNT

# What programs write before a file has its name, and what SQLite has beside a database.
_TEMPORARY = re.compile(
    r"[.~#].*|.*(~|#|\.(part|partial|tmp|temp|crdownload|download|swp|lock)|-(wal|shm|journal))",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What may have changed.

    Attributes:
        name: Of a file in the folder, ``people.csv`` or ``sales/orders.csv``; None: anything.
        is_gone: Whether it was there, and went.
    """

    name: str | None
    is_gone: bool = False


ANYTHING = Change(name=None)


def is_temporary(name: str) -> bool:
    """Say whether a file or folder of that name is nobody's business."""
    return _TEMPORARY.fullmatch(name) is not None


class Folder:
    """Watches a folder while it is used as a context.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._inotify = asyncinotify.Inotify()

    def __enter__(self) -> Self:
        """Begin."""
        self._inotify.__enter__()
        return self

    def __exit__(self, *_raised: object) -> None:
        """End."""
        self._inotify.close()

    def list_files(self) -> set[str]:
        """Watch all folders, then list the files that are there: so none is missed in between.

        Raises:
            HeadraceError: The folder cannot be read.
        """
        try:
            self._watch(self._root)
            found = set()
            for entry in os.scandir(self._root):
                if is_temporary(entry.name) or entry.is_symlink():
                    continue
                if entry.is_dir():
                    found |= set(self._list_subfolder(Path(entry.path)))
                elif entry.is_file():
                    found.add(entry.name)
        except OSError as exc:
            # Source: inotify(7): ENOSPC is not about the disk.
            hint = "raise fs.inotify.max_user_watches" if exc.errno == errno.ENOSPC else None
            raise HeadraceError(f"cannot watch {self._root}: {exc.strerror}", hint=hint) from exc
        return found

    def find(self, name: str) -> os.stat_result | None:
        """Look at a file; None if it is not there, or no file. Links are not followed."""
        try:
            found = os.lstat(self._root / name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found if stat.S_ISREG(found.st_mode) else None

    async def next_change(self) -> Change | None:
        """Wait for something to happen; None if it is nobody's business.

        Raises:
            HeadraceError: The folder itself is gone.
        """
        event = await self._inotify.get()
        if Mask.Q_OVERFLOW in event.mask or event.watch is None:
            return ANYTHING
        folder = event.watch.path
        if event.mask & _ENDED:
            if folder == self._root:
                raise HeadraceError(f"the folder {self._root} is gone")
            return ANYTHING
        if event.name is None or is_temporary(event.name.name):
            return None
        if Mask.ISDIR in event.mask:
            return ANYTHING if folder == self._root else None
        name = str((folder / event.name.name).relative_to(self._root))
        if event.mask & _FINISHED:
            return Change(name=name)
        return Change(name=name, is_gone=True) if event.mask & _GONE else None

    def _watch(self, path: Path) -> None:
        watch = self._inotify.add_watch(path, _WATCHED)
        watch.path = path  # a folder that got another name has its watch from before

    def _list_subfolder(self, path: Path) -> Iterator[str]:
        try:
            self._watch(path)
            for entry in os.scandir(path):
                if entry.is_file(follow_symlinks=False) and not is_temporary(entry.name):
                    yield f"{path.name}/{entry.name}"
        except (FileNotFoundError, NotADirectoryError):  # it went in between: its end is told
            return
