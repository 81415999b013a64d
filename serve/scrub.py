"""Reading slots again: slowly those in service, and all of them on demand.

What is read may come from the system's page cache: then it is what Datasette reads as well.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from headrace.errors import ProofError
from headrace.keys import ReaderPaths
from headrace.ltx import lock_page, page_checksum
from headrace.sums import Sums, sums_path
from serve.slot_files import check_slot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import FileIO
    from pathlib import Path

    from serve.metrics import ReaderMetrics
    from serve.slots import SlotPool

log = structlog.get_logger()

SCRUB_PAUSE_S = 60.0  # between two rounds through all slots in service
SCRUB_STEP_BYTES = 1024 * 1024
SCRUB_BYTES_PER_S = 16 * 1024 * 1024  # under 1 % of a core


class Scrubber:
    """Reads the slots in service again and again, one at a time.

    Args:
        pool: Knows them.
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
            for slot in sorted(self._pool.live):
                try:
                    await self._scrub(slot)
                except (ProofError, OSError) as exc:
                    if slot in self._pool.live and self._pool.is_proven(slot):
                        self._report(slot, exc)
                except Exception:  # the reader serves on, whatever it is
                    log.exception("scrub failed unexpectedly", slot=slot.name)

    def _report(self, slot: Path, why: Exception) -> None:
        self._metrics.proof_failures.inc()
        log.error("slot damaged", lineage=slot.parent.name, slot=slot.name, reason=str(why))
        self._pool.distrust(slot.parent.name)
        self._on_damage()

    async def _scrub(self, slot: Path) -> None:
        """Read one slot at the pace that is allowed.

        Raises:
            ProofError: It is not what its sums say.
            OSError: It cannot be read.
        """
        sums = await asyncio.to_thread(Sums.read, sums_path(slot))
        value = page = 0
        with await asyncio.to_thread(slot.open, "rb", buffering=0) as file:
            while page < sums.pages:
                share, pages = await asyncio.to_thread(_sum_step, file, sums.page_size, page)
                if pages == 0:
                    break
                value, page = value ^ share, page + pages
                await asyncio.sleep(SCRUB_STEP_BYTES / SCRUB_BYTES_PER_S)
        if (page, value) != (sums.pages, sums.value):
            raise ProofError(f"find checksum {value:016x}, not {sums.value:016x}")


def _sum_step(file: FileIO, page_size: int, after: int) -> tuple[int, int]:
    """Give the checksum and the number of the pages that come next."""
    body = memoryview(file.read(SCRUB_STEP_BYTES))
    value = 0
    pages = len(body) // page_size
    locked = lock_page(page_size)
    for index in range(pages):
        number = after + index + 1
        if number != locked:
            at = index * page_size
            value ^= page_checksum(number, body[at : at + page_size])
    return value, pages


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
