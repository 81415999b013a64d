"""Litestream's configuration, as it is shipped."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from ingest.buckets.places import INTERVAL_S
from ingest.incoming import LOOK_EVERY_S

CONFIG = yaml.safe_load((Path(__file__).parents[2] / "litestream.yml").read_text())
REPLICAS = 11  # ten databases and the journal
PER_HOUR = 200  # requests of a primary at rest, beside its lease
OURS_PER_HOUR = 40  # Headrace's own: benchmarks/idle.py
_UNITS = {"s": 1, "m": 60, "h": 3600}


def hourly(interval: str) -> float:
    """Give how often an hour something is done that is done at an interval."""
    found = re.fullmatch(r"(\d+)([smh])", interval)
    assert found
    return 3600 / (int(found[1]) * _UNITS[found[2]])


def test_litestream_asks_little_of_the_store_at_rest() -> None:
    """Also where every level is listed each time, as it is after transactions close together."""
    levels = [hourly(each["interval"]) for each in CONFIG["levels"]]
    looks = 2 * hourly(CONFIG["l0-retention-check-interval"])
    snapshots = hourly(CONFIG["snapshot"]["interval"])
    # A snapshot's level is listed before it, and with all others after it.
    each = sum(levels) + looks + (2 + len(levels)) * snapshots
    assert REPLICAS * each + OURS_PER_HOUR <= PER_HOUR


def test_looks_for_dropped_files_fit_the_same_budget() -> None:
    """They take the place of the looks for what readers took, so they are as seldom."""
    prune = (30 + 23) / 6  # lists and reads, every six hours: docs/reference/stores.md
    assert INTERVAL_S == LOOK_EVERY_S
    assert 3600 / INTERVAL_S + prune <= OURS_PER_HOUR


def test_litestream_deletes_nothing_from_the_store() -> None:
    """Headrace does, by what generations need; a file's age says nothing of that."""
    assert CONFIG["retention"] == {"enabled": False}
