"""How much of its limits a node uses: what it runs out of next.

Source: proc(5), ``meminfo``; cgroups(7), version 2: ``memory.max``, ``memory.current``.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import Gauge

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

_CGROUPS = Path("/sys/fs/cgroup")


class Headroom:
    """The limits of a node, on its registry; those of files and memory are there by themselves."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._used = Gauge(
            "headrace_limit_used_ratio",
            "How much of a limit is used, from 0 to 1.",
            ["limit"],
            registry=registry,
        )
        if Path("/proc/meminfo").exists():
            self.watch("files", _files_used)
            self.watch("memory", _memory_used)

    def watch(self, limit: str, used: Callable[[], float]) -> None:
        """Show how much of a limit is used, as ``used`` says it when it is asked for."""
        self._used.labels(limit).set_function(used)


def disk_used(path: Path, reserve_bytes: int = 0) -> float:
    """Say how much of a file system is used, without what is to be left free."""
    found = os.statvfs(path)
    usable = found.f_blocks * found.f_frsize - reserve_bytes
    free = found.f_bavail * found.f_frsize - reserve_bytes
    return 1 - free / usable if usable > 0 else 1.0


def _files_used() -> float:
    """Say how many of the files that this process may open are open."""
    limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return len(os.listdir("/proc/self/fd")) / limit  # noqa: PTH208 - names alone, without paths


def _memory_used() -> float:
    """Say how much of the machine's memory is used, or of the container's if that is more."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    kibibytes = {line[0].rstrip(":"): int(line[1]) for line in lines}
    of_machine = 1 - kibibytes["MemAvailable"] / kibibytes["MemTotal"]
    try:
        group = Path("/proc/self/cgroup").read_text().partition("0::/")[2].strip()
        folder = _CGROUPS / group
        limit_bytes = int((folder / "memory.max").read_text())
        used_bytes = int((folder / "memory.current").read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # there is no limit: it says "max"
        return of_machine
    used_bytes -= int(stat["inactive_file"])  # what is let go of before anything is refused
    return max(of_machine, used_bytes / limit_bytes)
