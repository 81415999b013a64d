"""Keep files from this process, and what is outside of it, by Landlock.

It needs no namespaces, so it holds in containers that allow none: TCP is refused, and so are
signals to other processes, and their memory and environment.

Source: landlock(7), linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # system calls, the same on all machines
_VERSION, _PATH_BENEATH = 1, 1
_READ_FILE = 1 << 2
# What each later version can take away besides: bind and connect of TCP; abstract sockets, signals.
_ALL_TCP, _TCP_VERSION = 0b11, 4
_OTHERS, _OTHERS_VERSION = 0b11, 6


def restrict(libc: ctypes.CDLL, *, hidden: Iterable[Path], readable: Iterable[Path]) -> str | None:
    """Restrict this process, and all that it starts, for good; needs ``no_new_privs``.

    Args:
        libc: The C library.
        hidden: Files and folders that cannot be read from now on.
        readable: Exceptions to that.

    Returns:
        Why the platform refused it, or None.
    """
    version = libc.syscall(_CREATE_RULESET, None, 0, _VERSION)
    if version < 1:
        return os.strerror(ctypes.get_errno())
    handled = struct.pack("=Q", _READ_FILE)
    if version >= _TCP_VERSION:
        handled += struct.pack("=Q", _ALL_TCP)
    if version >= _OTHERS_VERSION:
        handled += struct.pack("=Q", _OTHERS)
    rules = libc.syscall(_CREATE_RULESET, handled, len(handled), 0)
    if rules < 0:
        return os.strerror(ctypes.get_errno())
    try:
        for path in (*_visible(Path("/"), {path.resolve() for path in hidden}), *readable):
            _allow(libc, rules, path)
        if libc.syscall(_RESTRICT_SELF, rules, 0) != 0:
            return os.strerror(ctypes.get_errno())
    finally:
        os.close(rules)
    return None


def _visible(folder: Path, hidden: set[Path]) -> Iterator[Path]:
    """Give what there is beside the hidden, as few folders as possible."""
    if not any(folder in path.parents for path in hidden):
        yield folder
        return
    try:
        entries = [entry for entry in folder.iterdir() if not entry.is_symlink()]
    except OSError:  # what this process may not look into, it does not read
        return
    for entry in entries:
        if entry not in hidden:
            yield from _visible(entry, hidden)


def _allow(libc: ctypes.CDLL, rules: int, path: Path) -> None:
    """Let files be read there."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # it is gone meanwhile
        return
    try:
        libc.syscall(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", _READ_FILE, place), 0)
    finally:
        os.close(place)
