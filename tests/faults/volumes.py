"""Volumes of a system: small file systems of their own, which can be filled, and emptied."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from headrace.leash import leashed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE_MB = 64
_BALLAST = "ballast"
_CHUNK = b"\0" * 64 * 1024


class Volumes:
    """Volumes in a mount namespace, kept by a process that sleeps.

    Attributes:
        enter: What a command begins with to run where the volumes are.
    """

    def __init__(self, root: Path, holder: int, *, is_root: bool) -> None:
        self.root = root
        self._seen = f"/proc/{holder}/root"
        user = [] if is_root else [f"--user=/proc/{holder}/ns/user", "--preserve-credentials"]
        self.enter = ["nsenter", *user, f"--mount=/proc/{holder}/ns/mnt"]

    def path(self, name: str) -> Path:
        """Give where the system has a volume."""
        return self.root / name

    def fill(self, name: str) -> None:
        """Leave no room on a volume."""
        descriptor = os.open(f"{self._outside(name)}/{_BALLAST}", os.O_WRONLY | os.O_CREAT)
        try:
            while True:
                os.write(descriptor, _CHUNK)
        except OSError as exc:
            if exc.errno != errno.ENOSPC:
                raise
        finally:
            os.close(descriptor)

    def free(self, name: str) -> None:
        """Give the room back."""
        os.unlink(f"{self._outside(name)}/{_BALLAST}")  # noqa: PTH108 - it is no Path

    def empty(self, name: str) -> None:
        """Lose all that is on a volume."""
        for entry in os.scandir(self._outside(name)):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)  # noqa: PTH108 - it is no Path

    def _outside(self, name: str) -> str:
        """Give the path by which this process has a volume."""
        return f"{self._seen}{self.root / name}"


@contextmanager
def volumes(root: Path, *names: str) -> Iterator[Volumes]:
    """Have volumes while the block runs; whoever uses them ends first."""
    mounts = []
    for name in names:
        (root / name).mkdir(parents=True)
        mounts.append(f"mount -t tmpfs -o size={SIZE_MB}m,mode=0700 tmpfs {root / name}")
    is_root = os.getuid() == 0
    script = " && ".join([*mounts, "echo mounted", "exec sleep infinity"])
    namespace = ["unshare", "--mount"] if is_root else ["unshare", "-rm"]
    with subprocess.Popen(
        leashed(*namespace, "sh", "-c", script), stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "mounted\n"
            yield Volumes(root, holder.pid, is_root=is_root)
        finally:
            holder.kill()
