"""Many uploads at once, and what the primary holds of them."""

from __future__ import annotations

import asyncio
import re
import socket
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from tests.conftest import wait_for
from tests.e2e.primary_kit import TOKEN, Primary, primaries

if TYPE_CHECKING:
    from collections.abc import Iterator

BODIES = 100
SENT_BYTES = 1_900_000  # of each
OPEN_BYTES = 400_000  # of each, that need not be written yet
HELD_BYTES = 100_000_000  # more than at rest, by all of them: before they had one amount, 230 MB
UPLOADS = 900  # at once: fewer than the 1,024 files that a process may have open
PLACES = 50
FEW_FILES = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
from headrace.__main__ import run; run()
"""
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


async def _send_many(url: str) -> list[tuple[int, str]]:
    """Send small files, each over a connection of its own; give the answers and their receipts."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    headers = {"Authorization": f"Bearer {TOKEN}", "Prefer": "respond-async"}
    async with aiohttp.ClientSession(url, connector=connector, headers=headers) as session:

        async def send(number: int) -> tuple[int, str]:
            params = {"filename": "a.csv", "mode": "append"}
            body = b"n\n%d\n" % number
            async with session.post("/ingest", params=params, data=body) as answer:
                document = await answer.json(content_type=None)
                return answer.status, document["id" if answer.status == 202 else "code"]

        return await asyncio.gather(*map(send, range(UPLOADS)))


def test_uploads_that_all_come_at_once_are_accepted_and_published_or_refused(
    tmp_path: Path,
) -> None:
    """No client is cut off, or told anything but 202, or 429 for which nothing is kept."""
    primary = Primary(tmp_path, "primary", "--queue-uploads", str(PLACES))
    primary.program = ("-c", FEW_FILES)  # as a shell has it, before it is raised
    with primaries(primary.start()):
        primary.wait_until_up()
        answers = asyncio.run(_send_many(primary.url))
        assert {status for status, _ in answers} == {202, 429}, Counter(answers)
        assert {code for status, code in answers if status == 429} == {"too-many-requests"}
        accepted = [receipt for status, receipt in answers if status == 202]
        assert len(accepted) >= PLACES
        ends = list(map(primary.wait_until_published, accepted))
        before = {each["tables"][0]["unchanged"] for each in ends}  # rows, as each found them
        assert before == set(range(len(accepted)))
