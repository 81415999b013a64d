"""Which regions show which generation: what readers report, and who waits for it."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from headrace.errors import Refusal
from headrace.place import Place

if TYPE_CHECKING:
    from ingest.journal import Journal
    from ingest.metrics import IngestMetrics

GONE_AFTER_S = 30.0  # a reader that was not heard of so long is not waited for
LOOK_EVERY_S = 1.0  # for those who are gone meanwhile: nothing tells of that
MAX_READERS = 1000  # remembered at once
MAX_NAME = 64  # characters of a reader's id and of a region


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a reader says of itself.

    Attributes:
        reader: Its id, the same as long as its data folder lives.
        place: Where it is.
        generation: What it serves.
    """

    reader: str
    place: Place
    generation: int

    @classmethod
    def decode(cls, document: Any) -> Report:
        """Read the JSON form.

        Raises:
            Refusal: ``bad-request``.
        """
        try:
            reader, region = document["reader"], document["region"]
            generation = int(document["generation"])
            machine, address = document.get("machine"), document.get("address")
        except (AttributeError, TypeError, KeyError, ValueError) as exc:
            raise Refusal("bad-request", "the report has no reader, region and generation") from exc
        said = [each for each in (machine, address) if each is not None]
        for name in (reader, region, *said):
            if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
                raise Refusal("bad-request", "the report's reader or region is no name")
        place = Place(region=region, machine=machine, address=address)
        return cls(reader=reader, place=place, generation=generation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What is known of a region.

    Attributes:
        generation: What all its readers show.
        reports: What each of them said last.
        heard_s_ago: Since when the one was not heard of that was silent for longest.
    """

    generation: int
    reports: tuple[Report, ...]
    heard_s_ago: float


class Regions:
    """The readers that this primary hears of."""

    def __init__(self, journal: Journal, metrics: IngestMetrics) -> None:
        self._journal = journal
        self._metrics = metrics
        self._reports: dict[str, tuple[Report, float]] = {}  # by reader; when it was heard
        self._moved = asyncio.Condition()
        self._recalled: dict[str, int] = {}  # what regions of before this start showed last
        self._recalled_s = 0.0

    async def recall(self) -> None:
        """Remember which regions there were before this start: they will be heard of again."""
        noted = await self._journal.read_noted(await self._journal.read_regions(), limit=1)
        self._recalled = {region: generation for region, [(generation, _at)] in noted.items()}
        self._recalled_s = time.monotonic()

    async def note(self, report: Report) -> None:
        """Take a reader's report."""
        before = self.oldest().get(report.place.region, 0)
        self._forget_gone()
        if report.reader not in self._reports and len(self._reports) >= MAX_READERS:
            raise Refusal("bad-request", "there are too many readers")
        self._reports[report.reader] = report, time.monotonic()
        for region, generation in self.oldest().items():
            self._metrics.reader_generation.labels(region).set(generation)
        region = report.place.region
        now = self.oldest()[region]
        if now > before:
            await self._journal.note_live(region, now, datetime.now(UTC))
        async with self._moved:
            self._moved.notify_all()

    async def wait_live(self, generation: int, timeout_s: float) -> bool:
        """Wait until no region that counts is ``missing``; False if that took too long."""
        try:
            async with asyncio.timeout(timeout_s), self._moved:
                while self.missing(generation):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_EVERY_S):
                            await self._moved.wait()
        except TimeoutError:
            return False
        return True

    def missing(self, generation: int) -> frozenset[str]:
        """Give the regions that do not show a generation yet.

        Those of before this start are among them, until they are heard of or were not for so long.
        """
        self._forget_gone()
        oldest = self.oldest()
        behind = {region for region, shown in oldest.items() if shown < generation}
        if time.monotonic() - self._recalled_s < GONE_AFTER_S:
            behind |= {
                region
                for region, shown in self._recalled.items()
                if region not in oldest and shown < generation
            }
        return frozenset(behind)

    def oldest(self) -> dict[str, int]:
        """Give the generation that all readers of each region show."""
        oldest: dict[str, int] = {}
        for report, _heard_s in self._reports.values():
            region = report.place.region
            oldest[region] = min(oldest.get(region, report.generation), report.generation)
        return oldest

    def heard(self) -> dict[str, Heard]:
        """Give what is known of each region that was heard of lately."""
        self._forget_gone()
        now_s = time.monotonic()
        heard: dict[str, list[tuple[Report, float]]] = {}
        for report, heard_s in self._reports.values():
            heard.setdefault(report.place.region, []).append((report, now_s - heard_s))
        return {
            region: Heard(
                generation=generation,
                reports=tuple(report for report, _silent_s in heard[region]),
                heard_s_ago=max(silent_s for _report, silent_s in heard[region]),
            )
            for region, generation in self.oldest().items()
        }

    def _forget_gone(self) -> None:
        deadline_s = time.monotonic() - GONE_AFTER_S
        for reader, (report, heard_s) in list(self._reports.items()):
            if heard_s < deadline_s:
                del self._reports[reader]
                self._metrics.reader_generation.remove(report.place.region)
