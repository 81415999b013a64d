"""Where the Unix sockets of a node are."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator


def socket_folder(root: Path) -> Path:
    """Give the private folder for the Unix sockets of the node whose data lies in ``root``.

    A socket's path holds at most 107 bytes (unix(7)), and data folders may lie deep: so sockets
    live in the system's temporary folder, in one of ours that nobody else can enter.

    Raises:
        ConfigError: The folder exists and belongs to somebody else.
    """
    name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"headrace-{os.getuid()}-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ConfigError(f"cannot use {folder}: it is not a private folder of this user")
    return folder


@contextmanager
def private_sockets(root: Path) -> Iterator[Path]:
    """Give that folder, empty, while the block runs; what a killed node left in it is removed.

    Raises:
        ConfigError: The folder exists and belongs to somebody else.
    """
    shutil.rmtree(socket_folder(root))
    folder = socket_folder(root)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
