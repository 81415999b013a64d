"""Reading slots again: slowly those in service, and all of them on demand.

What is read may come from the system's page cache: then it is what Datasette reads as well.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import structlog

from headrace.errors import ProofError
from headrace.keys import ReaderPaths
from headrace.ltx import lock_page, page_checksum
from headrace.sums import Sums, sums_path
from serve.slot_files import check_slot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from serve.metrics import ReaderMetrics
    from serve.slots import SlotPool

log = structlog.get_logger()

SCRUB_PAUSE_S = 60.0  # between two rounds through all slots in service
SCRUB_STEP_BYTES = 1024 * 1024
SCRUB_BYTES_PER_S = 16 * 1024 * 1024  # under 1 % of a core


class Scrubber:
    """Reads what is in service again and again, one lineage at a time.

    Args:
        pool: Knows the slots.
        metrics: Counts differences.
        on_damage: Called when one is not what it was.
    """

    def __init__(
        self, pool: SlotPool, metrics: ReaderMetrics, on_damage: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._metrics = metrics
        self._on_damage = on_damage

    async def run(self) -> None:
        """Scrub until cancelled."""
        while True:
            await asyncio.sleep(SCRUB_PAUSE_S)
            for lineage in sorted({slot.parent.name for slot in self._pool.live}):
                try:
                    await self._scrub(lineage)
                except Exception:  # the reader serves on, whatever it is
                    log.exception("scrub failed unexpectedly", lineage=lineage)

    async def _scrub(self, lineage: str) -> None:
        """Read all pages of a lineage at the pace that is allowed, each in the slot of its moment.

        So it comes to its end however often another slot comes into service.
        """
        page = 0
        while (slot := self._find_slot(lineage)) is not None:
            try:
                pages = await asyncio.to_thread(_check_step, slot, page)
            except (ProofError, OSError) as exc:  # also where it is in service no more
                if slot in self._pool.live and self._pool.is_proven(slot):
                    self._report(slot, exc)
            else:
                if pages == 0:
                    break
                page += pages
            await asyncio.sleep(SCRUB_STEP_BYTES / SCRUB_BYTES_PER_S)

    def _find_slot(self, lineage: str) -> Path | None:
        """Give the newest slot in service, unless none is proven: then it is about to be."""
        slots = [slot for slot in self._pool.live if slot.parent.name == lineage]
        proven = filter(self._pool.is_proven, slots)
        return max(proven, key=lambda slot: int(slot.stem, 16), default=None)

    def _report(self, slot: Path, why: Exception) -> None:
        self._metrics.proof_failures.inc()
        log.error("slot damaged", lineage=slot.parent.name, slot=slot.name, reason=str(why))
        self._pool.distrust(slot.parent.name)
        self._on_damage()


def _check_step(slot: Path, after: int) -> int:
    """Compare the pages that come next with their shares; give how many there are.

    Raises:
        ProofError: One is not what its share says.
        OSError: They cannot be read.
    """
    sums = Sums.read(sums_path(slot))
    page_size = sums.page_size
    with slot.open("rb", buffering=0) as file:
        size_bytes = file.seek(0, os.SEEK_END)
        file.seek(after * page_size)
        body = memoryview(file.read(SCRUB_STEP_BYTES))
    if size_bytes != sums.pages * page_size:
        raise ProofError(f"find {size_bytes} bytes, not {sums.pages} pages of {page_size}")
    locked = lock_page(page_size)
    pages = len(body) // page_size
    for index in range(pages):
        number = after + index + 1
        page = body[index * page_size : (index + 1) * page_size]
        if number != locked and page_checksum(number, page) != sums.share(number):
            raise ProofError(f"page {number} is not what it was")
    return pages


def verify_slots(root: Path) -> Iterator[tuple[Path, str | None]]:
    """Read every slot below a reader's folder; give each with its fault, None if it has none.

    Slots that a running reader removes or rolls meanwhile are left out.
    """
    folder = ReaderPaths(root).slots
    for slot in sorted([*folder.glob("*/*.db"), *folder.glob("*/*.spare")]):
        try:
            check_slot(slot)
        except (ProofError, OSError) as exc:
            if slot.exists():
                yield slot, str(exc)
        else:
            yield slot, None
