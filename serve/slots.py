"""Slots: one local file for one database at one TXID, and which of them may be written.

A slot goes by its name. ``<txid>.db`` is a proven copy; it is never written. ``<txid>.spare`` is
an idle copy, that the next generation is made of: it is renamed to a ``.part`` before its first
page is written, and the name is fsynced; so a copy that a crash tore has no name by which it could
be served. Beside each lie its sums.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from headrace.durable import fsync_folder
from headrace.errors import ProofError
from headrace.generation import format_txid
from headrace.sums import Sums, sums_path
from serve.slot_files import check_slot, clone_slot, remove_slot, rename_slot

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from headrace.generation import Cut
    from headrace.keys import ReaderPaths

log = structlog.get_logger()

_TXID = re.compile("[0-9a-f]{16}")


class SlotPool:
    """The slots of a reader.

    Args:
        paths: The reader's folders.
    """

    def __init__(self, paths: ReaderPaths) -> None:
        self._paths = paths
        self._proven: set[Path] = set()  # read whole, or made, by this process
        self._doubted: dict[Path, bool] = {}  # parts that hold pages of a slot: of one in doubt?
        self._live: frozenset[Path] = frozenset()
        self._reserved: frozenset[Path] = frozenset()
        self._locks: dict[str, asyncio.Lock] = {}
        self._unpruned: set[str] | None = None  # lineages; None: all
        self._changed_s: dict[str, float] = {}  # of a lineage: when other slots came into use

    @property
    def live(self) -> frozenset[Path]:
        """The slots that workers serve."""
        return self._live

    def path(self, cut: Cut) -> Path:
        """Give the path of the slot of a cut."""
        return self._paths.slot(cut.lineage, format_txid(cut.txid))

    def lock(self, lineage: str) -> asyncio.Lock:
        """Give the lock that whoever writes slots of a lineage holds."""
        return self._locks.setdefault(lineage, asyncio.Lock())

    def is_proven(self, slot: Path) -> bool:
        """Whether a slot is known to be what it says."""
        return slot in self._proven

    def distrust(self, lineage: str) -> None:
        """Have every slot of a lineage read again before it is given out or copied.

        An idle one may have been copied from the one that is damaged, and so may a part.
        """
        folder = self._paths.slots / lineage
        self._proven -= {slot for slot in list(self._proven) if slot.parent == folder}
        for part in list(self._doubted):
            if part.parent == folder:
                self._doubted[part] = True

    def reserve(self, slots: Iterable[Path]) -> None:
        """Keep slots from being written that workers are about to serve."""
        self._reserved = frozenset(slots)
        self._note_change(self._reserved - self._live)

    def is_calm(self, lineage: str, for_s: float) -> bool:
        """Whether the same slots of a lineage have been in use for some time."""
        return monotonic() - self._changed_s.get(lineage, 0.0) >= for_s

    def keep(self, part: Path, slot: Path) -> None:
        """Make a finished copy a slot; it replaces one of the same name.

        It is proven, unless it holds pages of a slot that is in doubt.

        Raises:
            OSError: It cannot be renamed.
        """
        sums_path(part).rename(sums_path(slot))
        part.rename(slot)
        fsync_folder(slot.parent)
        self._proven.add(slot)
        if self._doubted.pop(part, False):
            self._proven.discard(slot)

    def take_base(self, lineage: str, upto: int, part: Path) -> Sums | None:
        """Make a part that can be rolled forward: of an idle slot, else of a copy of a live one.

        Args:
            lineage: The lineage.
            upto: The TXID that is wanted.
            part: Where to.

        Returns:
            Its sums; None if there is no slot to begin with.

        Raises:
            OSError: It cannot be written.
        """
        sums = self.take_idle(lineage, upto, part)
        if sums is not None:
            return sums
        live = (self._live | self._reserved) & self._proven
        bases = [s for s in live if s.parent == part.parent and int(s.stem, 16) <= upto]
        if not bases:
            return None
        self.copy(max(bases), part)
        return Sums.read(sums_path(part))

    def copy(self, slot: Path, part: Path) -> None:
        """Make a part of a copy of a slot.

        Raises:
            OSError: It cannot be written.
        """
        self._doubted[part] = False
        if slot not in self._proven:
            self._doubted[part] = True
        clone_slot(slot, part)

    def take_idle(self, lineage: str, upto: int, part: Path) -> Sums | None:
        """Make a part of the newest idle slot up to a TXID.

        Raises:
            OSError: It cannot be renamed.
        """
        self._doubted[part] = False
        for slot in _whole_slots(self._paths.slots / lineage):
            if slot in self._live or slot in self._reserved or int(slot.stem, 16) > upto:
                continue
            if slot in self._proven or self.prove_again(slot) is not None:
                self._proven.discard(slot)
                rename_slot(slot, part)
                return Sums.read(sums_path(part))
        return None

    def prove_again(self, slot: Path) -> Sums | None:
        """Read a slot that was found on disk, and trust it if it is what its sums say.

        One that is not is removed, unless workers serve it. Reads the whole file.
        """
        try:
            sums = check_slot(slot)
        except (ProofError, OSError) as exc:
            log.warning("slot thrown away", slot=slot.name, reason=str(exc))
            if slot not in self._live:
                remove_slot(slot)
            return None
        self._proven.add(slot)
        return sums

    def set_live(self, slots: Iterable[Path]) -> set[str]:
        """Learn which slots workers serve; give the lineages that may have others to prune."""
        before, self._live = self._live, frozenset(slots)
        self._reserved = frozenset()
        if self._unpruned is None:
            root = self._paths.slots
            self._unpruned = {each.name for each in root.iterdir()} if root.exists() else set()
        self._unpruned |= self._note_change(before ^ self._live)
        return set(self._unpruned)

    def _note_change(self, slots: Iterable[Path]) -> set[str]:
        """Note when slots came into use, or out of it; give their lineages."""
        lineages = {slot.parent.name for slot in slots}
        self._changed_s.update(dict.fromkeys(lineages, monotonic()))
        return lineages

    def note_unpruned(self, lineage: str) -> None:
        """Have a lineage pruned the next time."""
        if self._unpruned is not None:
            self._unpruned.add(lineage)

    def prune(self, lineage: str) -> None:
        """Remove all that nobody serves, but one idle slot; for who holds the lineage's lock.

        Raises:
            OSError: A file cannot be removed.
        """
        if self._unpruned is not None:
            self._unpruned.discard(lineage)
        folder = self._paths.slots / lineage
        for part in list(self._doubted):
            if part.parent == folder:  # nobody is writing it
                del self._doubted[part]
        live = {slot for slot in self._live if slot.parent == folder}
        if not live:
            shutil.rmtree(folder, ignore_errors=True)
            self._changed_s.pop(lineage, None)
            self.distrust(lineage)
            return
        newest = max(int(slot.stem, 16) for slot in live)
        idle = [slot for slot in _whole_slots(folder) if slot not in live]
        useful = [slot for slot in idle if int(slot.stem, 16) <= newest]
        kept = set(live)
        if useful:
            kept.add(self._make_spare(useful[0]))
        kept |= {sums_path(slot) for slot in kept}
        for path in folder.iterdir():
            if path not in kept:
                path.unlink(missing_ok=True)
                self._proven.discard(path)

    def _make_spare(self, slot: Path) -> Path:
        spare = slot.with_suffix(".spare")
        if slot != spare:
            rename_slot(slot, spare)
            if slot in self._proven:
                self._proven.remove(slot)
                self._proven.add(spare)
        return spare


def _whole_slots(folder: Path) -> list[Path]:
    """List the slots of a lineage that nobody writes, newest first; spares before others."""
    found = [*folder.glob("*.spare"), *folder.glob("*.db")]
    slots = [slot for slot in found if _TXID.fullmatch(slot.stem)]
    return sorted(slots, key=lambda slot: int(slot.stem, 16), reverse=True)
