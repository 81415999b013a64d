"""Which readers were heard of, and when they fell silent: for people who look at a status page.

``regions.py`` decides what is waited for, and forgets a reader after 30 s. This remembers it for
longer, because what is not there any more is what people want to be told.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from headrace.generation import format_time, parse_time
from ingest.regions import MAX_READERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from ingest.journal import Journal
    from ingest.regions import Report

SILENT_AFTER = timedelta(seconds=25)  # they report every 10 s
# How long a reader that is gone is spoken of, and one whose region others are still in.
KEPT_FOR = timedelta(days=1)
KEPT_BESIDE_OTHERS = timedelta(hours=1)
NOTED = 30  # generations of a region that its freshness is shown by


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What was last heard of a reader.

    Attributes:
        region: Where it is.
        generation: What it served.
        at: When it was heard.
        stopping: Whether it said that it stops.
    """

    region: str
    generation: int
    at: datetime
    stopping: bool = False


class RollCall:
    """The readers that were heard of in the last day.

    Args:
        journal: Knows when a region first showed a generation.
        now: Gives the time.
    """

    def __init__(self, journal: Journal, now: Callable[[], datetime]) -> None:
        self._journal = journal
        self._now = now
        self._heard: dict[str, Heard] = {}
        self._began_at = now()

    async def recall(self) -> None:
        """Remember what the journal knows of before this start: the last that regions showed."""
        noted = await self._journal.read_noted(await self._journal.read_regions(), limit=1)
        for region, [(generation, at)] in noted.items():
            self._heard[f"before:{region}"] = Heard(
                region=region, generation=generation, at=parse_time(at)
            )

    def note(self, report: Report, *, stopping: bool) -> None:
        """Take a reader's report."""
        self._heard.pop(f"before:{report.place.region}", None)
        self._heard.pop(report.reader, None)  # the one that was silent for longest comes first
        self._heard[report.reader] = Heard(
            region=report.place.region,
            generation=report.generation,
            at=self._now(),
            stopping=stopping,
        )
        if len(self._heard) > MAX_READERS:
            del self._heard[next(iter(self._heard))]

    async def describe(self) -> dict[str, dict[str, Any]]:
        """Give what is known of each region, as JSON.

        It stays the same as long as nothing happens: times are those of events. ``live`` lists
        when the newest generations were first shown there. A region with neither ``readers`` nor
        ``silent`` ones was there before this primary began, and may be heard of any moment.
        """
        found = self._find()
        noted = await self._journal.read_noted(found, limit=NOTED)
        return {region: {**found[region], "live": noted[region]} for region in sorted(found)}

    def _find(self) -> Mapping[str, dict[str, Any]]:
        now = self._now()
        self._heard = {key: each for key, each in self._heard.items() if now - each.at < KEPT_FOR}
        regions: dict[str, list[Heard]] = {}
        for each in self._heard.values():
            regions.setdefault(each.region, []).append(each)
        begins = now - self._began_at < SILENT_AFTER
        return {
            region: _describe(readers, now, begins=begins) for region, readers in regions.items()
        }


def _describe(readers: list[Heard], now: datetime, *, begins: bool) -> dict[str, Any]:
    there = [each for each in readers if not each.stopping and now - each.at < SILENT_AFTER]
    if there:
        gone = [
            each
            for each in readers
            if not each.stopping and SILENT_AFTER <= now - each.at < KEPT_BESIDE_OTHERS
        ]
        return {
            "generation": min(each.generation for each in there),
            "readers": len(there),
            "silent": len(gone),
            "silent_since": format_time(max(each.at for each in gone)) if gone else None,
            "stopped": False,
        }
    last = max(readers, key=lambda each: each.at)
    is_awaited = begins and not last.stopping
    return {
        "generation": last.generation,
        "readers": 0,
        "silent": 0 if is_awaited else len(readers),
        "silent_since": None if is_awaited else format_time(last.at),
        "stopped": last.stopping,
    }
