"""What the status page shows, as its template wants it; pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.generation import parse_time
from headrace.receipt import NOTHING_CHANGED
from serve.cities import find_city
from serve.metadata import one_line
from serve.status_page.labels import place_labels
from serve.status_page.moment import Moment
from serve.status_page.sparkline import Sparkline, draw, seconds
from serve.status_page.ways import draw_ways
from serve.status_page.world import COLUMNS, ROWS, find_spot

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from serve.cities import City
    from serve.status_page.labels import Label

LAND = Path(__file__).with_name("land.txt").read_text().strip()  # docs/images/make_world.py
SHOWN = 12  # generations in the list; the sparklines have more
_AWAKE = frozenset({"fresh", "behind"})
_MOST_NAMES = 5  # of one generation
_WORDS = {
    "delete": "deleted",
    "metadata": "described anew",
    "rebuild": "put right again",
    "rollback": "rolled back",
    "rows": "rows written",
    "takeover": "A primary took over",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a generation does to one database.

    Attributes:
        database: Its name.
        filename: The file it was made of; None: it was no upload.
        word: What was done, if it was no upload.
        is_there: Whether it is still there to be looked at.
    """

    database: str
    filename: str | None
    word: str
    is_there: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A line of the list of generations.

    Attributes:
        number: Its number.
        at: When it was published.
        changes: What whoever looks may see of it.
        more: How many changes are not listed.
        word: What it is, if it changes nothing.
        reach: How far it has come.
    """

    number: int
    at: Moment
    changes: tuple[Change, ...]
    more: int
    word: str
    reach: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A region.

    Attributes:
        said: What is known of it (``serve/overview.py``).
        word: How it is, in a few words.
        since: Since when it is so; None: it is well, or not known.
        sparkline: How long the last generations took to it.
    """

    said: Mapping[str, Any]
    word: str
    since: Moment | None
    sparkline: Sparkline


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A region on the map.

    Attributes:
        x: Its column.
        y: Its row.
        label: Where its name stands.
        region: Itself.
    """

    x: float
    y: float
    label: Label
    region: Region


def paint(seen: Mapping[str, Any], visible: Collection[str]) -> dict[str, Any]:
    """Give what the template shows.

    Args:
        seen: What there is to see (``serve/overview.py``).
        visible: The databases that whoever looks may see.
    """
    generations = seen["generations"]
    numbers = [str(each["number"]) for each in reversed(generations)]
    regions = [_describe_region(each, numbers) for each in seen["regions"]]
    primary, published_at = seen["primary"], seen["reader"]["published_at"]
    home = find_city(primary["region"] or "")
    spots = _draw_map(regions)
    return {
        "state": _find_state(seen),
        "headline": _find_headline(seen),
        "published": Moment.read(published_at),
        "troubles": [{**each, "since": Moment.read(each["since"])} for each in seen["troubles"]],
        "regions": regions,
        "map": spots,
        "ways": _draw_ways(home, spots),
        "home": home and home.name,
        "land": LAND,
        "columns": COLUMNS,
        "rows": ROWS,
        "generations": [_describe_generation(each, visible) for each in generations[:SHOWN]],
        "lease_taken": Moment.read(primary["lease_taken_at"]),
        "said": Moment.read(primary["said_at"]),
        "shown_since": Moment.read(seen["reader"]["shown_since"]),
        "seconds": seconds,
        "moment": Moment.read,
        "one_line": one_line,
        "nothing_changed": NOTHING_CHANGED,
    }


def _find_state(seen: Mapping[str, Any]) -> str:
    if any(each["grave"] for each in seen["troubles"]):
        return "bad"
    return "notice" if seen["troubles"] else "good"


def _find_headline(seen: Mapping[str, Any]) -> str:
    regions, reader = seen["regions"], seen["reader"]
    if not reader["generation"]:
        return "Nothing has been published yet"
    if any(each["grave"] for each in seen["troubles"]):
        return "Something is wrong"
    awake = [each for each in regions if each["state"] in _AWAKE]
    if any(each["state"] == "behind" for each in awake):
        return f"Generation {max(reader['newest'], reader['generation'])} is on its way"
    if len(awake) < len(regions):
        return "Up to date in every region that is awake"
    return "Everything is up to date"


def _describe_region(said: Mapping[str, Any], numbers: Sequence[str]) -> Region:
    delays_s = said["delays_s"]
    words = {
        "fresh": "up to date",
        "behind": f"generation {said['generation'] + 1} is on its way",
        "silent": "silent",
        "stopped": "stopped",
        "unknown": "not known",
    }
    since = said["behind_since"] if said["state"] == "behind" else None
    if said["state"] in {"silent", "stopped"}:
        since = said["silent_since"]
    return Region(
        said=said,
        word=words[said["state"]],
        since=Moment.read(since),
        sparkline=draw([delays_s.get(number) for number in numbers]),
    )


def _draw_map(regions: Sequence[Region]) -> list[Spot]:
    placed = [each for each in regions if each.said["at"]]
    spots = [find_spot(*each.said["at"]) for each in placed]
    labels = place_labels(spots, [each.said["city"] for each in placed])
    return [
        Spot(x=x, y=y, label=label, region=region)
        for (x, y), label, region in zip(spots, labels, placed, strict=True)
    ]


def _draw_ways(home: City | None, spots: Sequence[Spot]) -> list[str]:
    """Draw the ways from the primary to regions that it hears of."""
    if home is None:
        return []
    ends = [(each.x, each.y) for each in spots if each.region.said["state"] in _AWAKE]
    return draw_ways(find_spot(home.latitude, home.longitude), ends)


def _describe_generation(said: Mapping[str, Any], visible: Collection[str]) -> Generation:
    names = [*said["files"], *said["removed"]]
    shown = [name for name in names if name in visible][:_MOST_NAMES]
    is_upload = said["kind"] == "ingest"
    return Generation(
        number=said["number"],
        at=Moment.of(parse_time(said["at"])),
        changes=tuple(
            Change(
                database=name,
                filename=one_line(said["files"][name])
                if is_upload and said["files"].get(name)
                else None,
                word=_WORDS.get(said["kind"], "changed"),
                is_there=name in said["files"],
            )
            for name in shown
        ),
        more=len(names) - len(shown) + said["more"],
        word="" if names else _WORDS.get(said["kind"], ""),
        reach=_say_reach(said),
    )


def _say_reach(said: Mapping[str, Any]) -> str:
    if said["missing"]:
        return f"not yet in {', '.join(said['missing'])}"
    if said["took_s"] is None:
        return ""
    after = f"after {seconds(said['took_s'])}"
    return f"{after}, not in {', '.join(said['away'])}" if said["away"] else f"everywhere {after}"
