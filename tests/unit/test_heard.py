"""How long it takes until an upload that was heard of is shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.exposition import choose_encoder

from headrace.generation import State, format_time
from serve.clock import Clock
from serve.heard import Heard
from serve.metrics import ReaderMetrics

NAP_S = 3600.0


class Reader:
    """A reader that hears of generations, and shows them.

    Attributes:
        metrics: What it shows of that.
        nap_s: How long it has slept.
    """

    def __init__(self) -> None:
        self.metrics = ReaderMetrics("a")
        self.nap_s = 0.0
        self._clock = Clock(lambda: (self.nap_s, self.nap_s, self.nap_s))
        self.heard = Heard(self.metrics, self._clock)

    def sleep(self) -> None:
        """Sleep for an hour."""
        self.nap_s += NAP_S
        self._clock.now_s()

    def hear(self, number: int, *, seconds_ago: float) -> None:
        """Hear of an upload that arrived some time ago."""
        at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
        cause = {"kind": "ingest", "receipt": f"r{number}", "arrived_at": format_time(at)}
        self.heard.note(State(number=number, cause=cause))

    def sample(self, name: str) -> float | None:
        """Read one of its metrics."""
        return self.metrics.registry.get_sample_value(f"headrace_reader_{name}")


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    """Give one that has shown a generation, and has been there for an hour."""
    reader = Reader()
    monkeypatch.setattr(reader.heard, "_awake_since", datetime.now(UTC) - timedelta(hours=1))
    reader.heard.note_served(1, {}, first=True)
    return reader


def test_each_upload_counts_once_from_its_arrival(reader: Reader) -> None:
    """All that a switch skips counts as well, however often it was heard of."""
    reader.hear(2, seconds_ago=20)
    reader.hear(2, seconds_ago=20)
    reader.hear(3, seconds_ago=4)
    reader.hear(4, seconds_ago=1)
    assert 20 <= (reader.sample("lag_seconds") or 0) < 25

    reader.heard.note_served(3, {}, first=False)

    assert reader.sample("live_seconds_count") == 2
    assert 24 <= (reader.sample("live_seconds_sum") or 0) < 29
    assert 1 <= (reader.sample("lag_seconds") or 0) < 6


def test_upload_that_is_slow_is_named_by_its_bucket(reader: Reader) -> None:
    """The exemplar is the receipt."""
    reader.hear(2, seconds_ago=20)
    reader.heard.note_served(2, {}, first=False)

    (family,) = reader.metrics.live_seconds.collect()
    found = {s.labels["le"]: s.exemplar.labels for s in family.samples if s.exemplar}
    assert found == {"30.0": {"receipt": "r2"}}


def test_time_that_a_reader_slept_counts_for_nothing(reader: Reader) -> None:
    """Nobody read there: what had come meanwhile counts from the waking."""
    reader.sleep()
    reader.hear(2, seconds_ago=1800)
    reader.heard.note_served(2, {}, first=False)

    assert reader.sample("live_seconds_count") == 1
    assert (reader.sample("live_seconds_sum") or 0) < 60


def test_what_was_there_before_a_reader_is_not_waited_for(reader: Reader) -> None:
    """The first generation that it shows says nothing of how fast it is."""
    reader.hear(2, seconds_ago=20)
    reader.heard.note_served(2, {}, first=True)

    assert reader.sample("live_seconds_count") == 0
    assert reader.sample("lag_seconds") == 0


def test_generation_of_no_upload_does_not_count(reader: Reader) -> None:
    """Deletions and rollbacks are no uploads; nor is a checkpoint, which has no cause."""
    reader.heard.note(State(number=2, cause={"kind": "delete"}))
    reader.heard.note(State(number=3))
    reader.heard.note_served(3, {}, first=False)

    assert reader.sample("live_seconds_count") == 0


@pytest.mark.parametrize(
    "said",
    [
        {"arrived_at": "yesterday"},
        {"arrived_at": "2026-11-27T21:00:00"},
        {"arrived_at": "0001-01-01T00:00:00+14:00"},
        {"receipt": "r" * 200},
        {"receipt": "r\n\ud800"},
        {"traceparent": "\ud800" * 50},
        {"traceparent": "0" * 200},
    ],
)
def test_cause_that_is_nonsense_is_in_nobodys_way(reader: Reader, said: dict[str, str]) -> None:
    """A generation is served, and metrics can be read, whatever its entry says it is for."""
    cause = {"kind": "ingest", "receipt": "r2", "arrived_at": format_time(datetime.now(UTC))}
    reader.heard.note(State(number=2, cause={**cause, **said}))
    reader.heard.note_served(2, {}, first=False)

    assert reader.sample("live_seconds_count") == 0
    encode, _content_type = choose_encoder("application/openmetrics-text")
    assert encode(reader.metrics.registry)
