"""How much of its limits a node uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from headrace import headroom
from headrace.headroom import Headroom, disk_used

MIB = 1024**2


def used(limit: str) -> float | None:
    """Read how much of a limit of this process is used."""
    registry = CollectorRegistry()
    Headroom(registry)
    return registry.get_sample_value("headrace_limit_used_ratio", {"limit": limit})


def test_disk_is_full_at_its_reserve(tmp_path: Path) -> None:
    """What is to be left free counts as taken: at 1 the next upload is refused."""
    found = os.statvfs(tmp_path)
    free_bytes = found.f_bavail * found.f_frsize
    assert 0 < disk_used(tmp_path) < disk_used(tmp_path, free_bytes // 2) < 1
    assert disk_used(tmp_path, free_bytes) == pytest.approx(1, abs=0.01)
    assert disk_used(tmp_path, found.f_blocks * found.f_frsize) == 1


def test_files_that_are_open_count(tmp_path: Path) -> None:
    """Each takes its part of the limit of the process."""
    before = used("files")
    files = [(tmp_path / str(number)).open("w") for number in range(10)]
    after = used("files")
    for file in files:
        file.close()
    assert before is not None
    assert after is not None
    assert 0 < before < after < 1


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder of this process's control group, as a kernel shows it that bounds memory."""
    monkeypatch.setattr(headroom, "_CGROUPS", tmp_path)
    name = Path("/proc/self/cgroup").read_text().partition("0::/")[2].strip()
    folder = tmp_path / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.current").write_text(f"{950 * MIB}\n")
    (folder / "memory.stat").write_text(f"anon {900 * MIB}\ninactive_file {40 * MIB}\n")
    return folder


def test_memory_of_a_container_counts_without_what_can_be_let_go(group: Path) -> None:
    """Pages of files are given back before anything is refused."""
    (group / "memory.max").write_text(f"{1000 * MIB}\n")
    assert used("memory") == pytest.approx(0.91)


def test_memory_of_the_machine_counts_where_a_container_has_no_limit(group: Path) -> None:
    """A limit of "max" is none."""
    (group / "memory.max").write_text("max\n")
    in_container = used("memory")
    assert in_container is not None
    assert 0 < in_container < 1
