"""The lock that keeps a second process off a volume."""

from __future__ import annotations

import asyncio
import fcntl
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

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
