"""SIGTERM of the primary: what is under way is finished or parked, and everybody is answered."""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from headrace.lease import LeaseLog
from headrace.store import Store
from tests.conftest import wait_for
from tests.e2e.primary_kit import TOKEN, Primary, primaries
from tests.faults.processes import command_of, descendants, is_alive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from headrace.lease import Lease

# Waits, with a process of its own, until it may go on.
SLOW = """
import pathlib, sqlite3, subprocess, sys, time
gate = pathlib.Path(__file__).with_name("gate")
if not gate.exists():
    subprocess.run(["sleep", "3600"])
db = sqlite3.connect(sys.argv[2])
db.execute("CREATE TABLE slow (n INTEGER)")
db.execute("INSERT INTO slow VALUES (1)")
db.commit()
"""


class Tools:
    """A format whose conversion takes for ever, until the gate is open."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        self.gate = folder / "gate"
        program = folder / "slow.py"
        program.write_text(SLOW)
        command = {"command": f"{sys.executable} {program} {{input}} {{output}}", "match": "*.slow"}
        monkeypatch.setenv("HEADRACE_CONVERTERS", json.dumps({"slow": command}))


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tools:
    """Give the tools, which every primary of the test knows."""
    return Tools(tmp_path / "tools", monkeypatch)


class Sending(threading.Thread):
    """A request in a thread of its own; ``answer`` is there when it has ended."""

    def __init__(self, ask: Callable[[], httpx.Response]) -> None:
        super().__init__()
        self.ask = ask
        self.start()

    def run(self) -> None:
        """Ask."""
        self.response = self.ask()

    def answer(self) -> httpx.Response:
        """Wait for the answer."""
        self.join(60)
        return self.response


class Upload:
    """An upload whose body comes as it is told to."""

    def __init__(self, primary: Primary, filename: str, length: int) -> None:
        self._peer = socket.create_connection(("127.0.0.1", primary.port), timeout=60)
        self.send(
            f"POST /ingest?filename={filename}&mode=append HTTP/1.1\r\nHost: tests\r\n"
            f"Authorization: Bearer {TOKEN}\r\nContent-Length: {length}\r\n\r\n".encode()
        )

    def send(self, piece: bytes) -> None:
        """Send some more."""
        self._peer.sendall(piece)

    def answer(self) -> tuple[int, str, dict[str, Any]]:
        """Wait for the answer: status, head and document."""
        text = b""
        while chunk := self._peer.recv(65536):
            text += chunk
        self._peer.close()
        head, _, body = text.decode().partition("\r\n\r\n")
        return int(head.split()[1]), head, json.loads(body)


def _spooled(primary: Primary) -> int:
    return len(list((primary.data / "spool").iterdir()))


def _is_converting(primary: Primary) -> list[int]:
    return [pid for pid in descendants(primary.process.pid) if "sleep 3600" in command_of(pid)]


async def _newest_lease(store: str) -> Lease | None:
    return await LeaseLog(Store(store)).find_newest()


def _refuses(primary: Primary) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", primary.port)):
            return False
    except ConnectionRefusedError:
        return True


async def test_stop_finishes_or_parks_and_answers_everybody(
    tmp_path: Path, store: str, tools: Tools
) -> None:
    """Bodies may come to their end for a while; what is not finished in time is, once, later."""
    primary = Primary(tmp_path, "first", "--shutdown-timeout", "12", store=store)
    primary.start().wait_until_up()
    with primaries(primary), closing(httpx.Client(base_url=primary.url, timeout=60)) as kept:
        primary.upload(b"n\n-1\n", "quick.csv")
        waiting = Sending(lambda: primary.post(b"x", "parked.slow", prefer="wait=60"))
        finishing, cut = Upload(primary, "quick.csv", 6), Upload(primary, "cut.csv", 6)
        for each in (finishing, cut):
            each.send(b"n\n")
        kept.get("/-/healthz")
        wait_for(lambda: _spooled(primary) == 3 and _is_converting(primary))
        below = descendants(primary.process.pid)

        primary.process.send_signal(signal.SIGTERM)
        wait_for(lambda: _refuses(primary))
        refused = kept.post(
            "/ingest?filename=late.csv",
            content=b"n\n1\n",
            headers={"Authorization": f"Bearer {TOKEN}"},
        )
        finishing.send(b"1\n2\n")

        assert (refused.status_code, refused.json()["code"]) == (503, "stopping")
        assert (refused.headers["Retry-After"], refused.headers["Connection"]) == ("1", "close")
        assert finishing.answer()[0] == 201
        status, head, problem = cut.answer()
        assert (status, problem["code"]) == (503, "stopping")
        assert "Retry-After: " in head
        assert "nothing of it is kept" in problem["detail"]
        parked = waiting.answer()
        assert (parked.status_code, parked.json()["state"]) == (202, "converting")
        assert primary.process.wait(60) == 0
        wait_for(lambda: not any(map(is_alive, below)))
        assert (lease := await _newest_lease(primary.store))
        assert lease.duration_s == 0

        tools.gate.touch()
        primary.start().wait_until_up()
        receipt = primary.wait_until_published(parked.headers["Location"].rpartition("/")[2])
        assert receipt["tables"][0]["added"] == 1
        again = primary.upload(b"n\n3\n", "quick.csv", mode="append")
        assert again["tables"][0]["unchanged"] == 3
        assert primary.stop() == 0


def test_second_signal_parks_at_once_and_a_successor_finishes(
    tmp_path: Path, store: str, tools: Tools
) -> None:
    """Whoever stops it in a hurry loses nothing: another machine has all that it needs."""
    first = Primary(tmp_path, "first", "--shutdown-timeout", "3600", store=store)
    first.start().wait_until_up()
    second = Primary(tmp_path, "second", store=store)
    with primaries(first):
        waiting = Sending(lambda: first.post(b"x", "parked.slow", prefer="wait=60", key="once"))
        wait_for(lambda: _is_converting(first))
        first.process.send_signal(signal.SIGTERM)
        wait_for(lambda: _refuses(first))

        def again() -> bool:
            first.process.send_signal(signal.SIGTERM)
            return not waiting.is_alive()

        wait_for(again)
        assert first.process.wait(60) == 0
        assert waiting.answer().status_code == 202

        tools.gate.touch()
        with primaries(second.start().wait_until_up()):
            receipt = second.wait_until_published(waiting.answer().json()["id"])
            answer = second.post(b"x", "parked.slow", key="once")
            assert (answer.status_code, answer.json()["id"]) == (201, receipt["id"])
            assert answer.json()["generation"] == receipt["generation"]
            assert second.stop() == 0


def test_upload_that_is_merged_when_a_stop_comes_counts_once(tmp_path: Path) -> None:
    """Whether its merge gave way or was done, the next start goes on from there."""
    rows = 600_000
    lines = b"n\n" + b"".join(b"%d\n" % number for number in range(rows))
    primary = Primary(tmp_path, "first", "--shutdown-timeout", "1").start().wait_until_up()
    with primaries(primary):
        primary.upload(b"n\n-1\n", "log.csv")
        accepted = primary.post(lines, "log.csv", mode="append", prefer="respond-async").json()
        wait_for(lambda: primary.receipt(accepted["id"])["state"] not in {"received", "converting"})

        primary.process.send_signal(signal.SIGTERM)
        primary.process.wait(60)  # so little time may be too little: then it ended as if killed

        primary.start().wait_until_up()
        assert primary.wait_until_published(accepted["id"])["tables"][0]["added"] == rows
        last = primary.upload(b"n\n-2\n", "log.csv", mode="append")
        assert last["tables"][0]["unchanged"] == rows + 1
