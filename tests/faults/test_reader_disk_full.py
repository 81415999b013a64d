"""The fault: a reader's disk fills during a restore. Invariants I4 and I7 survive it."""

from __future__ import annotations

import os
from pathlib import Path

import aiohttp

from tests.integration.faults_kit import RESTORE_FAILURES, Bench
from tests.integration.reader_kit import Publisher, Visitor, eventually, spawned_reader

DISK_MB = 8
LEFT_BYTES = 1_000_000
LARGE = "UPDATE orders SET item = hex(randomblob(1500000))"  # 3 MB
IMPATIENT = """
import serve.follow, serve.switch
serve.follow.POLL_S = serve.switch.MAX_BACKOFF_S = 0.1
"""


async def test_disk_that_fills_during_a_restore_is_told_and_used_when_there_is_room(
    tmp_path: Path,
) -> None:
    """The generation in service stays, and the newest comes as soon as it fits."""
    data = tmp_path / "reader"
    data.mkdir()
    publisher = Publisher(tmp_path)
    # A small file system of its own for the reader, which goes with the mount namespace.
    mount = f"mount -t tmpfs -o size={DISK_MB}m,mode=0700 tmpfs {data}"
    namespace = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "-rm"]
    prefix = [*namespace, "sh", "-c", f'{mount} && exec "$@"', "sh"]
    async with (
        spawned_reader(tmp_path, prefix=prefix, prelude=IMPATIENT) as spawned,
        aiohttp.ClientSession() as session,
    ):
        client = Visitor(spawned.url, spawned.metrics_url, session)
        bench = Bench(client=client, publisher=publisher)
        await bench.publish()
        await client.wait_generation(1)
        disk = Path(f"/proc/{spawned.process.pid}/root") / data.relative_to("/")
        filler = disk / "filler"
        async with bench.served_on(RESTORE_FAILURES):
            free_bytes = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            filler.write_bytes(bytes(free_bytes - LEFT_BYTES))
            await bench.publish(bench.write(LARGE))

            error = await client.wait_error()

            assert (error["generation"], error["step"]) == (2, "restore")
            assert "cannot write a slot: [Errno 28] No space left on device" in error["message"]
            report = await bench.report()
            assert (report["generation"], report["newest_generation"]) == (1, 2)
            filler.unlink()
        # A part may be the spare that is prepared beside the slot in service: that one ends.
        await eventually(lambda: not list(disk.glob("slots/*/*.part*")))
