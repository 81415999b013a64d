"""The audit log and the tokens, in a real journal."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from headrace.clock import SteadyClock
from headrace.errors import Refusal
from headrace.tokens import hash_token
from ingest.audit import KINDS_AT_ONCE, AuditLog
from ingest.audit_rows import PRUNED_AT_ONCE, AuditRow, insert_audit
from ingest.journal import Journal, Options
from ingest.token_store import TokenStore
from ingest.writer import ROOT, Writer, read_scopes
from tests.unit.test_receipt import AT, make_receipt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime
    from pathlib import Path

SALES = read_scopes(["ingest:sales"])


class Clock:
    """A clock that the tests set."""

    def __init__(self) -> None:
        self.at = AT

    def now(self) -> datetime:
        """Give what it was set to."""
        return self.at


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    """Give an empty journal."""
    journal = Journal(tmp_path / "j.db", SteadyClock(AT))
    yield journal
    await journal.close()


async def make_store(journal: Journal, clock: Clock) -> TokenStore:
    """Give the tokens of a journal, as a primary that starts reads them."""
    store = TokenStore(journal, clock.now)
    await store.load()
    return store


async def test_token_is_found_by_its_text_until_it_ends(journal: Journal) -> None:
    """By this primary and the next; a text that differs in a letter is nobody's."""
    clock = Clock()
    store = await make_store(journal, clock)
    token, text = await store.create(ROOT, name="n", scopes=SALES, lifetime=timedelta(hours=1))
    again = await make_store(journal, clock)
    assert again.session_key == store.session_key != ""
    for each in (store, again):
        assert each.find(text) == token
        assert each.find(text[:-1]) is None
        assert each.find(hash_token(text)) is None
    assert token.fault(AT + timedelta(minutes=59)) is None
    assert token.fault(AT + timedelta(hours=1)) == "the token has expired"
    await store.revoke(ROOT, token.id)
    found = (await make_store(journal, clock)).find(text)
    assert found is not None
    assert found.fault(AT) == "the token was revoked"
    with pytest.raises(Refusal):
        await store.revoke(ROOT, "nobody")


async def test_last_use_is_noted_once_a_minute_without_a_write_of_its_own(
    journal: Journal,
) -> None:
    """A token that is used a thousand times a second costs one row a minute."""
    clock = Clock()
    store = await make_store(journal, clock)
    audit = AuditLog(journal, store, clock.now, timedelta(days=400))
    token, text = await store.create(ROOT, name="n", scopes=SALES, lifetime=None)
    store.note_use(token)
    assert store.take_uses()
    for seconds in (1, 59):
        clock.at = AT + timedelta(seconds=seconds)
        found = store.find(text)
        assert found is not None
        store.note_use(found)
        assert not store.take_uses()
    clock.at = AT + timedelta(seconds=61)
    store.note_use(store.get(token.id))
    await audit.write()
    again = await make_store(journal, clock)
    assert again.get(token.id).used_at == clock.at


async def test_what_could_not_be_written_is_written_later(journal: Journal) -> None:
    """A disk that is full for a moment costs neither a last use nor a refused attempt."""
    clock = Clock()
    store = await make_store(journal, clock)
    audit = AuditLog(journal, store, clock.now, timedelta(days=400))
    token, _text = await store.create(ROOT, name="n", scopes=SALES, lifetime=None)
    store.note_use(token)
    audit.note_refused(token.writer("10.0.0.1"), "upload", "forbidden", "wages")
    await journal.look(lambda db: db.execute("PRAGMA query_only = ON"))
    with pytest.raises(sqlite3.OperationalError):
        await audit.write()
    await journal.look(lambda db: db.execute("PRAGMA query_only = OFF"))
    await audit.write()
    assert (await make_store(journal, clock)).get(token.id).used_at == AT
    assert [row["times"] for row in await audit.read(before=100, limit=1)] == [1]


async def test_rows_are_kept_or_lost_with_what_they_are_about(journal: Journal) -> None:
    """A receipt that is not written leaves no row; many rows go in one transaction."""
    clock = Clock()
    audit = AuditLog(journal, await make_store(journal, clock), clock.now, timedelta(days=400))
    receipt = make_receipt()
    row = AuditRow.of(ROOT, "upload", AT, receipt=receipt.id, outcome="accepted")
    upload = (receipt, Options(table=None, media_type=None))
    await journal.add([upload], audit=[row])
    with pytest.raises(sqlite3.IntegrityError):
        await journal.add([upload], audit=[row])
    (found,) = await audit.read(before=100, limit=10)
    assert (found["receipt"], found["outcome"]) == (receipt.id, receipt.state.value)

    rows = [AuditRow.of(ROOT, "insert", AT, times=500) for _number in range(1000)]
    await journal.change(lambda db: insert_audit(db, rows))
    assert len(await audit.read(before=2000, limit=2000)) == 1001


async def test_refused_attempts_that_are_alike_are_one_row(journal: Journal) -> None:
    """A flood of them, of however many kinds, costs a bounded number of rows."""
    clock = Clock()
    audit = AuditLog(journal, await make_store(journal, clock), clock.now, timedelta(days=400))
    writer = Writer(id="token:1", name="n", scopes=SALES, address="10.0.0.1")
    for _number in range(5000):
        audit.note_refused(writer, "upload", "forbidden", "wages")
    await audit.write()
    (row,) = await audit.read(before=100, limit=10)
    assert (row["times"], row["database"], row["outcome"]) == (5000, "wages", "forbidden")
    for number in range(5000):
        audit.note_refused(writer, "upload", "forbidden", f"d{number}")
    rows = await audit.read(before=10_000, limit=10_000)
    assert len(rows) == 1 + KINDS_AT_ONCE + 1
    assert sum(row["times"] for row in rows) == 10_000


async def test_row_says_begun_until_it_is_known_how_it_ended(journal: Journal) -> None:
    """So a primary that ends in the middle leaves a trace."""
    clock = Clock()
    audit = AuditLog(journal, await make_store(journal, clock), clock.now, timedelta(days=400))

    async def outcome() -> str:
        (row, *_older) = await audit.read(before=100, limit=10)
        return str(row["outcome"])

    async with audit.during(ROOT, "prune"):
        assert await outcome() == "begun"
    assert await outcome() == "ok"
    with pytest.raises(Refusal):
        async with audit.during(ROOT, "prune"):
            raise Refusal("not-found", "it is not there")
    assert await outcome() == "not-found"
    with pytest.raises(ZeroDivisionError):
        async with audit.during(ROOT, "prune"):
            raise ZeroDivisionError
    assert await outcome() == "internal-error"


async def test_rows_older_than_their_retention_are_deleted(journal: Journal) -> None:
    """However many; the others stay."""
    clock = Clock()
    audit = AuditLog(journal, await make_store(journal, clock), clock.now, timedelta(days=400))
    old = [AuditRow.of(ROOT, "upload", AT) for _number in range(PRUNED_AT_ONCE + 5)]
    new = AuditRow.of(ROOT, "prune", AT + timedelta(days=1))
    await journal.change(lambda db: insert_audit(db, [*old, new]))
    clock.at = AT + timedelta(days=400, minutes=1)
    await audit.prune()
    (row,) = await audit.read(before=100_000, limit=10)
    assert row["what"] == "prune"


async def test_receipts_are_listed_of_some_databases_only(journal: Journal) -> None:
    """By an index, so that it costs the same in a journal of a million."""
    names = ["sales", "wages", None, "sales", "more"]
    options = Options(table=None, media_type=None)
    for number, name in enumerate(names):
        await journal.add([(make_receipt(id=f"{number:032x}", database=name), options)])
    found = await journal.read_newest(limit=10, databases={"sales", "more"})
    assert [int(receipt.id, 16) for receipt in found] == [4, 3, 0]
    assert await journal.read_newest(limit=10, databases=()) == []
    plan = await journal.look(
        lambda db: db.execute(
            "EXPLAIN QUERY PLAN SELECT receipt FROM receipts WHERE id < 'g' "
            "AND json_extract(receipt, '$.database') IN ('a', 'b') ORDER BY id DESC LIMIT 5"
        ).fetchall()
    )
    assert "receipts_database" in str(plan)
