"""Many uploads at once, and what the primary holds of them."""

from __future__ import annotations

import re
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import wait_for
from tests.e2e.primary_kit import TOKEN, Primary, primaries

if TYPE_CHECKING:
    from collections.abc import Iterator

BODIES = 100
SENT_BYTES = 1_900_000  # of each
OPEN_BYTES = 400_000  # of each, that need not be written yet
HELD_BYTES = 100_000_000  # more than at rest, by all of them: before they had one amount, 230 MB
HEAD = """POST /ingest?filename=a.csv&database=d HTTP/1.1\r
Host: a\r
Authorization: Bearer {token}\r
Content-Length: {length}\r
\r
"""


def _resident_bytes(pid: int) -> int:
    found = re.search(r"^VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def _sizes(folder: Path) -> Iterator[int]:
    return (file.stat().st_size for file in folder.iterdir())


def test_bodies_that_are_half_sent_hold_little_memory(tmp_path: Path) -> None:
    """However many clients send at once, what they have sent is on the disk."""
    primary = Primary(tmp_path, "primary").start()
    head = HEAD.format(token=TOKEN, length=SENT_BYTES + 1).encode()
    with primaries(primary), ExitStack() as clients:
        primary.wait_until_up()
        at_rest_bytes = _resident_bytes(primary.process.pid)
        for _ in range(BODIES):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", primary.port)))
            client.settimeout(60)
            client.sendall(head + b"x" * SENT_BYTES)
        least_bytes = BODIES * (SENT_BYTES - OPEN_BYTES)
        wait_for(lambda: sum(_sizes(primary.data / "spool")) >= least_bytes, timeout_s=60)
        assert _resident_bytes(primary.process.pid) - at_rest_bytes < HELD_BYTES
