"""Verifying a primary's live databases."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

from ingest import verify
from tests.e2e.conftest import System
from tests.e2e.test_checksums import read_newest

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_verify_finds_a_flipped_byte_in_a_live_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A live file that is right is found right, running and stopped; one flipped byte is found."""
    system = System(tmp_path / "data", "--workers", "1").start()
    try:
        for number in range(5):
            rows = b"".join(b"%d,%d\n" % (number, n) for n in range(3000))
            system.upload(b"a,b\n" + rows, "live.csv", mode="append")
        lineage = read_newest(system).databases["live"].lineage
        path = system.data / "primary" / "dbs" / "live" / lineage
        assert _run_verify(system.data / "primary") == (0, f"dbs/live/{lineage}: ok\n")
    finally:
        system.stop()
        system.client.close()
    assert verify.verify_database(path) is None
    with sqlite3.connect(path) as db:  # what is in the WAL would hide the file's own page
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    body = bytearray(path.read_bytes())
    body[-100] ^= 1
    path.write_bytes(body)
    monkeypatch.setattr(verify, "PAUSE_S", 0)
    assert "checksum" in (verify.verify_database(path) or "")
    code, output = _run_verify(system.data / "primary")
    assert code == 1
    assert "the checksum" in output


def _run_verify(folder: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "headrace", "verify", "--data", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout
