"""What the status page draws."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from serve.cities import FLY as CITIES
from serve.cities import describe_place, name_region
from serve.status_page.labels import place_labels
from serve.status_page.picture import LAND, paint
from serve.status_page.sparkline import BARS, HEIGHT, draw, seconds
from serve.status_page.world import COLUMNS, ROWS, find_spot, place_at

AT = "2026-11-27T12:00:00.000Z"


def seen(**changes: Any) -> dict[str, Any]:
    """Give what there is to see, of one region."""
    region = {
        "region": "fra",
        "city": "Frankfurt",
        "at": [50.1, 8.7],
        "state": "fresh",
        "generation": 2,
        "behind_since": None,
        "readers": 1,
        "silent": 0,
        "silent_since": None,
        "delays_s": {"1": 0.2, "2": 0.4},
        "here": True,
    }
    generation = {
        "number": 2,
        "at": AT,
        "kind": "ingest",
        "files": {"sales": "orders.csv", "secret": "salaries.csv"},
        "removed": ["gone"],
        "more": 0,
        "missing": [],
        "away": [],
        "took_s": 0.4,
    }
    reader = {"generation": 2, "newest": 2, "published_at": AT, "shown_since": AT}
    primary = {"lease_taken_at": AT, "said_at": None, "region": "iad"}
    found = {"reader": reader, "primary": primary, "regions": [region], "troubles": []}
    return {**found, "generations": [generation], **changes}


def test_databases_that_may_not_be_seen_are_counted_and_not_named() -> None:
    """Neither the name of a private database nor of its file is in what the page is made of."""
    [generation] = paint(seen(), {"sales"})["generations"]
    assert [(each.database, each.filename) for each in generation.changes] == [
        ("sales", "orders.csv")
    ]
    assert generation.more == 2
    assert paint(seen(), {"sales", "gone"})["generations"][0].changes[1].word == "changed"


def test_file_names_cannot_turn_the_line() -> None:
    """A file name that holds a direction mark is shown with it replaced."""
    [said] = seen()["generations"]
    said["files"] = {"sales": "a\u202egnp.csv"}
    [generation] = paint(seen(generations=[said]), {"sales"})["generations"]
    assert generation.changes[0].filename == "a\ufffdgnp.csv"


def test_rollback_is_called_one() -> None:
    """The page says of a database what the command is called that did it."""
    [said] = seen()["generations"]
    [generation] = paint(seen(generations=[{**said, "kind": "rollback"}]), {"sales"})["generations"]
    assert [(each.filename, each.word) for each in generation.changes] == [(None, "rolled back")]


def test_generation_is_everywhere_only_if_no_region_lacks_it() -> None:
    """A region that is silent does not hold it up, and does not show it either."""

    def reach(**changes: Any) -> str:
        [said] = seen()["generations"]
        [generation] = paint(seen(generations=[{**said, **changes}]), ())["generations"]
        return str(generation.reach).replace("\xa0", " ")

    assert reach() == "everywhere after 0.4 s"
    assert reach(away=["Sydney", "Tokyo"]) == "after 0.4 s, not in Sydney, Tokyo"
    assert reach(away=["Sydney"], missing=["London"]) == "not yet in London"
    assert reach(took_s=None) == ""


def test_headline_says_the_worst() -> None:
    """One glance tells whether something has to be done."""
    calm, [region] = paint(seen(), ()), seen()["regions"]
    assert (calm["headline"], calm["state"]) == ("Everything is up to date", "good")
    sleeping = {**region, "state": "silent", "here": False, "silent_since": AT}
    trouble = {"grave": False, "since": None}
    asleep = paint(seen(regions=[region, sleeping], troubles=[trouble]), ())
    assert asleep["headline"] == "Up to date in every region that is awake"
    assert asleep["state"] == "notice"
    grave = paint(seen(troubles=[trouble, {"grave": True, "since": AT}]), ())
    assert (grave["headline"], grave["state"]) == ("Something is wrong", "bad")
    empty = seen()
    empty["reader"] |= {"generation": 0, "published_at": None}
    assert paint(empty, ())["headline"] == "Nothing has been published yet"
    behind = paint(seen(regions=[{**region, "state": "behind", "behind_since": AT}]), ())
    assert behind["headline"] == "Generation 2 is on its way"


def test_ways_lead_from_the_primary_to_the_regions_that_are_awake() -> None:
    """The map shows where generations come from, if the primary's region is a known city."""
    picture = paint(seen(), ())
    [way], [spot] = picture["ways"], picture["map"]
    x, y = find_spot(CITIES["iad"].latitude, CITIES["iad"].longitude)
    assert way.startswith(f"M{x} {y}Q")
    assert way.endswith(f" {spot.x} {spot.y}")
    [region] = seen()["regions"]
    sleeping = seen(regions=[{**region, "state": "silent", "silent_since": AT}])
    elsewhere, same = seen(), seen()
    elsewhere["primary"]["region"] = "rack-2"
    same["primary"]["region"] = "fra"
    assert [paint(each, ())["ways"] for each in (sleeping, elsewhere, same)] == [[], [], []]


def test_sparkline_shows_the_newest_at_its_right_end_and_says_it_in_words() -> None:
    """Bars are for those who see them, a sentence for those who do not."""
    line = draw([None, 0.1, 0.3, 7.0, 3600.0])
    assert [bar.kind for bar in line.bars] == ["quick", "quick", "slow", "away"]
    assert [bar.x for bar in line.bars] == [4 * (BARS - back) for back in (4, 3, 2, 1)]
    heights = [bar.height for bar in line.bars]
    assert heights == sorted(heights)
    assert heights[-1] == HEIGHT
    assert all(bar.y + bar.height == HEIGHT for bar in line.bars)
    assert (line.typical_s, line.slowest_s, line.away) == (0.3, 7.0, 1)
    assert "The last 3 generations: typically 0.3" in line.says
    assert draw([]).says == "No generation was published while it was there."
    assert len(draw([0.1] * 99).bars) == BARS


def test_seconds_have_as_many_digits_as_matter() -> None:
    """Nobody reads 0.00 s, or 12.345 s."""
    written = [seconds(value).replace("\xa0", " ") for value in (0.004, 0.0949, 0.0951, 9.4, 61.6)]
    assert written == ["0.01 s", "0.09 s", "0.1 s", "9.4 s", "62 s"]


def test_every_city_stands_on_land_or_beside_it() -> None:
    """A place that was mistyped would lie in the sea."""
    dots = set()
    for line in LAND.removeprefix("M").split("M"):
        column, _, rest = line.partition(" ")
        row, _, length = rest.partition("h")
        count = int(length.removesuffix(".1") or 0) + 1
        dots |= {(int(column) + at, int(row)) for at in range(count)}
    for region, city in CITIES.items():
        x, y = find_spot(city.latitude, city.longitude)
        assert 0 <= x <= COLUMNS, region
        assert 0 <= y <= ROWS, region
        assert any(abs(x - column) <= 2 and abs(y - row) <= 2 for column, row in dots), region


def test_spot_and_place_are_each_others_inverse() -> None:
    """The map of dots and the regions on it are drawn by the same rule."""
    for city in CITIES.values():
        column, row = find_spot(city.latitude, city.longitude)
        longitude, latitude = place_at(column, row)
        assert abs(longitude - city.longitude) < 0.2
        assert abs(latitude - city.latitude) < 0.2


def test_names_of_cities_that_are_close_do_not_cover_each_other() -> None:
    """Four regions in the west of Europe are read one by one."""
    cities = [CITIES[code] for code in ("ams", "cdg", "fra", "lhr")]
    spots = [find_spot(city.latitude, city.longitude) for city in cities]
    labels = place_labels(spots, [city.name for city in cities])
    assert len({(label.anchor, label.y) for label in labels}) == len(cities)
    sides = [label for label in labels if label.anchor in {"start", "end"}]
    for one, other in combinations(sides, 2):
        assert one.anchor != other.anchor or abs(one.y - other.y) > 2


def test_region_that_is_not_flys_is_called_as_it_is() -> None:
    """Whoever names regions himself reads his own names."""
    assert (name_region("fra"), describe_place("fra")) == ("Frankfurt", "Frankfurt")
    assert (name_region("rack-2"), describe_place("rack-2")) == ("rack-2", "region rack-2")
