"""The fault: the primary's disk is full. Invariants I1 and I8 survive it."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

from tests.e2e.conftest import System

if TYPE_CHECKING:
    from pathlib import Path

DISK_MB = 40


def test_upload_to_a_full_disk_is_refused_and_all_else_goes_on(tmp_path: Path) -> None:
    """An upload that does not fit is refused with 507, leaves nothing, and the next one works."""
    primary = tmp_path / "data" / "primary"
    primary.mkdir(parents=True)
    # A small file system of its own for the primary, which goes with the mount namespace.
    mount = f"mount -t tmpfs -o size={DISK_MB}m,mode=0700 tmpfs {primary}"
    namespace = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "-rm"]
    system = System(
        tmp_path / "data", prefix=[*namespace, "sh", "-c", f'{mount} && exec "$@"', "sh"]
    )
    system.start()
    try:
        kept = system.upload(b"a\n1\n", "kept.csv")
        noise = random.Random(1)
        lines = b"".join(b"%s\n" % noise.randbytes(50).hex().encode() for _line in range(350_000))
        for size_mb, body in ((35, lines), (50, lines * 2)):  # in the converter; in the spool
            response = system.post(b"a\n" + body, f"big{size_mb}.csv")
            assert response.status_code == 507, response.text
            assert response.json()["code"] == "disk-full"
            receipt = system.client.get(response.json()["instance"]).json()
            assert receipt["state"] == "failed"
        after = system.upload(b"a\n2\n", "after.csv")
        system.wait_until_live(after)
        assert system.rows(kept["url"])[0]["a"] == 1
        assert system.rows(after["url"])[0]["a"] == 2
    finally:
        system.stop()
        system.client.close()
