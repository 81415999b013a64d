"""What is shown of uploads on their way: how far their conversion or merge is."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.receipt import READING, Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from datetime import datetime

    from headrace.receipt import Receipt

INTERVAL_S = 0.25  # between looks at a merge


class Showing:
    """The progress of every upload that is being converted or merged.

    Args:
        now: Gives the time, by a clock that never jumps.
    """

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._progress: dict[str, tuple[Progress, datetime]] = {}  # since when it is that

    def find(self, receipt_id: str) -> Progress | None:
        """Find how far an upload is."""
        shown = self._progress.get(receipt_id)
        return shown and shown[0]

    def changed_at(self, receipt_id: str) -> datetime | None:
        """Say since when an upload is as far as it is."""
        shown = self._progress.get(receipt_id)
        return shown and shown[1]

    def _show(self, receipt_id: str, progress: Progress) -> None:
        if self.find(receipt_id) != progress:
            self._progress[receipt_id] = progress, self._now()

    @asynccontextmanager
    async def conversion(
        self, receipt: Receipt
    ) -> AsyncIterator[tuple[Callable[[str], None], Callable[[int, int], None]]]:
        """Show a conversion while the block runs.

        Yields:
            What to call with a step that begins, and with the rows and bytes done in it.
        """
        step = "read"

        def begin(now: str) -> None:
            nonlocal step
            step = now

        def report(rows: int, size_bytes: int) -> None:
            of_bytes = receipt.bytes if step in READING else None
            done = size_bytes if of_bytes is None else min(size_bytes, of_bytes)
            self._show(receipt.id, Progress(step=step, rows=rows, bytes=done, of_bytes=of_bytes))

        report(0, 0)
        try:
            yield begin, report
        finally:
            del self._progress[receipt.id]

    @asynccontextmanager
    async def merge(self, receipt: Receipt, paths: Sequence[Path]) -> AsyncIterator[None]:
        """Show a merge while the block runs: the rows of the file, and the bytes written.

        Args:
            receipt: The upload's.
            paths: The files that it writes, and folders with such.
        """
        rows = sum(each.rows for each in receipt.tables)
        before = await asyncio.to_thread(_size_of, paths)

        async def show() -> None:
            most = 0
            while True:
                most = max(most, await asyncio.to_thread(_size_of, paths) - before)
                self._show(receipt.id, Progress(step="merge", rows=rows, bytes=most, of_bytes=None))
                await asyncio.sleep(INTERVAL_S)

        showing = asyncio.create_task(show())
        try:
            yield
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
            self._progress.pop(receipt.id, None)


def _size_of(paths: Sequence[Path]) -> int:
    """Give the bytes of some files, and of all that folders hold; what is not there has none."""
    found = [*paths]
    found += [
        Path(folder, name) for path in found for folder, _, names in os.walk(path) for name in names
    ]
    total = 0
    for each in found:
        with suppress(FileNotFoundError):  # files come and go meanwhile
            total += each.stat().st_size
    return total
