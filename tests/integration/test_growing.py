"""The sums of a lineage's first transaction, followed while its file is written (invariant I4)."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from headrace.errors import LtxError
from headrace.keys import PrimaryPaths, ltx_key
from ingest.checksums import Checksums
from ingest.growing import follow_growing
from ingest.metrics import IngestMetrics
from tests.integration.reader_kit import Publisher
from tests.integration.slots_kit import with_checksum

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.generation import Cut

ROWS = (
    "CREATE TABLE t (x)",
    "INSERT INTO t SELECT randomblob(2000000)",
)


class Writing:
    """A file that is written as Litestream writes the first transaction of a real database."""

    def __init__(self, root: Path) -> None:
        self.publisher = Publisher(root)
        self.cut: Cut = self.publisher.write("sales", *ROWS)
        assert self.cut.txid == 1
        self.body = (
            root / "store" / ltx_key("sales", self.cut.lineage, 0, 1, 1, s3=False)
        ).read_bytes()
        self.paths = PrimaryPaths(root / "volume")
        self.paths.staging.mkdir(parents=True)
        self.written = self.paths.level0("sales", self.cut.lineage, 1)
        self.part = self.written.with_name(f"{self.written.name}.tmp")
        self.sums = self.paths.sums("sales", self.cut.lineage)

    def pieces(self) -> Iterator[bytes]:
        """Cut the file into pieces of any size, also within its header and its trailer."""
        rng = random.Random(7)
        edges = {1, 50, len(self.body) - 20, len(self.body) - 1, len(self.body)}
        edges.update(rng.randrange(len(self.body)) for _ in range(200))
        at = 0
        for edge in sorted(edges):
            yield self.body[at:edge]
            at = edge

    @property
    def expected(self) -> tuple[int, int, int | None]:
        """Give the TXID, the pages and the checksum of what Litestream restores."""
        cut = with_checksum(self.publisher, "sales", self.cut)
        return cut.txid, cut.pages, cut.checksum


@pytest.fixture
def writing(tmp_path: Path) -> Writing:
    """Give a file that is not begun yet."""
    return Writing(tmp_path)


def test_growing_file_in_pieces_has_the_checksum_of_the_restored_database(writing: Writing) -> None:
    """Wherever the writer is, nothing is given until the whole file is proven and in its place."""
    steps = follow_growing(writing.written, writing.sums)
    assert next(steps) is None
    writing.part.parent.mkdir(parents=True)
    with writing.part.open("xb", buffering=0) as file:
        for piece in writing.pieces():
            assert next(steps) is None
            file.write(piece)
    assert next(steps) is None
    writing.part.rename(writing.written)

    sums = next(steps)

    assert sums is not None
    assert (sums.txid, sums.pages, sums.value) == writing.expected


def test_growing_file_that_is_damaged_or_cut_short_has_no_sums(writing: Writing) -> None:
    """A file that does not prove itself is never believed."""
    rng = random.Random(8)
    writing.written.parent.mkdir(parents=True)
    for number in range(60):
        body = bytearray(writing.body)
        if number % 2:
            del body[rng.randrange(len(body)) :]
        else:
            body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
        writing.written.write_bytes(body)
        try:
            assert next(follow_growing(writing.written, writing.sums)) is None
        except LtxError:
            continue


def test_growing_file_that_was_written_anew_has_no_sums(writing: Writing) -> None:
    """What counts is the file that has the name at last, not an earlier attempt at it."""
    writing.part.parent.mkdir(parents=True)
    writing.part.write_bytes(writing.body)
    steps = follow_growing(writing.written, writing.sums)
    assert next(steps) is None
    writing.written.write_bytes(writing.body)

    assert next(steps) is None


async def test_checksum_of_a_first_transaction_is_followed_while_it_is_replicated(
    writing: Writing,
) -> None:
    """When the replication ends, the checksum is known: nothing is read once more."""
    checksums = Checksums(writing.paths, writing.publisher.store, IngestMetrics())
    async with checksums.following("sales", writing.cut.lineage):
        writing.part.parent.mkdir(parents=True)
        writing.part.write_bytes(writing.body)
        writing.part.rename(writing.written)
    writing.written.unlink()
    writing.publisher.remove_replica("sales", writing.cut)

    sums = await checksums.advance("sales", writing.cut)

    assert (sums.txid, sums.pages) == (1, writing.cut.pages)


async def test_checksum_of_a_first_transaction_that_is_damaged_is_worked_out_anew(
    writing: Writing,
) -> None:
    """Following ahead decides nothing: what is published is what readers can get."""
    checksums = Checksums(writing.paths, writing.publisher.store, IngestMetrics())
    async with checksums.following("sales", writing.cut.lineage):
        writing.written.parent.mkdir(parents=True)
        writing.written.write_bytes(writing.body[:5000] + b"damaged" + writing.body[5007:])

    sums = await checksums.advance("sales", writing.cut)

    assert (sums.txid, sums.pages, sums.value) == writing.expected
