"""A volume: the lock that keeps a second process off it, and its identity."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from headrace.durable import replace_file
from headrace.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LOCK_WAIT_S = 10.0  # a killed process's locks go with it, but not always at once


@asynccontextmanager
async def volume_lock(path: Path) -> AsyncIterator[None]:
    """Hold a file lock while the block runs; the kernel frees it when the process dies.

    Raises:
        ConfigError: Another process holds it, still after ``LOCK_WAIT_S``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = asyncio.get_running_loop().time() + LOCK_WAIT_S
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as exc:
                if asyncio.get_running_loop().time() > deadline:
                    raise ConfigError(
                        f"cannot use {path.parent}: another process holds it",
                        hint="stop that one, or choose another --data",
                    ) from exc
                await asyncio.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Say whether a process holds a lock."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared, and for a moment: whoever wants it for himself tries again.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def find_or_make_identity(path: Path) -> str:
    """Read who a volume is, 16 hex digits; a new one is somebody new."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        made = secrets.token_hex(8)
        replace_file(path, made.encode())
        return made
