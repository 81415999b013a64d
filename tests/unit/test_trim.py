"""Which files of a live lineage nobody needs."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from headrace.keys import ltx_key
from headrace.store import Listed
from ingest.trim import SNAPSHOTS, choose_files

START = datetime(2026, 11, 22, tzinfo=UTC)
LINEAGE = "0123456789abcdef"


@dataclass(kw_only=True)
class Lineage:
    """What Litestream writes: single transactions, compacted level by level, and snapshots."""

    s3: bool
    files: list[Listed] = field(default_factory=list)
    spans: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def add(self, level: int, first: int, last: int, at_h: float) -> None:
        """Have one file more."""
        key = ltx_key("sales", LINEAGE, level, first, last, s3=self.s3)
        at = START + timedelta(hours=at_h)
        self.files.append(Listed(key=key, size_bytes=last - first + 1, modified_at=at))
        self.spans[key] = (level, first, last)

    def last(self, level: int) -> int:
        """Give the last transaction of a level."""
        return max((span[2] for span in self.spans.values() if span[0] == level), default=0)

    def can_restore(self, txid: int, gone: set[str]) -> bool:
        """Say whether files that follow one another lead to a transaction."""
        spans = [span[1:] for key, span in self.spans.items() if key not in gone]
        reached, more = {0}, True
        while more:
            more = False
            for first, last in spans:
                if first - 1 in reached and last not in reached and last <= txid:
                    reached.add(last)
                    more = True
        return txid in reached


def random_lineage(rng: random.Random) -> tuple[Lineage, list[float]]:
    """Give a lineage of some days, and when each of its transactions was written (hours)."""
    lineage = Lineage(s3=rng.random() < 0.5)
    written: list[float] = []
    at_h = 0.0
    compacting, snapping = rng.choice([0.05, 0.5]), rng.choice([0.1, 0.4])
    for _ in range(rng.randint(1, 60)):
        at_h += rng.choice([0.01, 0.2, 3, 30])
        written.append(at_h)
        lineage.add(0, len(written), len(written), at_h)
        for level in (1, 2, 3):
            if rng.random() < compacting and lineage.last(level) < lineage.last(level - 1):
                first, last = lineage.last(level) + 1, lineage.last(level - 1)
                lineage.add(level, first, last, at_h)
        if rng.random() < snapping:
            lineage.add(SNAPSHOTS, 1, len(written), at_h)
    return lineage, written


@pytest.mark.parametrize("seed", range(60))
def test_no_file_that_a_kept_generation_needs_is_chosen(seed: int) -> None:
    """From the oldest kept transaction on, each can be restored before and after."""
    rng = random.Random(seed)
    lineage, written = random_lineage(rng)
    newest = len(written)
    needed_from = rng.randint(1, newest)
    since = START + timedelta(hours=written[rng.randrange(newest)])

    gone = {each.key for each in choose_files(lineage.files, needed_from=needed_from, since=since)}

    for txid in range(needed_from, newest + 1):
        assert lineage.can_restore(txid, gone)
    assert not [each for each in lineage.files if each.key in gone and each.modified_at > since]
    for level in range(SNAPSHOTS + 1):  # Litestream goes on after the newest of each level
        spans = {key: span for key, span in lineage.spans.items() if span[0] == level}
        assert not spans or max(spans, key=lambda key: spans[key][2]) not in gone
    single = [lineage.spans[key][2] for key in gone if lineage.spans[key][0] == 0]
    assert max(single, default=0) <= lineage.last(1)  # it compacts what it has not yet


def test_what_is_older_than_the_base_is_chosen() -> None:
    """The newest snapshot that is not after the oldest kept state is the base: it begins there."""
    lineage = Lineage(s3=False)
    for txid in range(1, 9):
        lineage.add(0, txid, txid, txid)
    lineage.add(1, 1, 4, 4)
    lineage.add(1, 5, 8, 8)
    for txid in (2, 5, 7):
        lineage.add(SNAPSHOTS, 1, txid, txid)

    def chosen(needed_from: int | None) -> set[tuple[int, int, int]]:
        since = START + timedelta(hours=100)
        files = choose_files(lineage.files, needed_from=needed_from, since=since)
        return {lineage.spans[each.key] for each in files}

    assert chosen(1) == set()
    assert chosen(4) == {(0, 1, 1), (0, 2, 2)}
    assert chosen(6) == {*((0, n, n) for n in range(1, 6)), (1, 1, 4), (SNAPSHOTS, 1, 2)}
    everything = {*((0, n, n) for n in range(1, 8)), (1, 1, 4)}
    assert chosen(None) == {*everything, (SNAPSHOTS, 1, 2), (SNAPSHOTS, 1, 5)}


def test_files_of_a_lineage_without_a_snapshot_all_stay() -> None:
    """Then everything begins with its first transaction."""
    lineage = Lineage(s3=True)
    lineage.add(0, 1, 1, 0)
    lineage.add(1, 1, 1, 0)
    assert choose_files(lineage.files, needed_from=1, since=START + timedelta(days=9)) == []
