"""What changes a database, and in which order, also after a stop in the middle."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from headrace.errors import Refusal
from headrace.receipt import UploadState
from ingest import regions, roll_call
from ingest.audit_rows import AuditRow
from ingest.merge.database import connect
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


async def test_deletion_of_a_table_is_a_write_like_any_other(led: LeadingPrimary) -> None:
    """It has a receipt, so that a stop in the middle is made good; case does not matter."""
    said = {"tables": {"t": {"title": "Numbers"}}}
    await led.ask("PATCH", "/ingest/databases/d/metadata", json=said)
    assert (await led.ask("DELETE", "/ingest/databases/d/_headrace_merges"))[0] == 404
    before = led.node.primary.state.number

    status, gone = await led.ask("DELETE", "/ingest/databases/d/T")

    assert (status, gone) == (200, {"removed": "d/T", "generation": before + 1})
    (entry,) = await led.entries(before)
    assert (entry.databases["d"].tables, entry.databases["d"].metadata) == ({}, {})
    _, receipt = await led.ask("GET", f"/ingest/receipts/{entry.cause['receipt']}")
    assert (receipt["state"], receipt["generation"]) == ("published", before + 1)
    assert [(each["name"], each["removed"]) for each in receipt["tables"]] == [("t", 1)]
    status, again = await led.ask("DELETE", "/ingest/databases/d/t")
    assert (status, again["code"]) == (404, "not-found")
    _, log = await led.ask("GET", "/ingest/audit")
    rows = [row for row in log["audit"] if row["what"] == "delete-table"]
    assert {(row["detail"], row["outcome"]) for row in rows} == {
        ("T", "published"),
        (None, "not-found"),
    }


async def test_database_that_its_generation_does_not_describe_is_published_as_it_is(
    tmp_path: Path,
) -> None:
    """I2: no reader shows a generation that names a table which is not there, or wrong counts.

    So it is after a stop amid the deletion of a table by a version that did not journal it, and
    after a merge whose publication failed; and in each generation that came of that.
    """
    async with leading(tmp_path) as led:
        primary, journal = led.node.primary, led.node.journal
        for filename, database in (("t.csv", "d"), ("more.csv", "d"), ("t.csv", "good")):
            await led.upload(b"n\n1\n", filename=filename, database=database)
        failed = await journal.find((await led.upload(b"n\n1\n", filename="e.csv"))["id"])
        assert failed is not None
        await journal.save(replace(failed, state=UploadState.FAILED))
        right = primary.cut("d")
        path = led.node.paths.database("d", right.lineage)
        with closing(connect(path)) as db:
            db.execute("DROP TABLE t")
        wrong = {
            "d": await primary.replicate("d", right),
            "e": replace(primary.cut("e"), tables={"e": 5}),
        }
        broken = await primary.publish(cause={"kind": "rebuild"}, databases=wrong)

    async with leading(tmp_path) as led:
        primary = led.node.primary
        for database in ("d", "e", "good"):
            async with primary.database_lock(database):
                pass
        assert primary.cut("d").tables == {"more": 1}
        assert primary.cut("e").tables == {"e": 1}
        assert primary.state.number == broken.number + 2  # nothing of the one that is right

        await led.upload(b"n\n2\n", filename="more.csv", database="d")
        await led.node.rollback.to(broken.number, "d")
        assert primary.cut("d").tables == {"more": 1}


async def test_region_that_falls_silent_is_told_of_until_it_is_heard_again(
    led: LeadingPrimary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for it any more, and whoever asks is told what it showed last."""
    report = {"reader": "1", "region": "syd", "generation": 0}
    await led.ask("POST", "/-/readers", json=report)
    with monkeypatch.context() as patch:
        patch.setattr(roll_call, "SILENT_AFTER", timedelta(0))
        patch.setattr(regions, "GONE_AFTER_S", -1.0)
        _, status = await led.ask("GET", "/ingest/status")
        await led.ask("POST", "/-/readers", json={**report, "stopping": True})
        _, stopped = await led.ask("GET", "/ingest/status")
    syd = status["regions"]["syd"]
    assert (syd["readers"], syd["machines"], syd["generation"]) == (0, [], 0)
    assert min(syd["heard_s_ago"], syd["seconds_behind"]) >= 0
    assert stopped["regions"] == {}
    await led.ask("POST", "/-/readers", json=report)
    _, status = await led.ask("GET", "/ingest/status")
    assert status["regions"]["syd"]["readers"] == 1


async def test_database_that_is_rolled_back_is_changed_by_that(led: LeadingPrimary) -> None:
    """Whoever reads when a database was changed is told when it became what it is."""
    await led.upload(b"n\n2\n", filename="t.csv", database="d")
    before = led.node.primary.state.databases["d"].updated_at

    back = await led.node.rollback.to(1, "d")

    assert back.state.databases["d"].updated_at > before
    assert back.state.databases["d"].source == (await led.entries(0))[0].databases["d"].source
