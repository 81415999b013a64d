"""The journal of receipts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from headrace.receipt import UploadState
from ingest.journal import Journal, Options
from tests.unit.test_receipt import make_receipt

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = Options(table="orders", media_type=None)


async def test_journal_keeps_receipts_over_a_restart(tmp_path: Path) -> None:
    """What was saved is there after closing and opening again."""
    journal = Journal(tmp_path / "r.db")
    receipt = make_receipt()
    await journal.add([(receipt, OPTIONS)])
    merging = replace(receipt, state=UploadState.MERGING)
    await journal.save(merging)
    await journal.close()
    journal = Journal(tmp_path / "r.db")
    assert await journal.find(receipt.id) == merging
    assert await journal.read_unfinished() == [(merging, OPTIONS)]
    await journal.save(replace(receipt, state=UploadState.PUBLISHED))
    assert await journal.read_unfinished() == []
    assert await journal.find("0" * 32) is None
    await journal.close()


async def test_journal_pages_newest_first(tmp_path: Path) -> None:
    """Receipts are listed newest first, page by page."""
    journal = Journal(tmp_path / "r.db")
    receipts = [make_receipt(id=f"{n:032x}") for n in range(5)]
    for receipt in receipts:
        await journal.add([(receipt, OPTIONS)])
    first = await journal.read_newest(limit=3)
    assert first == receipts[:1:-1]
    assert await journal.read_newest(limit=3, before=first[-1].id) == receipts[1::-1]
    await journal.close()
