"""Archived uploads, taken once more."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx

from headrace.store import Store
from tests.e2e.primary_kit import TOKEN, Primary, primaries

if TYPE_CHECKING:
    from pathlib import Path


def read(primary: Primary, receipt: dict[str, Any], sql: str) -> list[tuple[Any, ...]]:
    """Ask the live database of a receipt."""
    path = primary.data / "dbs" / receipt["database"] / receipt["lineage"]
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def count_receipts(primary: Primary) -> int:
    """Count all receipts."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return len(httpx.get(f"{primary.url}/ingest/receipts", headers=headers).json()["receipts"])


def test_archived_upload_is_taken_once_more_with_the_same_or_other_options(
    tmp_path: Path, store: str
) -> None:
    """What is not said anew is as it was; the new receipt names the old one, with a copy."""
    primary = Primary(tmp_path, "first", store=store).start().wait_until_up()
    with primaries(primary):
        refused = primary.post(b"n,zip\n1,5\n2\n", "bad rows.csv", types="zip:text").json()
        old_id = refused["instance"].rpartition("/")[2]

        answer = primary.reprocess(old_id, on_bad_rows="quarantine")

        assert answer.status_code == 201, answer.text
        new = answer.json()
        old = primary.receipt(old_id)
        assert (old["state"], old["from_receipt"]) == ("failed", None)
        assert new["from_receipt"] == old_id != new["id"]
        assert new["archive"] != old["archive"]
        assert (new["sha256"], new["filename"]) == (old["sha256"], "bad rows.csv")
        assert answer.headers["Location"] == f"/ingest/receipts/{new['id']}"
        assert read(primary, new, "SELECT n, zip FROM bad_rows") == [(1, "5")]
        assert read(primary, new, "SELECT line FROM bad_rows_rejects") == [(3,)]

        # Of the new one as well; an option without a value is the default again.
        more = primary.reprocess(new["id"], types="", key="k").json()
        assert more["from_receipt"] == new["id"]
        assert read(primary, more, "SELECT n, zip FROM bad_rows") == [(1, 5)]
        assert primary.reprocess(new["id"], types="", key="k").json() == more
        assert primary.reprocess(new["id"], mode="append", key="k").json()["code"] == "key-reused"
        more = primary.reprocess(new["id"], mode="append").json()
        assert read(primary, more, "SELECT n, zip FROM bad_rows") == [(1, "5"), (1, "5")]
        other = primary.reprocess(old_id, database="other", table="t", on_bad_rows="quarantine")
        assert other.json()["url"] == "/other"
        assert primary.stop() == 0


def test_archived_upload_that_is_gone_or_changed_is_refused(tmp_path: Path, store: str) -> None:
    """It says for how long uploads are kept; nothing is taken, and there is no new receipt."""
    primary = Primary(tmp_path, "first", "--upload-retention", "9", store=store)
    with primaries(primary.start().wait_until_up()):
        kept = primary.upload(b"n\n1\n", "kept.csv")
        gone = primary.upload(b"n\n1\n", "gone.csv")
        unarchived = primary.post(b"", "empty.csv").json()["instance"].rpartition("/")[2]
        objects = Store(store)

        async def damage(body: bytes) -> None:
            await objects.replace(kept["archive"], body)

        asyncio.run(objects.delete(gone["archive"]))
        answers = {"gone": primary.reprocess(gone["id"])}
        for name, body in (("changed", b"n\n2\n"), ("longer", b"n\n1\n1\n"), ("shorter", b"n")):
            asyncio.run(damage(body))
            answers[name] = primary.reprocess(kept["id"])
        answers["unarchived"] = primary.reprocess(unarchived)
        receipts = count_receipts(primary)

        assert {each.status_code for each in answers.values()} == {410}, answers
        assert {each.json()["code"] for each in answers.values()} == {"bytes-gone"}
        assert "9 days" in answers["gone"].json()["hint"]
        for name in ("changed", "longer", "shorter"):
            assert "not those that were sent" in answers[name].json()["detail"]
        assert "were not archived" in answers["unarchived"].json()["detail"]
        assert receipts == 3
        assert list((primary.data / "spool").iterdir()) == []
        listed = asyncio.run(objects.list_sizes("uploads", stall_s=30))
        assert list(listed) == [kept["archive"].removeprefix("uploads/")]

        assert primary.reprocess("0" * 32).status_code == 404
        assert primary.reprocess(kept["id"], moode="append").json()["code"] == "invalid-option"
        url = f"{primary.url}/ingest/receipts/{kept['id']}/reprocess"
        assert httpx.post(url).status_code == 401


def test_reprocessed_upload_that_was_accepted_is_finished_by_the_successor(
    tmp_path: Path, store: str
) -> None:
    """A 202 of a reprocessed upload survives the loss of the volume and of the first archive."""
    first = Primary(tmp_path, "first", store=store).start().wait_until_up()
    with primaries(first):
        lines = b"".join(b"%d\n" % number for number in range(200_000))
        old = first.upload(b"n\n" + lines, "sales.csv")
        accepted = first.reprocess(old["id"], mode="append", prefer="wait=0")
        assert accepted.status_code == 202
        first.kill()
        shutil.rmtree(first.data)
    asyncio.run(Store(store).delete(old["archive"]))
    second = Primary(tmp_path, "second", "--standby", "on", store=store).start()
    with primaries(second):
        second.wait_until_up()
        new = second.wait_until_published(accepted.json()["id"])
        assert new["from_receipt"] == old["id"]
        assert read(second, new, "SELECT count(*), sum(n) FROM sales") == [
            (400_000, 2 * sum(range(200_000)))
        ]
