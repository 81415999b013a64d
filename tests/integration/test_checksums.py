"""A primary's checksums where Litestream's own copy of a transaction is no use (invariant I4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace.errors import LitestreamError
from headrace.keys import PrimaryPaths
from ingest.checksums import Checksums
from ingest.metrics import IngestMetrics
from tests.integration.reader_kit import ORDERS, Publisher
from tests.integration.slots_kit import with_checksum

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.generation import Cut


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    """Give a publisher of no databases yet."""
    return Publisher(tmp_path)


def begin(publisher: Publisher) -> tuple[Checksums, Cut]:
    """Give a primary's checksums, and a cut whose local copy is damaged."""
    paths = PrimaryPaths(publisher.root / "volume")
    cut = publisher.write("sales", *ORDERS)
    local = paths.level0("sales", cut.lineage, cut.txid)
    local.parent.mkdir(parents=True)
    local.write_bytes(b"damaged")
    paths.staging.mkdir()
    return Checksums(paths, publisher.store, IngestMetrics()), cut


async def test_checksum_that_cannot_be_followed_is_that_of_the_restored_database(
    publisher: Publisher,
) -> None:
    """Whatever happened to the local copy, what is published is what readers can get."""
    checksums, cut = begin(publisher)

    sums = await checksums.advance("sales", cut)

    expected = with_checksum(publisher, "sales", cut)
    assert (sums.txid, sums.pages, sums.value) == (cut.txid, cut.pages, expected.checksum)
    assert list((publisher.root / "volume" / "staging").iterdir()) == []


async def test_checksum_without_a_replica_is_refused(publisher: Publisher) -> None:
    """What cannot be restored gets no checksum, and the reason is Litestream's own."""
    checksums, cut = begin(publisher)
    publisher.remove_replica("sales", cut)

    with pytest.raises(LitestreamError, match=r"cannot restore sales: .*no matching backup"):
        await checksums.advance("sales", cut)


async def test_checksum_that_was_half_written_is_worked_out_anew(publisher: Publisher) -> None:
    """Killed after the shares of a change and before their header, it publishes the right one."""
    paths = PrimaryPaths(publisher.root / "volume")
    cut = publisher.write("sales", *ORDERS)
    path = paths.sums("sales", cut.lineage)
    path.parent.mkdir(parents=True)
    await Checksums(paths, publisher.store, IngestMetrics()).advance("sales", cut)
    header = path.read_bytes()[:64]
    cut = publisher.write("sales", "INSERT INTO orders (item) VALUES ('lamp')")
    await Checksums(paths, publisher.store, IngestMetrics()).advance("sales", cut)
    path.write_bytes(header + path.read_bytes()[64:])

    sums = await Checksums(paths, publisher.store, IngestMetrics()).advance("sales", cut)

    expected = with_checksum(publisher, "sales", cut)
    assert (sums.txid, sums.pages, sums.value) == (cut.txid, cut.pages, expected.checksum)
