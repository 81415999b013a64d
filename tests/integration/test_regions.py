"""Which regions an upload waits for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from headrace.clock import SteadyClock
from headrace.place import Place
from ingest.journal import Journal
from ingest.metrics import IngestMetrics
from ingest.regions import Regions, Report
from tests.unit.test_receipt import AT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    """Give a journal that knows of two regions: one showed generation 4, the other 3."""
    journal = Journal(tmp_path / "receipts.db", SteadyClock(AT))
    await journal.note_live("fra", 3, AT)
    await journal.note_live("fra", 4, AT)
    await journal.note_live("syd", 3, AT)
    yield journal
    await journal.close()


async def regions_of(journal: Journal) -> Regions:
    """Give what a primary knows that has just begun."""
    regions = Regions(journal, IngestMetrics())
    await regions.recall()
    return regions


def report(region: str, generation: int) -> Report:
    """Make a report of a region's one reader."""
    return Report(reader=region, place=Place(region=region), generation=generation)


async def test_primary_that_has_just_begun_waits_for_the_regions_of_before(
    journal: Journal,
) -> None:
    """Readers that it has not heard of yet are no readers that show everything."""
    regions = await regions_of(journal)
    assert not await regions.wait_live(5, 0.0)
    waiting = asyncio.create_task(regions.wait_live(5, 30.0))
    await regions.note(report("fra", 5))
    assert regions.missing(5) == {"syd"}
    await regions.note(report("syd", 4))
    assert not waiting.done()
    await regions.note(report("syd", 5))

    assert await waiting


async def test_region_is_not_waited_for_to_show_again_what_it_has_shown(journal: Journal) -> None:
    """What was live everywhere before a restart is so after it; so is nothing at all."""
    regions = await regions_of(journal)
    assert await regions.wait_live(0, 0.0)
    assert await regions.wait_live(3, 0.0)
    assert regions.missing(4) == {"syd"}


async def test_region_that_is_gone_for_good_is_waited_for_only_so_long(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of before this start or heard of since: who is silent for long holds nobody up."""
    monkeypatch.setattr("ingest.regions.GONE_AFTER_S", 0.2)
    monkeypatch.setattr("ingest.regions.LOOK_EVERY_S", 0.01)
    regions = await regions_of(journal)
    await regions.note(report("fra", 4))

    assert await regions.wait_live(5, 30.0)
    assert not regions.missing(5)
