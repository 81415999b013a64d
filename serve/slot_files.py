"""What is done to the file of a slot: copied, renamed, removed, read whole."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from time import perf_counter
from typing import TYPE_CHECKING

import structlog

from headrace.durable import fsync_folder
from headrace.errors import ProofError
from headrace.sums import Sums, sum_file, sums_path

if TYPE_CHECKING:
    from pathlib import Path

log = structlog.get_logger()

_FICLONE = 0x40049409  # ioctl_ficlone(2): share the blocks instead of copying them
_COPY_BYTES = 64 * 1024 * 1024
_NO_COPY_RANGE = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


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
    begun_s = perf_counter()
    for source, copy in ((slot, to), (sums_path(slot), sums_path(to))):
        with source.open("rb") as reading, copy.open("xb") as writing:
            _copy(reading.fileno(), writing.fileno())
    log.info("slot copied", slot=slot.name, took_s=round(perf_counter() - begun_s, 4))


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
    recorded.load()
    found = sum_file(slot, recorded.page_size)
    if (found.pages, found.value) != (recorded.pages, recorded.value):
        raise ProofError(
            f"find checksum {found.value:016x} over {found.pages} pages, "
            f"not {recorded.value:016x} over {recorded.pages}"
        )
    return recorded
