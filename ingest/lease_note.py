"""What a volume has written down of its leases, by which a restart on it is told from a copy of it.

A restart has the lease at once, and goes on with the volume's files: the process before it has
ended, since the volume's lock is free, and nobody else has written. A copy of the volume looks the
same, but its original may still run, or may have acknowledged more since. Yet the original renews
its lease, and the copy's note does not know of that.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import structlog

from headrace.durable import replace_file

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.lease import Lease

log = structlog.get_logger()


class LeaseNote:
    """The newest lease that each of the last two processes on a volume has asked for.

    Args:
        path: Of the note.
        lock: The volume's lock, which is there. Its inode is the same after a restart, a reboot and
            a remount, and another one where files were copied.
    """

    def __init__(self, path: Path, lock: Path) -> None:
        self._path = path
        self._inode = lock.stat().st_ino

    def is_own(self, lease: Lease) -> bool:
        """Say whether the newest lease was this volume's, and all that was done with it is here.

        In doubt it is not: that costs waiting for the lease's end, and making all anew from the
        store.
        """
        inode, asked = self._read()
        given_back = lease.duration_s == 0  # nothing was done after that: a copy has all
        return lease.number <= asked.get(lease.process, 0) and (inode == self._inode or given_back)

    def write(self, lease: Lease) -> None:
        """Write down a lease before it is asked for; without it, the next start is in doubt."""
        inode, asked = self._read()
        before = {
            process: number
            for process, number in asked.items()
            if process != lease.process and inode == self._inode
        }
        # Of the process before as well: this one may get no lease.
        kept = dict(list(before.items())[-1:]) | {lease.process: lease.number}
        try:
            replace_file(self._path, json.dumps({"inode": self._inode, "leases": kept}).encode())
        except OSError as exc:  # a full disk does not end a primary
            log.warning("lease not written down", reason=str(exc))

    def _read(self) -> tuple[int, dict[str, int]]:
        try:
            found = json.loads(self._path.read_bytes())
            return found["inode"], found["leases"]
        except (OSError, ValueError, KeyError, TypeError):
            return 0, {}
