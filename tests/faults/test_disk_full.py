"""The fault: the primary's disk is full. Invariants I1 and I8 survive it."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.e2e.conftest import System

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

MIB = 1024**2
DISK_MIB = 64
RESERVE_MIB = 8


def _noise(size_mib: int) -> bytes:
    """Give a CSV of one column that cannot be compressed."""
    noise = random.Random(size_mib)
    return b"a\n" + b"".join(
        b"%s\n" % noise.randbytes(63).hex().encode() for _line in range(size_mib * MIB // 127)
    )


def _check_refused(system: System, response: httpx.Response) -> dict[str, Any]:
    """Check that an upload was refused with words that say what there is, and left nothing."""
    assert response.status_code == 507, response.text
    problem: dict[str, Any] = response.json()
    assert problem["code"] == "disk-full"
    assert system.client.get(problem["instance"]).json()["state"] == "failed"
    primary = system.data / "primary"
    inside = Path(f"/proc/{system.process.pid}/root") / primary.relative_to("/")
    assert [*(inside / "spool").iterdir()] == []
    return problem


def test_upload_to_a_full_disk_is_refused_and_all_else_goes_on(tmp_path: Path) -> None:
    """Uploads stop at the reserve, in every step; they leave nothing, and the next one works."""
    primary = tmp_path / "data" / "primary"
    primary.mkdir(parents=True)
    # A small file system of its own for the primary, which goes with the mount namespace.
    mount = f"mount -t tmpfs -o size={DISK_MIB}m,mode=0700 tmpfs {primary}"
    namespace = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "-rm"]
    system = System(
        tmp_path / "data",
        *("--disk-reserve", f"{RESERVE_MIB}MiB"),
        prefix=[*namespace, "sh", "-c", f'{mount} && exec "$@"', "sh"],
    )
    system.start()
    try:
        kept = system.upload(b"a\n1\n", "kept.csv")

        # Its length is announced, so it is not sent at all.
        problem = _check_refused(system, system.post(_noise(60), "announced.csv"))
        assert problem["reserve_bytes"] == RESERVE_MIB * MIB
        assert problem["free_bytes"] < DISK_MIB * MIB
        assert f"{RESERVE_MIB}.0 MiB of which are kept for replication" in problem["detail"]

        def pieces(body: bytes) -> Iterator[bytes]:
            yield from (body[at : at + MIB] for at in range(0, len(body), MIB))

        # It is not, so the spool comes to the reserve.
        spooled = system.post(pieces(_noise(60)), "spooled.csv")
        assert "no upload goes on" in _check_refused(system, spooled)["detail"]

        # It fits into the spool, but not what becomes of it.
        _check_refused(system, system.post(_noise(40), "converted.csv"))

        # It fits twice, but its rows have to be replicated as well.
        _check_refused(system, system.post(_noise(18), "kept.csv", mode="append"))

        after = system.upload(b"a\n2\n", "after.csv")
        system.wait_until_live(after)
        assert system.rows(kept["url"])[0]["a"] == 1
        assert system.rows(after["url"])[0]["a"] == 2
        assert system.upload(b"a\n3\n", "kept.csv", mode="append")["tables"][0]["added"] == 1
    finally:
        system.stop()
        system.client.close()
