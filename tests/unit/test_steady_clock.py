"""Clocks that never jump."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from headrace import clock

if TYPE_CHECKING:
    import pytest

AT = datetime(2026, 11, 22, 1, 33, 39, tzinfo=UTC)


def test_steady_clock_goes_on_from_where_it_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts seconds since then, and never looks at the date of the machine."""
    now_s = 100.0
    monkeypatch.setattr(clock, "boot_s", lambda: now_s)
    steady = clock.SteadyClock(AT)
    now_s += 90
    assert steady.now() == AT + timedelta(seconds=90)


def test_seconds_since_the_boot_only_grow() -> None:
    """Two looks are in order."""
    assert clock.boot_s() <= clock.boot_s()
