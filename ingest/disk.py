"""Room on the volume, of which a reserve is kept for Litestream: uploads give way to it.

What is committed has to be replicated, and Litestream needs room on the volume for that. So no step
of an upload takes the last of it: each is refused before it begins, and ended while it runs.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from headrace.errors import Refusal
from headrace.headroom import disk_used

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path
    from typing import Any

    from ingest.metrics import IngestMetrics

LOOK_EVERY_S = 0.1  # while something is written
_MIB = 1024**2

Done = TypeVar("Done")


class Disk:
    """The file system that the volume is on.

    Args:
        root: The volume.
        reserve_bytes: What uploads leave free.
        metrics: Shows both sizes.
    """

    def __init__(self, root: Path, reserve_bytes: int, metrics: IngestMetrics) -> None:
        self._root = root
        self._closed = False
        self._reserve_bytes = reserve_bytes
        metrics.disk_free_bytes.set_function(self._free_bytes)
        metrics.disk_reserve_bytes.set(reserve_bytes)
        metrics.headroom.watch("disk", lambda: disk_used(root, reserve_bytes))

    def close(self) -> None:
        """Let nothing more be written: what is being written gives way."""
        self._closed = True

    def require(self, size_bytes: int = 0) -> None:
        """Refuse a step that would need the reserve.

        Args:
            size_bytes: What it will write at least.

        Raises:
            Refusal: ``disk-full``; ``extra`` has ``free_bytes`` and ``reserve_bytes``. ``stopping``
                where it is closed, here as below.
        """
        if not self._has_room(size_bytes):
            raise self._full(size_bytes)

    @contextmanager
    def writing(self, give_way: Callable[[], object], *, size_bytes: int = 0) -> Iterator[None]:
        """Watch the reserve while the block writes.

        Args:
            give_way: Makes the block raise; called in another thread, until the block ends, since
                SQLite can only be interrupted within a statement.
            size_bytes: What the block will write at least.

        Raises:
            Refusal: ``disk-full``: there was not room for that, or the block gave way.
        """
        self.require(size_bytes)
        done, short = threading.Event(), threading.Event()

        def watch() -> None:
            while not done.wait(LOOK_EVERY_S):
                if short.is_set() or not self._has_room(0):
                    short.set()
                    give_way()

        watching = threading.Thread(target=watch, name="disk", daemon=True)
        watching.start()
        try:
            yield
        except BaseException as exc:
            if short.is_set():
                raise self._full(0) from exc
            raise
        finally:
            done.set()
            watching.join()

    async def run(self, work: Coroutine[Any, Any, Done]) -> Done:
        """Do something that writes, and cancel it when it comes to the reserve.

        Raises:
            Refusal: ``disk-full``.
        """
        loop = asyncio.get_running_loop()
        task = loop.create_task(work)

        def cancel() -> None:
            if not task.cancelling():
                task.cancel()

        try:
            with self.writing(lambda: loop.call_soon_threadsafe(cancel)):
                return await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _has_room(self, size_bytes: int) -> bool:
        return not self._closed and self._free_bytes() - size_bytes >= self._reserve_bytes

    def _free_bytes(self) -> int:
        found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize

    def _full(self, size_bytes: int) -> Refusal:
        if self._closed:
            return Refusal("stopping", "the primary is stopping: send it again")
        free_bytes = self._free_bytes()
        needed = f"the upload needs {_mib(size_bytes)} more" if size_bytes else "no upload goes on"
        return Refusal(
            "disk-full",
            f"{_mib(free_bytes)} of the server's disk are free, {_mib(self._reserve_bytes)} of "
            f"which are kept for replication: {needed}",
            hint="delete databases or tables, or give the primary a larger volume; then send it "
            "again",
            extra={"free_bytes": free_bytes, "reserve_bytes": self._reserve_bytes},
        )


def refusal_of_full(exc: BaseException) -> Refusal | None:
    """Give the refusal that a failure means, if it is that of a disk without any room."""
    of_file = isinstance(exc, OSError) and exc.errno in {errno.ENOSPC, errno.EDQUOT}
    of_database = isinstance(exc, sqlite3.Error) and exc.sqlite_errorname == "SQLITE_FULL"
    if of_file or of_database:
        return Refusal("disk-full", "the upload does not fit on the server's disk")
    return None


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:,.1f} MiB"
