"""The journal of receipts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from headrace.receipt import UploadState
from ingest.journal import Journal, Options
from ingest.succession import find_damage
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


async def write_journal(path: Path) -> str:
    """Have a journal of some pages; give the id of one of its receipts."""
    journal = Journal(path)
    receipts = [make_receipt(id=f"{n:032x}") for n in range(20)]
    await journal.add([(receipt, OPTIONS) for receipt in receipts])
    await journal.close()
    return receipts[7].id


@pytest.mark.parametrize("what", ["nothing", "page", "half", "all", "brace", "text"])
async def test_journal_that_is_damaged_is_found_out(tmp_path: Path, what: str) -> None:
    """Pages, ends and texts that are not what was written are seen before it is gone on with."""
    path = tmp_path / "r.db"
    receipt_id = await write_journal(path)
    body = bytearray(path.read_bytes())
    at = body.index(b'{"id": "' + receipt_id.encode())
    page = at // 4096 * 4096
    if what == "page":
        body[page : page + 4096] = bytes(4096)
    elif what == "half":
        del body[len(body) // 2 :]
    elif what == "brace":
        body[at] = ord("[")
    elif what == "text":
        body[at + 50] = 0xFF
    path.write_bytes(body)
    if what == "all":
        path.unlink()

    assert (find_damage(path) is None) == (what == "nothing")
