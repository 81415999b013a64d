"""What may change a database, and in which order, after a stop in the middle of an upload."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from headrace.errors import Refusal
from headrace.receipt import UploadState
from ingest.audit_rows import AuditRow
from ingest.rows.writes import InsertRows
from tests.integration.primary_kit import leading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.integration.primary_kit import LeadingPrimary

pytestmark = pytest.mark.asyncio


@pytest.fixture
async def led(tmp_path: Path) -> AsyncIterator[LeadingPrimary]:
    """Give a primary with a table of two rows, the second of which was appended."""
    async with leading(tmp_path) as led:
        await led.upload(b"n\n1\n", filename="t.csv", database="d")
        yield led


def _insert(led: LeadingPrimary) -> Awaitable[Any]:
    audit = AuditRow(at=led.node.now(), who="root", name="", address="", what="insert-rows")
    return led.node.rows.write("d", InsertRows(table="t", rows=[{"n": 3}]), 1, audit)


def _delete(led: LeadingPrimary) -> Awaitable[Any]:
    return led.node.primary.delete_database("d")


def _roll_back(led: LeadingPrimary) -> Awaitable[Any]:
    return led.node.rollback.to(1, None)


@pytest.mark.parametrize(
    ("state", "change"),
    [
        (UploadState.MERGING, _insert),
        (UploadState.REPLICATING, _delete),
        (UploadState.REPLICATING, _roll_back),
    ],
)
async def test_upload_merged_before_a_stop_is_published_before_anything_else(
    led: LeadingPrimary, state: UploadState, change: Callable[[LeadingPrimary], Awaitable[Any]]
) -> None:
    """I6: else its id in the database is overwritten, and it would be merged again."""
    node = led.node
    sent = await led.upload(b"n\n2\n", filename="t.csv", database="d", mode="append")
    receipt = await node.journal.find(sent["id"])
    assert receipt is not None
    await node.journal.save(replace(receipt, state=state, generation=None, published_at=None))

    async with node.primary.database_lock("d"):
        await node.uploads.resume(await node.journal.read_unfinished())
        changing = asyncio.ensure_future(change(led))
        for _turn in range(10):  # of the loop, after which it has asked for the database
            await asyncio.sleep(0)
    await changing
    await node.uploads.wait_all()

    published, *others = await led.entries(sent["generation"])
    assert published.cause["receipt"] == sent["id"]
    assert published.databases["d"].tables == {"t": 2}
    assert [each.cause.get("receipt") == sent["id"] for each in others] == [False]
    ended = await node.journal.find(sent["id"])
    assert ended is not None
    assert ended.generation == published.number


async def test_replication_of_a_lineage_that_is_gone_is_given_up(led: LeadingPrimary) -> None:
    """Nothing of it can ever be in the store: whoever waits for it would block its database."""
    cut = led.node.primary.unpublished_cut("0" * 16, {}, None)
    with pytest.raises(Refusal, match="is gone"):
        await led.node.primary.replicate("d", cut)
