"""What SQLite puts aside while it merges lies on the volume."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ingest.volume import sort_on_volume

if TYPE_CHECKING:
    import pytest


def open_files() -> set[str]:
    """List the files that this process has open."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(str(descriptor.readlink()))
    return found


def test_temporary_files_of_sqlite_are_on_the_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement that needs more room than memory gives it takes it from the volume's disk."""
    monkeypatch.setenv("SQLITE_TMPDIR", os.fspath(tmp_path))  # so that it is as before, afterwards
    folder = tmp_path / "it's staging"
    folder.mkdir()
    sort_on_volume(folder)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        try:
            db.execute("PRAGMA temp_store = FILE")
            db.execute("CREATE TEMP TABLE t (a)")
            db.execute("PRAGMA temp.cache_size = 1")
            db.execute("INSERT INTO t VALUES (zeroblob(1000000))")
            there = [path for path in open_files() if path.startswith(f"{folder}/")]
        finally:
            db.execute("PRAGMA temp_store_directory = ''")
    assert len(there) == 1
    assert list(folder.iterdir()) == []
