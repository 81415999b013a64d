"""Idle slots beside those in service, so that the next generation needs no copy and few files."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import structlog

from headrace.errors import HeadraceError, ProofError
from headrace.patience import Patience
from headrace.roll import Aim, Roller, finish
from headrace.sums import Sums, sums_path
from serve.slot_files import part_path, remove_slot

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from headrace.generation import Cut
    from serve.slots import SlotPool

log = structlog.get_logger()

COPY_AFTER_S = 3.0  # since a switch or a drain: what drains is a spare soon, without a copy
SPARE_FROM_BYTES = 1024 * 1024  # a smaller slot is copied faster than it is worth preparing for
FREE_FACTOR = 2  # a slot is copied only if this many of it would fit on the disk


async def prepare_spares(
    pool: SlotPool, roller: Roller, cuts: Mapping[str, tuple[str, Cut]]
) -> bool:
    """Have an idle slot beside each one in service that is worth it, at the same TXID.

    Nothing depends on it: where it fails, the next generation takes a copy instead.

    Args:
        pool: The slots.
        roller: Rolls those that drained.
        cuts: Name and cut of each lineage in service.

    Returns:
        Whether one was put off: it would take a copy, and an older slot may be free soon.
    """
    put_off = False
    for slot in sorted(pool.live):
        name, cut = cuts.get(slot.parent.name, ("", None))
        if cut is None or cut.pages * cut.page_size < SPARE_FROM_BYTES:
            continue
        try:
            async with pool.lock(cut.lineage):
                if slot in pool.live and slot == pool.path(cut):
                    put_off |= not await _prepare(pool, roller, name, cut)
        except (HeadraceError, OSError) as exc:
            log.info("no idle slot prepared", slot=slot.name, reason=str(exc))
        except Exception:  # the reader serves on, whatever it is
            log.exception("idle slot failed unexpectedly", slot=slot.name)
    return put_off


async def _prepare(pool: SlotPool, roller: Roller, name: str, cut: Cut) -> bool:
    """Roll the idle slot forward, or copy the one in service; False if a copy is put off.

    A generation that comes meanwhile has to wait for a copy to its end. So none is begun between
    a restore and a switch, or while workers drain, when there is no idle slot for a moment.
    """
    slot = pool.path(cut)
    spare = slot.with_suffix(".spare")
    if await asyncio.to_thread(spare.exists):
        return True
    part = part_path(slot)
    try:
        older = await asyncio.to_thread(pool.take_idle, cut.lineage, cut.txid, part)
        if older is not None:
            patience = Patience(0, asyncio.Event())
            aim = Aim(database=name, lineage=cut.lineage, txid=cut.txid, patience=patience)
            await roller.roll(part, older, aim)
            if cut.checksum not in {None, older.value}:
                raise ProofError(f"find checksum {older.value:016x} of the idle slot")
        elif not pool.is_calm(cut.lineage, COPY_AFTER_S):
            return False
        elif not await asyncio.to_thread(_copy_if_room, pool, slot, part):
            return True
        await asyncio.to_thread(pool.keep, part, spare)
        return True
    finally:
        remove_slot(part)
        pool.note_unpruned(cut.lineage)


def _copy_if_room(pool: SlotPool, slot: Path, part: Path) -> bool:
    """Copy a slot, unless the disk would be short of room."""
    if shutil.disk_usage(slot.parent).free < FREE_FACTOR * slot.stat().st_size:
        return False
    pool.copy(slot, part)
    finish(part, Sums.read(sums_path(part)))
    return True
