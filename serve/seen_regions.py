"""What is seen of regions, and how far the last generations have come; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unicodedata import normalize

from headrace.generation import format_time, parse_time
from serve.cities import find_city, name_region

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from serve.primary_look import Seen
    from serve.recent import Brief


def describe_regions(
    seen: Seen, recent: Sequence[Brief], reader: Mapping[str, Any], newest: int
) -> list[dict[str, Any]]:
    """List the regions, this reader's first, the others by name."""
    said: dict[str, Any] = dict((seen.said or {}).get("regions", {}))
    own = reader["region"]
    alone: dict[str, Any] = {
        "readers": 1,
        "silent": 0,
        "silent_since": None,
        "stopped": False,
        "live": [],
    }
    shown = reader["generation"] or 0
    said.setdefault(own, {**alone, "generation": shown})
    if said[own]["readers"] == 0:  # the primary has not heard this one yet
        said[own] = {**said[own], "readers": 1, "silent": 0}
    if said[own]["readers"] == 1:  # this one, which may have switched since
        said[own] = {**said[own], "generation": max(said[own]["generation"], shown)}
    described = [
        _describe_region(region, each, recent, newest, is_known=seen.away_since is None)
        for region, each in said.items()
    ]
    for each in described:
        each["here"] = each["region"] == own
        if each["here"]:
            each["state"] = "fresh" if each["generation"] >= newest else "behind"
    return sorted(described, key=lambda each: (not each["here"], normalize("NFD", each["city"])))


def _describe_region(
    region: str, said: Mapping[str, Any], recent: Sequence[Brief], newest: int, *, is_known: bool
) -> dict[str, Any]:
    city = find_city(region)
    generation = said["generation"]
    published = {each.number: each.created_at for each in recent}
    following = published.get(generation + 1)
    if not is_known or not (said["readers"] or said["silent"]):
        state = "unknown"
    elif said["readers"]:
        state = "fresh" if generation >= newest else "behind"
    else:
        state = "stopped" if said["stopped"] else "silent"
    return {
        "region": region,
        "city": name_region(region),
        "at": city and [city.latitude, city.longitude],
        "state": state,
        "generation": generation,
        "behind_since": None if following is None else format_time(following),
        "readers": said["readers"],
        "silent": said["silent"],
        "silent_since": said["silent_since"],
        "delays_s": find_delays(said["live"], published),
    }


def find_delays(
    live: Sequence[Sequence[Any]], published: Mapping[int, datetime]
) -> dict[int, float]:
    """Give how many seconds after it was published each generation was shown in a region.

    Args:
        live: Generations that the region was first heard to show, and when; oldest first. It shows
            all before each as well: those since the note before came with it.
        published: When each generation was published.
    """
    delays: dict[int, float] = {}
    before = live[0][0] - 1 if live else 0  # what came with the first note is not known
    for generation, text in live:
        at = parse_time(text)
        for number in range(max(before + 1, min(published, default=0)), generation + 1):
            if number in published:
                delays[number] = round(max((at - published[number]).total_seconds(), 0.0), 3)
        before = generation
    return delays


def describe_generations(
    recent: Sequence[Brief], regions: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """List the generations, the newest first, with how long they took to all regions."""
    there = [each for each in regions if each["readers"]]
    return [
        {
            "number": each.number,
            "at": format_time(each.created_at),
            "kind": each.kind,
            "files": dict(each.files),
            "removed": list(each.removed),
            "more": each.more,
            "missing": [r["city"] for r in there if r["generation"] < each.number],
            "away": [
                r["city"] for r in regions if not r["readers"] and r["generation"] < each.number
            ],
            "took_s": max(
                (r["delays_s"][each.number] for r in there if each.number in r["delays_s"]),
                default=None,
            ),
        }
        for each in reversed(recent)
    ]
