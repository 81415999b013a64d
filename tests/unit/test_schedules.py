"""When schedules run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from headrace.errors import Refusal
from headrace.fetching import FetchRequest
from ingest.schedules import Schedule, after_run, new_schedule, next_time

NOW = datetime(2026, 3, 28, 12, 0, 30, tzinfo=UTC)
ASKED = FetchRequest(
    url="https://u:p@example.org/a.csv?key=secret", fields={"mode": "append", "database": "a"}
)


def test_time_is_that_of_the_zone() -> None:
    """Six in the morning is six in the morning there, in winter and in summer."""
    assert next_time("0 6 * * *", "UTC", NOW) == datetime(2026, 3, 29, 6, tzinfo=UTC)
    assert next_time("0 6 * * *", "Europe/Zurich", NOW) == datetime(2026, 3, 29, 4, tzinfo=UTC)
    winter = NOW - timedelta(days=2)
    assert next_time("0 6 * * *", "Europe/Zurich", winter) == datetime(2026, 3, 27, 5, tzinfo=UTC)


def test_time_that_a_clock_leaves_out_is_not_left_out() -> None:
    """What is due at 02:30 runs in the night in which 02:30 does not exist."""
    due = next_time("30 2 * * *", "Europe/Zurich", NOW)
    assert due == datetime(2026, 3, 29, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cron", "timezone"),
    [
        ("", "UTC"),
        ("* * * *", "UTC"),
        ("* * * * * *", "UTC"),
        ("61 * * * *", "UTC"),
        ("0 0 31 2 *", "UTC"),
        ("@daily", "UTC"),
        ("0 6 * * *", "Europe/Zuerich"),
        ("0 6 * * *", "../../etc/passwd"),
    ],
)
def test_expression_or_zone_that_is_none_is_refused(cron: str, timezone: str) -> None:
    """A schedule that could never run is not made."""
    with pytest.raises(Refusal) as refused:
        next_time(cron, timezone, NOW)
    assert refused.value.code == "invalid-option"


def test_schedule_that_fails_on_is_asked_less_often() -> None:
    """The pause doubles up to a day, and one good run ends it."""
    schedule = new_schedule(ASKED, "* * * * *", "UTC", NOW)
    waits = []
    for _ in range(15):
        error = {"detail": "no"}
        schedule = after_run(schedule, NOW, outcome="failed", receipt=None, error=error)
        waits.append(round((schedule.next_at - NOW).total_seconds() / 60))
    assert waits[:6] == [0, 2, 2, 4, 8, 16]
    assert waits[-1] == 24 * 60
    assert schedule.failures == 15
    good = after_run(schedule, NOW, outcome="published", receipt="r", error=None)
    assert (good.failures, good.last_error) == (0, None)
    assert good.next_at == NOW.replace(second=0) + timedelta(minutes=1)


def test_times_that_were_missed_count_once() -> None:
    """Who was away for a week runs a daily schedule once, and then at its next time."""
    schedule = new_schedule(ASKED, "0 6 * * *", "UTC", NOW)
    back = NOW + timedelta(days=7)
    assert schedule.next_at < back  # so it is due
    done = after_run(schedule, back, outcome="published", receipt="r", error=None)
    assert done.next_at == datetime(2026, 4, 5, 6, tzinfo=UTC)


def test_schedule_is_kept_whole_and_shown_without_secrets() -> None:
    """What is needed to fetch is in the journal; people see the URL without what may be secret."""
    schedule = new_schedule(ASKED, "0 6 * * *", "UTC", NOW)
    assert Schedule.decode(schedule.encode()) == schedule
    assert schedule.show()["url"] == "https://example.org/a.csv?…"
    assert "secret" not in str(schedule.show())
