"""Watching an upload: events through a reader, and waiting for a receipt to change."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.conftest import wait_for
from tests.e2e.conftest import running
from tests.e2e.gate_kit import Gate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import System


class Stream(threading.Thread):
    """A stream of events in a thread of its own.

    Attributes:
        lines: What came.
        status: Of the answer.
        error: Why it did not end in order; None if it did.
    """

    def __init__(self, system: System, receipt_id: str, last: str = "") -> None:
        super().__init__()
        self.lines: list[str] = []
        self.status: int | None = None
        self.error: httpx.TransportError | None = None
        self._url = f"{system.url}/ingest/receipts/{receipt_id}/events"
        self._headers = {"Last-Event-ID": last, "Accept-Encoding": "gzip, br"}
        self.start()

    def run(self) -> None:
        """Read to the end."""
        try:
            with httpx.stream("GET", self._url, headers=self._headers, timeout=60) as answer:
                self.status = answer.status_code
                for line in answer.iter_lines():
                    self.lines.append(line)
        except httpx.TransportError as exc:
            self.error = exc

    def events(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Give id, name and data of each event so far."""
        blocks = [block.split("\n") for block in "\n".join(self.lines).split("\n\n")]
        fields = [dict(line.split(": ", 1) for line in block if ": " in line) for block in blocks]
        return [(e["id"], e["event"], json.loads(e["data"])) for e in fields if "data" in e]

    def to_end(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Wait until it has ended in order; give its events."""
        self.join(60)
        assert self.error is None
        assert not self.is_alive()
        return self.events()


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Gate:
    """Give a format whose conversion waits."""
    return Gate(tmp_path_factory.mktemp("gate"))


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, gate: Gate) -> Iterator[System]:
    """Give one system that knows the format."""
    data = tmp_path_factory.mktemp("system") / "data"
    with running(data, "--workers", "1", HEADRACE_CONVERTERS=gate.converters) as system:
        yield system


@pytest.fixture(scope="module")
def slow(system: System) -> str:
    """Give the receipt of an upload whose conversion waits."""
    answer = system.post(b"x", "a.slow", headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    receipt_id: str = answer.json()["id"]
    return receipt_id


@pytest.fixture(scope="module", autouse=True)
def watched(system: System, slow: str) -> Stream:
    """Give the events of that upload, which are read while other tests run."""
    return Stream(system, slow)


def receipt_of(system: System, receipt_id: str, query: str = "") -> dict[str, Any]:
    """Read a receipt."""
    answer = system.client.get(f"/ingest/receipts/{receipt_id}{query}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_events_tell_every_state_and_each_region_until_the_end(system: System) -> None:
    """Who watches sees the states in their order, rows, the region as it goes live, and the end."""
    body = b"n\n" + b"".join(b"%d\n" % n for n in range(3_000_000))  # a second or two
    answer = system.post(body, "seen.csv", headers={"Prefer": "respond-async"})
    events = Stream(system, answer.json()["id"]).to_end()
    states = [data["state"] for _, name, data in events if name == "state"]
    assert states == ["received", "converting", "merging", "replicating", "published"]
    assert [data["region"] for _, name, data in events if name == "live"] == ["a"]
    rows = [data["rows"] for _, name, data in events if name == "progress"]
    assert any(0 < each < 3_000_000 for each in rows)
    assert events[-1][:2] == ("6.0", "end")
    ids = [tuple(map(int, each[0].split("."))) for each in events]
    assert ids == sorted(set(ids))
    published = next(data for _, _, data in events if data.get("state") == "published")
    assert published["receipt"]["url"] == "/seen/seen"


def test_events_that_were_seen_are_not_told_again(system: System) -> None:
    """Who comes back gets what came after; who saw the end is told not to come back."""
    receipt = system.upload(b"n\n1\n", "twice.csv", wait_for="regions")
    whole = Stream(system, receipt["id"]).to_end()
    rest = Stream(system, receipt["id"], last=whole[2][0]).to_end()
    assert rest == whole[3:]
    ended = Stream(system, receipt["id"], last="6.0")
    ended.join(30)
    assert (ended.status, ended.lines) == (204, [])


def test_events_of_a_failed_upload_end_with_its_problem(system: System) -> None:
    """A refused file says why, and ends the stream."""
    answer = system.post(b"n,m\n1\n", "broken.csv", headers={"Prefer": "respond-async"})
    events = Stream(system, answer.json()["id"]).to_end()
    assert [name for _, name, _ in events[-2:]] == ["state", "end"]
    assert events[-2][2]["receipt"]["error"]["code"] == "invalid-file"


def test_receipt_that_nobody_knows_has_no_events(system: System) -> None:
    """A wrong id is not found, at once."""
    for path in ("/events", "?wait=30"):
        answer = system.client.get(f"/ingest/receipts/{'0' * 32}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def test_stream_shows_that_it_lives_and_ends_when_its_reader_stops(
    system: System, slow: str, watched: Stream
) -> None:
    """Comments come while nothing happens; a stop of a reader does not wait for whoever watches."""
    waited = threading.Event()

    def wait() -> None:
        receipt_of(system, slow, "?wait=50&for=published")
        waited.set()

    threading.Thread(target=wait).start()
    wait_for(lambda: any(line.startswith(": ping") for line in watched.lines))
    began_s = time.monotonic()
    (pid,) = system.find("serve")
    os.kill(pid, signal.SIGTERM)
    watched.to_end()
    assert waited.wait(20)
    assert time.monotonic() - began_s < 10
    wait_for(system.is_ready, timeout_s=30)


def test_events_go_on_over_a_restart_of_the_primary(system: System, slow: str, gate: Gate) -> None:
    """A stream whose primary is killed ends in order; asked for again it goes on, to the end."""
    stream = Stream(system, slow)
    wait_for(lambda: has_begun(stream))
    with system.primary_away():
        seen = stream.to_end()
        states = [data["state"] for _, name, data in seen if name == "state"]
        assert states == ["received", "converting"]
        away = Stream(system, slow, last=seen[-1][0])  # a 503 would end a browser's EventSource
        assert (away.to_end(), away.status, away.lines[0]) == ([], 200, "retry: 2000")
    gate.open()
    rest = wait_for(lambda: Stream(system, slow, last=seen[-1][0]).to_end(), timeout_s=60)
    states = [data["state"] for _, name, data in rest if name == "state"]
    assert states == ["merging", "replicating", "published"]
    assert rest[-1][1] == "end"


def test_wait_ends_when_what_was_waited_for_is_there(system: System) -> None:
    """Without events, `?wait=` answers at the next state, when it is published, or live."""
    answer = system.post(b"n\n1\n", "polled.csv", headers={"Prefer": "respond-async"})
    receipt = answer.json()
    states = [receipt["state"]]
    while states[-1] != "published":
        states.append(receipt_of(system, receipt["id"], "?wait=30")["state"])
        assert states[-1] != states[-2]
    live = receipt_of(system, receipt["id"], "?wait=30&for=regions")
    assert live["live"].keys() == {"a"}
    for wrong in ("?wait=61", "?wait=x", "?wait=1&for=ever"):
        assert system.client.get(f"/ingest/receipts/{receipt['id']}{wrong}").status_code == 400


def has_begun(stream: Stream) -> bool:
    """Whether a conversion was seen."""
    return any(data.get("state") == "converting" for _, _, data in stream.events())
