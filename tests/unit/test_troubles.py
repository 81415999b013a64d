"""What the status page says is wrong, and what to do."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headrace.generation import format_time
from serve import troubles
from serve.troubles import BEHIND_S, find_troubles

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
READER: dict[str, Any] = {
    "city": "Frankfurt",
    "generation": 7,
    "newest": 7,
    "stale_since": None,
    "log_error": None,
    "failure": None,
    "crash": None,
}
PRIMARY: dict[str, Any] = {
    "known": True,
    "away_since": None,
    "lease_held": True,
    "litestream_up": True,
    "stopping": False,
}
REGION: dict[str, Any] = {
    "city": "Sydney",
    "state": "fresh",
    "generation": 7,
    "behind_since": None,
    "readers": 1,
    "silent": 0,
    "silent_since": None,
    "here": False,
}


def at(seconds_ago: float) -> str:
    """Give a time."""
    return format_time(NOW - timedelta(seconds=seconds_ago))


FAILURE = {"generation": 8, "step": "restore", "message": "a page is cut short"}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]] = {
    "switch-fails": (
        {"failure": FAILURE, "newest": 8},
        {},
        {},
        "Frankfurt cannot show generation 8, and goes on with what it has.",
    ),
    "log-unreadable": ({"log_error": "cannot read x"}, {}, {}, "cannot read the log"),
    "stale": ({"stale_since": at(20)}, {}, {}, "there may be newer data"),
    "worker-crashed": ({"crash": {"message": "killed", "at": at(1)}}, {}, {}, "crashed"),
    "primary-away": ({}, {"away_since": at(3)}, {"state": "unknown"}, "uploads are kept"),
    "primary-stopping": ({}, {"stopping": True, "lease_held": False}, {}, "is stopping"),
    "lease-lapsed": ({}, {"lease_held": False}, {}, "could not renew its lease"),
    "replication-down": ({}, {"litestream_up": False}, {}, "nothing can be published"),
    "region-silent": (
        {},
        {},
        {"state": "silent", "readers": 0, "silent": 1, "silent_since": at(30)},
        "Nothing is heard from Sydney.",
    ),
    "reader-silent": ({}, {}, {"silent": 1, "readers": 2}, "1 of 3 readers in Sydney is silent"),
    "region-behind": (
        {},
        {},
        {"state": "behind", "generation": 6, "behind_since": at(BEHIND_S + 1)},
        "Sydney is behind: it still shows generation 6.",
    ),
}


@pytest.mark.parametrize("code", CASES)
def test_trouble_is_told_with_what_to_do(code: str) -> None:
    """Each thing that can be wrong is one sentence, with an advice, and nothing else is said."""
    reader, primary, region, words = CASES[code]
    [trouble] = find_troubles(READER | reader, PRIMARY | primary, [REGION | region], NOW)
    assert trouble.code == code
    assert words in trouble.what
    assert trouble.todo.endswith(".")


def test_every_trouble_is_documented() -> None:
    """The guide lists every code, and no other."""
    guide = Path(__file__).parents[2] / "docs" / "howto" / "watch-the-regions.md"
    documented = re.findall(r"^\| `([a-z-]+)` \|", guide.read_text(), re.MULTILINE)
    source = Path(troubles.__file__).read_text()
    assert set(documented) == set(re.findall(r'code="([a-z-]+)"', source)) == CASES.keys()


@pytest.mark.parametrize(
    "region",
    [
        {},
        {"state": "behind", "behind_since": at(1)},
        {"state": "stopped", "readers": 0, "silent": 1, "silent_since": at(60)},
    ],
)
def test_what_is_well_or_on_its_way_is_no_trouble(region: dict[str, Any]) -> None:
    """Nobody is alarmed by a generation that was just published, or by a stop in order."""
    assert find_troubles(READER, PRIMARY, [REGION | region], NOW) == []


def test_reader_that_says_why_it_is_behind_does_not_say_so_twice() -> None:
    """A generation that cannot be shown here is one trouble, not two."""
    reader = READER | {"failure": FAILURE, "newest": 8}
    own = REGION | {"here": True, "state": "behind", "behind_since": at(BEHIND_S + 1)}
    assert [each.code for each in find_troubles(reader, PRIMARY, [own], NOW)] == ["switch-fails"]
    [slow] = find_troubles(READER | {"newest": 8}, PRIMARY, [own], NOW)
    assert slow.code == "region-behind"


def test_graver_troubles_come_first_and_sleepers_are_told_of_together() -> None:
    """Who looks for a second sees what somebody should do something about."""
    silent = {**REGION, "state": "silent", "readers": 0, "silent": 1, "silent_since": at(30)}
    regions = [silent, {**silent, "city": "Tokyo"}]
    found = find_troubles(READER, PRIMARY | {"lease_held": False}, regions, NOW)
    assert [each.code for each in found] == ["lease-lapsed", "region-silent"]
    assert found[1].what == "Nothing is heard from Sydney and Tokyo."
    assert found[0].grave
    assert not found[1].grave
