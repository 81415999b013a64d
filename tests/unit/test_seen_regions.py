"""What a reader makes of what the primary says of regions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from headrace.generation import format_time
from serve.primary_look import Seen
from serve.recent import Brief
from serve.seen_regions import describe_generations, describe_regions, find_delays

AT = datetime(2026, 11, 27, 12, tzinfo=UTC)
READER = {"region": "fra", "generation": 4}


def after(seconds: float) -> datetime:
    """Give a time."""
    return AT + timedelta(seconds=seconds)


def recent(*numbers: int) -> list[Brief]:
    """Give generations, each published so many minutes after AT as its number."""
    return [
        Brief(
            number=number,
            created_at=after(60 * number),
            kind="ingest",
            files={"sales": "orders.csv"},
            removed=(),
        )
        for number in numbers
    ]


def said(region: str, **changes: Any) -> dict[str, Any]:
    """Give what the primary says of a region whose one reader shows generation 4."""
    told = {"generation": 4, "readers": 1, "silent": 0, "silent_since": None, "stopped": False}
    return {region: {**told, "live": [], **changes}}


def states(seen: Seen, newest: int = 4) -> dict[str, str]:
    """Give the state of each region."""
    found = describe_regions(seen, recent(3, 4, 5), READER, newest)
    return {each["city"]: each["state"] for each in found}


def test_region_is_what_the_primary_heard_of_it() -> None:
    """This reader's region comes first, and each is told with its city and its state."""
    regions = {
        **said("syd", readers=0, silent=1, silent_since=format_time(AT)),
        **said("nrt", readers=0, silent=1, silent_since=format_time(AT), stopped=True),
        **said("fra"),
        **said("elsewhere", generation=3),
        **said("ams", readers=0),
    }
    found = states(Seen(said={"regions": regions}))
    assert list(found) == ["Frankfurt", "Amsterdam", "Sydney", "Tokyo", "elsewhere"]
    assert list(found.values()) == ["fresh", "unknown", "silent", "stopped", "behind"]


def test_region_is_not_known_while_the_primary_is_away() -> None:
    """Old news of others is not told as if it were new; of itself a reader knows all the same."""
    regions = {**said("syd"), **said("fra", generation=3)}
    seen = Seen(said={"regions": regions}, said_at=AT, away_since=after(9))
    assert states(seen) == {"Frankfurt": "fresh", "Sydney": "unknown"}
    assert states(Seen(away_since=AT), newest=5) == {"Frankfurt": "behind"}


def test_reader_that_the_primary_has_not_heard_again_does_not_call_itself_silent() -> None:
    """A reader that came back knows that it is there before the primary does."""
    regions = said("fra", generation=2, readers=0, silent=1, silent_since=format_time(AT))
    [own] = describe_regions(Seen(said={"regions": regions}), recent(3, 4), READER, 4)
    assert (own["state"], own["readers"], own["silent"], own["generation"]) == ("fresh", 1, 0, 4)


def test_delay_is_from_published_until_the_region_showed_that_or_something_newer() -> None:
    """A region that skipped generations showed them all at once; the first note is of one alone."""
    published = {each.number: each.created_at for each in recent(1, 2, 3, 4, 5)}
    live = [(2, format_time(after(121))), (4, format_time(after(243.5)))]
    assert find_delays(live, published) == {2: 1.0, 3: 63.5, 4: 3.5}
    assert find_delays([], published) == {}
    assert find_delays(live, {}) == {}


def test_generation_says_how_far_it_has_come() -> None:
    """The slowest region counts; one that lacks it is named, and one that sleeps as such."""
    live = {"live": [(3, format_time(after(181))), (4, format_time(after(242)))]}
    regions = {
        **said("fra", **live),
        **said("syd", generation=3, live=[(3, format_time(after(187)))]),
        **said("nrt", generation=1, readers=0, silent=1, silent_since=format_time(AT)),
    }
    seen = Seen(said={"regions": regions})
    newest, before = describe_generations(
        recent(3, 4), describe_regions(seen, recent(3, 4), READER, 4)
    )
    assert (newest["number"], newest["missing"], newest["took_s"]) == (4, ["Sydney"], 2.0)
    assert (before["number"], before["missing"], before["took_s"]) == (3, [], 7.0)
    assert (newest["away"], before["away"]) == (["Tokyo"], ["Tokyo"])
    [shown] = describe_generations(recent(1), describe_regions(seen, recent(3, 4), READER, 4))
    assert shown["away"] == []


def test_primary_is_away_since_it_went_and_not_since_somebody_looked() -> None:
    """Nobody may have looked then, but the stream of generations ended; an answer since counts."""
    assert Seen(away_since=after(30)).find_away_since(after(1)) == after(1)
    looked = Seen(said={}, said_at=AT, away_since=after(30))
    assert looked.find_away_since(after(1)) == after(1)
    assert looked.find_away_since(None) == after(30)  # the stream is up: only looks tell
    assert looked.find_away_since(after(40)) == after(30)
    answered = Seen(said={}, said_at=after(20), away_since=after(30))
    assert answered.find_away_since(after(1)) == after(20)
    assert Seen(said={}, said_at=after(20)).find_away_since(after(1)) is None
