"""What the primary tells of readers that were there, and are not."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from headrace.clock import SteadyClock
from headrace.generation import format_time
from headrace.place import Place
from ingest.journal import Journal
from ingest.regions import MAX_READERS, Report
from ingest.roll_call import RollCall
from tests.unit.test_receipt import AT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Times:
    """A time that tests set."""

    def __init__(self) -> None:
        self.now = AT

    def read(self) -> datetime:
        """Give the time."""
        return self.now

    def pass_by(self, **passed: float) -> None:
        """Let time pass."""
        self.now += timedelta(**passed)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    """Give an empty journal."""
    journal = Journal(tmp_path / "receipts.db", SteadyClock(AT))
    yield journal
    await journal.close()


def report(reader: str, region: str, generation: int) -> Report:
    """Make a report."""
    return Report(reader=reader, place=Place(region=region), generation=generation)


async def test_region_whose_readers_fall_silent_is_told_of_for_a_day(journal: Journal) -> None:
    """People are told since when nothing was heard, and what was shown there last."""
    times = Times()
    roll_call = RollCall(journal, times.read)
    roll_call.note(report("1", "fra", 7), stopping=False)
    roll_call.note(report("2", "fra", 8), stopping=False)
    roll_call.note(report("3", "syd", 8), stopping=False)
    assert (await roll_call.describe())["fra"] == {
        "generation": 7,
        "readers": 2,
        "silent": 0,
        "silent_since": None,
        "stopped": False,
        "live": [],
    }
    times.pass_by(seconds=24)
    roll_call.note(report("1", "fra", 8), stopping=False)
    times.pass_by(seconds=2)
    told = await roll_call.describe()
    assert (told["fra"]["readers"], told["fra"]["silent"], told["fra"]["generation"]) == (1, 1, 8)
    assert (told["syd"]["readers"], told["syd"]["silent_since"]) == (0, format_time(AT))
    times.pass_by(hours=2)
    roll_call.note(report("1", "fra", 9), stopping=False)
    told = await roll_call.describe()
    assert told["fra"]["silent"] == 0
    assert told["syd"]["generation"] == 8
    times.pass_by(hours=22)
    assert "syd" not in await roll_call.describe()


async def test_reader_that_stops_in_order_is_not_called_silent(journal: Journal) -> None:
    """Who says that it stops is not looked for, and counts again when it is back."""
    times = Times()
    roll_call = RollCall(journal, times.read)
    roll_call.note(report("1", "fra", 7), stopping=True)
    told = (await roll_call.describe())["fra"]
    assert (told["readers"], told["stopped"]) == (0, True)
    roll_call.note(report("2", "fra", 7), stopping=False)
    times.pass_by(seconds=1)
    told = (await roll_call.describe())["fra"]
    assert (told["readers"], told["silent"], told["stopped"]) == (1, 0, False)


async def test_new_primary_knows_of_regions_that_were_there(journal: Journal) -> None:
    """After a restart a region that is gone is told of, with what the journal knows of it."""
    await journal.note_live("fra", 7, AT - timedelta(days=2))
    await journal.note_live("fra", 9, AT - timedelta(hours=1))
    await journal.note_live("old", 3, AT - timedelta(days=2))
    times = Times()
    roll_call = RollCall(journal, times.read)
    await roll_call.recall()
    told = await roll_call.describe()
    assert told.keys() == {"fra"}
    assert (told["fra"]["readers"], told["fra"]["silent"]) == (0, 0)  # it may be heard any moment
    times.pass_by(seconds=26)
    told = await roll_call.describe()
    assert (told["fra"]["readers"], told["fra"]["silent"], told["fra"]["generation"]) == (0, 1, 9)
    assert [generation for generation, _at in told["fra"]["live"]] == [7, 9]
    roll_call.note(report("1", "fra", 9), stopping=False)
    told = await roll_call.describe()
    assert (told["fra"]["readers"], told["fra"]["silent"]) == (1, 0)


async def test_readers_that_are_remembered_are_bounded(journal: Journal) -> None:
    """Readers that come and go cost no more and more memory: the longest silent is forgotten."""
    times = Times()
    roll_call = RollCall(journal, times.read)
    for number in range(MAX_READERS + 1):
        roll_call.note(report(str(number), f"r{number}", 1), stopping=False)
    told = await roll_call.describe()
    assert len(told) == MAX_READERS
    assert "r0" not in told
