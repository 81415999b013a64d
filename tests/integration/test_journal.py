"""The journal of receipts."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from headrace.clock import SteadyClock
from headrace.errors import problem_document
from headrace.idempotency import KEPT_FOR, Claim
from headrace.receipt import UploadState
from ingest.journal import Journal, Options
from ingest.succession import find_damage
from tests.unit.test_receipt import AT, make_receipt

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = Options(table="orders", media_type=None)
CLOCK = SteadyClock(AT)


async def test_journal_keeps_receipts_over_a_restart(tmp_path: Path) -> None:
    """What was saved is there after closing and opening again."""
    journal = Journal(tmp_path / "r.db", CLOCK)
    receipt = make_receipt()
    await journal.add([(receipt, OPTIONS)])
    merging = replace(receipt, state=UploadState.MERGING)
    await journal.save(merging)
    await journal.close()
    journal = Journal(tmp_path / "r.db", CLOCK)
    assert await journal.find(receipt.id) == merging
    assert await journal.read_unfinished() == [(merging, OPTIONS)]
    await journal.save(replace(receipt, state=UploadState.PUBLISHED))
    assert await journal.read_unfinished() == []
    assert await journal.find("0" * 32) is None
    await journal.close()


async def test_journal_pages_newest_first(tmp_path: Path) -> None:
    """Receipts are listed newest first, page by page."""
    journal = Journal(tmp_path / "r.db", CLOCK)
    receipts = [make_receipt(id=f"{n:032x}") for n in range(5)]
    for receipt in receipts:
        await journal.add([(receipt, OPTIONS)])
    first = await journal.read_newest(limit=3)
    assert first == receipts[:1:-1]
    assert await journal.read_newest(limit=3, before=first[-1].id) == receipts[1::-1]
    await journal.close()


async def test_uploads_that_are_left_go_on_as_they_arrived(tmp_path: Path) -> None:
    """Of two versions of a dropped file, whose ids have no order, the later one comes last."""
    journal = Journal(tmp_path / "r.db", CLOCK)
    versions = [
        make_receipt(id=f"{number:032x}", created_at=AT + timedelta(milliseconds=at))
        for number, at in ((2, 300), (3, 301), (1, 302))
    ]
    for receipt in versions:
        await journal.add([(receipt, OPTIONS)])
    assert [receipt for receipt, _options in await journal.read_unfinished()] == versions
    await journal.close()


async def write_journal(path: Path) -> str:
    """Have a journal of some pages; give the id of one of its receipts."""
    journal = Journal(path, CLOCK)
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


async def test_receipt_that_finds_the_disk_full_leaves_the_journal_as_it_was(
    tmp_path: Path,
) -> None:
    """The next one is written as soon as there is room, and the failure says what it is (I8)."""
    journal = Journal(tmp_path / "r.db", CLOCK)
    await journal.add([(make_receipt(), OPTIONS)])
    pages = await limit_pages(journal, 1)
    large = make_receipt(id=f"{1:032x}", warnings=("x" * 100_000,))
    with pytest.raises(sqlite3.OperationalError) as failure:
        await journal.add([(large, OPTIONS)])
    assert failure.value.sqlite_errorname == "SQLITE_FULL"
    assert await journal.find(large.id) is None
    await limit_pages(journal, pages + 1000)
    await journal.add([(large, OPTIONS)])
    assert await journal.find(large.id) == large
    await journal.close()


async def limit_pages(journal: Journal, pages: int) -> int:
    """Let the journal have so many pages, or as many as it has; give how many that is."""
    query = f"PRAGMA max_page_count = {pages}"
    found: int = (await journal._run(lambda: journal._db.execute(query).fetchone()))[0]  # noqa: SLF001
    return found


async def test_key_is_forgotten_after_its_time(tmp_path: Path) -> None:
    """It stands for its request for 24 hours, by the clock that is given."""
    clock = SteadyClock(AT)
    journal = Journal(tmp_path / "r.db", clock)
    claim = Claim(key="k", fingerprint="f", receipts=("a",))
    await journal.add([(make_receipt(id="a"), OPTIONS)], claim)
    await journal.close()
    for later, known in ((KEPT_FOR - timedelta(minutes=1), True), (KEPT_FOR, False)):
        journal = Journal(tmp_path / "r.db", SteadyClock(AT + later + timedelta(seconds=30)))
        assert (await journal.find_claim("k") is not None) is known
        await journal.close()


async def test_key_says_what_of_its_request_is_to_be_tried_again(tmp_path: Path) -> None:
    """Of several files only those are that failed, and not by their own fault (I6)."""
    journal = Journal(tmp_path / "r.db", CLOCK)
    ends: list[dict[str, Any]] = [
        {"state": UploadState.PUBLISHED},
        {"state": UploadState.FAILED, "error": problem_document("disk-full", "it is")},
        {"state": UploadState.FAILED, "error": problem_document("invalid-file", "it is")},
    ]
    receipts = [make_receipt(id=f"{number:032x}", **end) for number, end in enumerate(ends)]
    ids = tuple(receipt.id for receipt in receipts)
    claim = Claim(key="k", fingerprint="f", receipts=ids)
    await journal.add([(receipt, OPTIONS) for receipt in receipts], claim)

    assert await journal.find_claim("k") == replace(claim, failed=frozenset(ids[1:2]))
    await journal.close()


async def test_journal_leaves_its_wal_to_litestream(tmp_path: Path) -> None:
    """Neither many receipts nor a look at it after a kill checkpoint it (I1)."""
    path = tmp_path / "r.db"
    journal = Journal(path, CLOCK)
    large = [make_receipt(id=f"{n:032x}", warnings=("x" * 100_000,)) for n in range(60)]
    for receipt in large:
        await journal.add([(receipt, OPTIONS)])
    wal = path.with_name("r.db-wal")
    assert wal.stat().st_size > 1000 * 4096  # where SQLite would checkpoint by itself
    assert path.stat().st_size == 4096

    killed = tmp_path / "killed"
    killed.mkdir()
    for each in (path, wal):
        shutil.copy(each, killed)
    assert find_damage(killed / "r.db") is None
    assert (killed / "r.db-wal").read_bytes() == wal.read_bytes()
    assert (killed / "r.db").stat().st_size == 4096
    await journal.close()


async def test_notes_that_are_replaced_push_no_other_out(tmp_path: Path) -> None:
    """How many of a kind are kept is a number of notes, whatever was deleted meanwhile."""
    journal = Journal(tmp_path / "r.db", CLOCK)
    await journal.put_note("schedule", "old", {"n": 0}, keep=3)
    for number in range(10):
        await journal.put_note("schedule", f"new {number}", {}, keep=3)
        await journal.delete_note("schedule", f"new {number - 1}")
    assert await journal.find_note("schedule", "old") == {"n": 0}
    for number in range(3):
        await journal.put_note("schedule", f"last {number}", {}, keep=3)
    assert await journal.find_note("schedule", "old") is None
    await journal.close()
