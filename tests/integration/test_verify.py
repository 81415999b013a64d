"""Verifying a primary's live databases."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from headrace.generation import State
from headrace.keys import PrimaryPaths
from headrace.ltx import page_checksum
from ingest import verify, watchdog
from ingest.checksums import Checksums
from ingest.merge import adopt
from ingest.metrics import IngestMetrics
from ingest.watchdog import verify_apart
from tests.e2e.conftest import System
from tests.e2e.test_checksums import read_newest
from tests.integration.merge_kit import Live
from tests.integration.merge_kit import write as make
from tests.integration.reader_kit import eventually
from tests.integration.slots_kit import (
    ROWS,
    LivePublisher,
    live_publisher,  # noqa: F401 - a fixture
)
from tests.unit.test_generation import make_cut

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from headrace.generation import Cut

ORDERS = "CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)"
# In a process of its own, as closing a file would drop the locks of the look.
WRITE = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
db.execute("PRAGMA wal_autocheckpoint = 0")
db.execute("UPDATE orders SET item = hex(randomblob(40))")
db.execute("PRAGMA wal_checkpoint")
"""


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
    monkeypatch.setattr(verify, "FOLLOWED_S", 0)
    assert "checksum" in (verify.verify_database(path) or "")
    code, output = _run_verify(system.data / "primary")
    assert code == 1
    assert "the checksum" in output


def test_verify_of_a_file_that_is_written_meanwhile_looks_at_one_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is committed and checkpointed during a look waits for nothing, and is no difference.

    All of the WAL is in the file, so the writer begins it anew.
    """
    live = Live(tmp_path)
    live.begin(ORDERS, *[ROWS] * 20)
    written = _write_meanwhile(monkeypatch, live.path)

    assert verify.verify_database(live.path) is None
    assert written() == 1


async def test_verify_of_a_wal_that_is_written_meanwhile_looks_at_one_moment(
    publisher: LivePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where some pages are only in the WAL; Litestream holds it."""
    await _write_proven(publisher, ORDERS, *[ROWS] * 20)
    await _write_proven(publisher, ROWS)
    path = publisher.path("sales")
    written = _write_meanwhile(monkeypatch, path)

    assert await asyncio.to_thread(verify.verify_database, path) is None
    assert written() == 1


async def test_verify_during_appends_finds_no_difference(publisher: LivePublisher) -> None:
    """A database that is appended to, synced and checkpointed all the while is found right."""
    await _write_proven(publisher, ORDERS, *[ROWS] * 200)
    appending = asyncio.create_task(_append(publisher))
    looks = [await verify_apart(publisher.path("sales")) for _ in range(3)]

    assert not appending.done()
    appending.cancel()
    await asyncio.wait([appending])
    assert looks == [[None]] * 3


async def _append(publisher: LivePublisher) -> None:
    while True:
        await _write_proven(publisher, *[ROWS] * 100)


async def _write_proven(publisher: LivePublisher, *statements: str) -> Cut:
    """Change sales, and note its checksum as the primary does."""
    cut = await publisher.write("sales", *statements)
    paths = PrimaryPaths(publisher.path("sales").parents[2])
    await Checksums(paths, publisher.store, IngestMetrics()).advance("sales", cut)
    return cut


def _write_meanwhile(monkeypatch: pytest.MonkeyPatch, path: Path) -> Callable[[], int]:
    """Have another process write in the middle of each look; give how often it did."""
    written = 0

    def checksum(number: int, page: bytes) -> int:
        nonlocal written
        if number == 50:
            subprocess.run([sys.executable, "-c", WRITE, str(path)], check=True)
            written += 1
        return page_checksum(number, page)

    monkeypatch.setattr(verify, "page_checksum", checksum)
    return lambda: written


def _run_verify(folder: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "headrace", "verify", "--data", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout


async def test_watchdog_looks_at_one_database_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is not what was replicated is counted and logged, and the next is looked at."""
    monkeypatch.setattr(watchdog, "PAUSE_S", 0)
    paths, metrics, lineage = PrimaryPaths(tmp_path), IngestMetrics(), "0123456789abcdef"
    for name in ("bad", "good"):
        adopt(make(tmp_path / f"{name}.db", ORDERS, ROWS), paths.database(name, lineage), None)
    paths.sums("bad", lineage).write_bytes(b"damaged")
    cuts = {name: replace(make_cut(1), lineage=lineage) for name in ("bad", "good")}
    primary = SimpleNamespace(state=State(databases=cuts))

    def looks(outcome: str) -> float:
        name = "headrace_ingest_verifications_total"
        return metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0

    with capture_logs() as logs:
        looking = asyncio.create_task(
            watchdog.Watchdog(paths, primary, metrics).run()  # type: ignore[arg-type]
        )
        await eventually(lambda: looks("differs") >= 1 and looks("equal") >= 1)
        looking.cancel()
        await asyncio.wait([looking])

    told = [each for each in logs if each["event"] == "database differs from its replica"]
    assert {(each["log_level"], each["database"]) for each in told} == {("error", "bad")}
