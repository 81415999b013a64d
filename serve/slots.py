"""Slots: one local file for one database at one TXID, and which of them may be written.

A slot goes by its name. ``<txid>.db`` is a proven copy; it is never written. ``<txid>.spare`` is
an idle copy, that the next generation is made of: it is renamed to a ``.part`` before its first
page is written, and the name is fsynced; so a copy that a crash tore has no name by which it could
be served. Beside each lie its sums.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import secrets
import shutil
from typing import TYPE_CHECKING

import structlog

from headrace.errors import ProofError
from headrace.generation import format_txid
from headrace.sums import Sums, sum_file, sums_path

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from headrace.generation import Cut
    from headrace.keys import ReaderPaths

log = structlog.get_logger()

_FICLONE = 0x40049409  # ioctl_ficlone(2): share the blocks instead of copying them
_COPY_BYTES = 64 * 1024 * 1024
_NO_COPY_RANGE = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


class SlotPool:
    """The slots of a reader.

    Args:
        paths: The reader's folders.
    """

    def __init__(self, paths: ReaderPaths) -> None:
        self._paths = paths
        self._proven: set[Path] = set()  # read whole, or made, by this process
        self._live: frozenset[Path] = frozenset()
        self._reserved: frozenset[Path] = frozenset()
        self._locks: dict[str, asyncio.Lock] = {}
        self._unpruned: set[str] | None = None  # lineages; None: all

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

        An idle one may have been copied from the one that is damaged.
        """
        folder = self._paths.slots / lineage
        self._proven -= {slot for slot in list(self._proven) if slot.parent == folder}

    def reserve(self, slots: Iterable[Path]) -> None:
        """Keep slots from being written that workers are about to serve."""
        self._reserved = frozenset(slots)

    def keep(self, part: Path, slot: Path) -> None:
        """Make a finished copy a slot; it replaces one of the same name.

        Raises:
            OSError: It cannot be renamed.
        """
        sums_path(part).rename(sums_path(slot))
        part.rename(slot)
        fsync_folder(slot.parent)
        self._proven.add(slot)

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
        clone_slot(max(bases), part)
        return Sums.read(sums_path(part))

    def take_idle(self, lineage: str, upto: int, part: Path) -> Sums | None:
        """Make a part of the newest idle slot up to a TXID.

        Raises:
            OSError: It cannot be renamed.
        """
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
        self._unpruned |= {slot.parent.name for slot in before ^ self._live}
        return set(self._unpruned)

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
        live = {slot for slot in self._live if slot.parent == folder}
        if not live:
            shutil.rmtree(folder, ignore_errors=True)
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
    slots = [*folder.glob("*.spare"), *folder.glob("*.db")]
    return sorted(slots, key=lambda slot: int(slot.stem, 16), reverse=True)


def part_path(slot: Path) -> Path:
    """Give a name for a copy that is being written."""
    return slot.with_name(f"{slot.name}.{secrets.token_hex(4)}.part")


def rename_slot(slot: Path, to: Path) -> None:
    """Give a slot another name, durably, before it is written."""
    slot.rename(to)
    sums_path(slot).rename(sums_path(to))
    fsync_folder(to.parent)


def remove_slot(slot: Path) -> None:
    """Remove a slot or a part, with all that lies beside it."""
    slot.unlink(missing_ok=True)
    for path in slot.parent.glob(f"{slot.name}*"):
        path.unlink(missing_ok=True)


def clone_slot(slot: Path, to: Path) -> None:
    """Copy a slot, which is only read, and its sums.

    Raises:
        OSError: The disk is full, say.
    """
    for source, copy in ((slot, to), (sums_path(slot), sums_path(to))):
        with source.open("rb") as reading, copy.open("xb") as writing:
            _copy(reading.fileno(), writing.fileno())


def _copy(source: int, copy: int) -> None:
    try:
        fcntl.ioctl(copy, _FICLONE, source)
    except OSError:
        pass  # this file system cannot
    else:
        return
    left = os.fstat(source).st_size
    while left:
        try:
            copied = os.copy_file_range(source, copy, min(left, _COPY_BYTES))
        except OSError as exc:
            if exc.errno not in _NO_COPY_RANGE:
                raise
            copied = os.sendfile(copy, source, None, min(left, _COPY_BYTES))
        if copied == 0:
            raise OSError(errno.EIO, "the slot became shorter while it was copied")
        left -= copied


def check_slot(slot: Path) -> Sums:
    """Read a slot whole and compare it to its sums.

    Raises:
        ProofError: They differ, or there are none.
        OSError: It cannot be read.
    """
    recorded = Sums.read(sums_path(slot))
    found = sum_file(slot, recorded.page_size)
    if (found.pages, found.value) != (recorded.pages, recorded.value):
        raise ProofError(
            f"find checksum {found.value:016x} over {found.pages} pages, "
            f"not {recorded.value:016x} over {recorded.pages}"
        )
    return recorded


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
