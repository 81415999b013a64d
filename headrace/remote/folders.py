"""Where a person's files are kept. Source: the XDG Base Directory Specification, version 0.8."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.errors import HeadraceError

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "headrace"
WAIT_S = 10.0  # for another command that writes


def state_folder() -> Path:
    """Give the folder of what outlives a command: it can be made anew.

    Raises:
        HeadraceError: There is no home.
    """
    return _folder("XDG_STATE_HOME", ".local/state")


@contextmanager
def state_database(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database of what outlives a command while the block runs; make it and its folder.

    Raises:
        HeadraceError: It cannot be read or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with closing(sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)) as database:
            yield database
    except (OSError, sqlite3.Error) as exc:
        raise HeadraceError(
            f"cannot use {path}: {getattr(exc, 'strerror', None) or exc}",
            hint="it is what a command that was cut off goes on by: set XDG_STATE_HOME to a folder "
            "that can be written",
        ) from exc


def config_folder() -> Path:
    """Give the folder of what a person has set.

    Raises:
        HeadraceError: There is no home.
    """
    return _folder("XDG_CONFIG_HOME", ".config")


def _folder(variable: str, default: str) -> Path:
    named = Path(os.environ.get(variable, ""))
    if named.is_absolute():  # "All paths must be absolute": others are to be ignored
        return named / NAME
    try:
        return Path.home() / default / NAME
    except RuntimeError as exc:
        raise HeadraceError("find no home folder", hint=f"set HOME, or {variable}") from exc
