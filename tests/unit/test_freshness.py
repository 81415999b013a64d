"""How long ago what is served was last known to be the newest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from headrace.generation import State
from serve.clock import Clock
from serve.freshness import REMEMBERED, Freshness

if TYPE_CHECKING:
    from pathlib import Path


class Time:
    """A time that only moves when it is told to, and what is known at it."""

    def __init__(self, path: Path | None = None) -> None:
        self.now = 0.0
        self.freshness = Freshness(Clock(lambda: (self.now, self.now, self.now)), path)

    def confirm(self, at_s: float, number: int) -> None:
        """Hear at a time that a generation is the newest."""
        self.now = at_s
        self.freshness.confirm(number, self.freshness.clock.now_s())

    def staleness_s(self, at_s: float, number: int, age_s: float = 9e9) -> float:
        """Give the staleness of a generation, which was published long ago."""
        self.now = at_s
        published_at = datetime.now(UTC) - timedelta(seconds=min(age_s, 1e9))
        return self.freshness.staleness_s(State(number=number, created_at=published_at))


def test_staleness_is_that_of_the_generation_in_service() -> None:
    """News of a generation that is not in service yet makes the old one no fresher."""
    time = Time()
    time.confirm(1, 5)
    time.confirm(4, 5)
    time.confirm(5, 6)
    time.confirm(9, 7)

    assert time.staleness_s(10, 5) == 6
    assert time.staleness_s(10, 6) == 5
    assert time.staleness_s(12, 7) == 3


def test_staleness_of_a_generation_that_was_passed_over_is_that_of_the_one_before() -> None:
    """A generation that was never the newest known was not behind when the one before it was."""
    time = Time()
    time.confirm(2, 5)
    time.confirm(9, 8)

    assert time.staleness_s(10, 7) == 8
    assert time.staleness_s(10, 8) == 1


def test_staleness_without_any_news_is_the_generations_age() -> None:
    """When it was published it was the newest."""
    assert Time().staleness_s(10, 5, age_s=100) == pytest.approx(100, abs=5)
    assert Time().freshness.staleness_s(State()) == 0


def test_staleness_far_behind_is_never_understated() -> None:
    """However many generations are published before one of them is served, memory is bounded."""
    time = Time()
    for number in range(3 * REMEMBERED):
        time.confirm(number, number)

    assert time.staleness_s(3 * REMEMBERED, 0) == 3 * REMEMBERED
    assert time.staleness_s(3 * REMEMBERED, 2 * REMEMBERED) >= REMEMBERED
    assert time.staleness_s(3 * REMEMBERED, 3 * REMEMBERED - 1) == 1


def test_news_is_kept_for_a_restart(tmp_path: Path) -> None:
    """A reader that was down is as stale as it was, and as long as it was down."""
    before = Time(tmp_path / "known.json")
    before.confirm(1, 5)
    before.now = 101
    before.freshness._write()  # noqa: SLF001 - as it does now and then

    after = Time(tmp_path / "known.json")

    assert after.staleness_s(0, 5) == pytest.approx(100, abs=5)
    (tmp_path / "known.json").write_text("{half")
    assert Time(tmp_path / "known.json").staleness_s(0, 5, age_s=7) == pytest.approx(7, abs=5)
