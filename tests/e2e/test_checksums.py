"""Invariant I4: the checksum that is published is that of what Litestream restores."""

from __future__ import annotations

import asyncio
import random
import subprocess
from typing import TYPE_CHECKING

from headrace.generation import State, format_txid
from headrace.keys import PrimaryPaths, lineage_key
from headrace.litestream_binary import find_litestream
from headrace.log import GenerationLog
from headrace.store import Store
from headrace.sums import sum_file
from tests.e2e.conftest import System

if TYPE_CHECKING:
    from pathlib import Path


def read_newest(system: System) -> State:
    """Read the newest generation from the log."""
    return asyncio.run(GenerationLog(Store(str(system.data / "store"))).read_newest())


def check_checksums(system: System, folder: Path) -> None:
    """Restore every database with Litestream, and compare it with its published cut."""
    state = read_newest(system)
    assert state.databases
    for name, cut in state.databases.items():
        output = folder / f"{name}-{state.number}.db"
        url = Store(str(system.data / "store")).litestream_url(lineage_key(name, cut.lineage))
        command = [str(find_litestream()), "restore", "-txid", format_txid(cut.txid)]
        subprocess.run([*command, "-o", str(output), url], check=True, capture_output=True)
        sums = sum_file(output, cut.page_size)
        assert (sums.pages, sums.value) == (cut.pages, cut.checksum), name


def test_published_checksum_is_that_of_the_restored_database(tmp_path: Path) -> None:
    """After inserts, replacements, deletions, a restart and a lost side file, it is still right."""
    noise = random.Random(4)
    system = System(tmp_path / "data", "--workers", "1").start()
    try:
        for number in range(12):
            rows = b"".join(
                b"%d,%s\n" % (n, noise.randbytes(noise.randrange(200)).hex().encode())
                for n in range(noise.randrange(1, 400))
            )
            mode = noise.choice(["replace", "append"])
            system.upload(b"n,text\n" + rows, "noise.csv", mode=mode, table=f"t{number % 3}")
            if number % 4 == 3:
                system.client.delete(f"/ingest/databases/noise/t{number % 3}", headers=system.auth)
        system.upload(b"n\n1\n", "other.csv")
        check_checksums(system, tmp_path)

        system.stop()
        state = read_newest(system)
        paths = PrimaryPaths(system.data / "primary")
        paths.sums("noise", state.databases["noise"].lineage).unlink()
        system.start()
        system.upload(b"n,text\n1,x\n", "noise.csv", mode="append", table="t0")
        system.upload(b"n\n2\n", "other.csv", mode="append")
        check_checksums(system, tmp_path)
    finally:
        system.stop()
        system.client.close()


def test_upload_right_after_the_first_ships_its_change_alone(tmp_path: Path) -> None:
    """A new database is live before Litestream has seen it, and is not shipped a second time."""
    noise = random.Random(5)
    system = System(tmp_path / "data", "--workers", "1").start()
    try:
        rows = b"".join(b"%s\n" % noise.randbytes(500).hex().encode() for _ in range(3000))
        for number in range(3):  # the folder is new only for the first of them
            system.upload(b"text\n" + rows, "noise.csv", table=f"t{number}")
            system.upload(b"text\nx\n", "noise.csv", mode="append", table=f"t{number}")
            system.client.delete("/ingest/databases/noise", headers=system.auth)
        system.upload(b"text\n" + rows, "noise.csv")
        system.upload(b"text\nx\n", "noise.csv", mode="append")
        check_checksums(system, tmp_path)
        sizes = [
            file.stat().st_size
            for file in (system.data / "store" / "dbs" / "noise").rglob("ltx/0/*.ltx")
        ]
        assert len(sizes) == 12  # the second of each lineage is one page
        assert sum(size > 1_000_000 for size in sizes) == 4
    finally:
        system.stop()
        system.client.close()
