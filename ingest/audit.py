"""The audit log: who wrote what, from where, and what came of it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog

from headrace.errors import Refusal
from ingest.audit_rows import (
    BEGUN,
    OK,
    PRUNED_AT_ONCE,
    AuditRow,
    insert_audit,
    insert_begun,
    prune_audit,
    read_audit,
    set_outcome,
)
from ingest.token_store import write_uses

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime, timedelta

    from ingest.journal import Journal
    from ingest.token_store import TokenStore
    from ingest.writer import Writer

log = structlog.get_logger()

WRITE_EVERY_S = 1.0
PRUNE_EVERY_S = 3600.0
KINDS_AT_ONCE = 1000  # of refused attempts that are told apart between two writes

_Kind = tuple[str, str, str, str, str | None, str]


class AuditLog:
    """Writes the log, and reads it.

    What is done in the journal anyway (uploads, tokens) adds its rows in that transaction
    (audit_rows.py). Refused attempts are many if somebody wants them to be: alike ones are counted
    in one row, a second later.

    Args:
        journal: Where it is kept.
        tokens: Whose last uses are written down along with it.
        now: Gives the time, by a clock that never jumps.
        retention: How long rows are kept.
    """

    def __init__(
        self,
        journal: Journal,
        tokens: TokenStore,
        now: Callable[[], datetime],
        retention: timedelta,
    ) -> None:
        self._journal = journal
        self._tokens = tokens
        self._now = now
        self._retention = retention
        self._refused: Counter[_Kind] = Counter()

    async def add(self, writer: Writer, what: str, **members: Any) -> None:
        """Write down something that was done, durably."""
        row = AuditRow.of(writer, what, self._now(), **members)
        await self._journal.change(lambda db: insert_audit(db, [row]))

    def note_refused(
        self, writer: Writer, what: str, code: str, database: str | None = None
    ) -> None:
        """Count an attempt that was refused; it is written down a little later."""
        kind = (writer.id, writer.name, writer.address, what, database, code)
        if kind not in self._refused and len(self._refused) >= KINDS_AT_ONCE:
            kind = (writer.id, writer.name, "", what, None, code)
        self._refused[kind] += 1

    @asynccontextmanager
    async def during(
        self,
        writer: Writer,
        what: str,
        *,
        database: str | None = None,
        detail: str | None = None,
    ) -> AsyncIterator[None]:
        """Write down that something begins, and after the block how it ended.

        If the primary ends in between, the row says ``begun``.
        """
        row = AuditRow.of(
            writer, what, self._now(), database=database, detail=detail, outcome=BEGUN
        )
        row_id = await self._journal.change(lambda db: insert_begun(db, row))
        outcome = "internal-error"
        try:
            yield
            outcome = OK
        except Refusal as refusal:
            outcome = refusal.code
            raise
        finally:
            await self._journal.change(lambda db: set_outcome(db, row_id, outcome))

    async def read(self, *, before: int, limit: int) -> list[dict[str, Any]]:
        """Read rows, newest first; ``before`` an id."""
        await self.write()
        return await self._journal.look(lambda db: read_audit(db, before=before, limit=limit))

    async def write(self) -> None:
        """Write down what was only counted until now, and when tokens were used."""
        used = self._tokens.take_uses()
        refused, self._refused = self._refused, Counter()
        if not used and not refused:
            return
        at = self._now()
        rows = [
            AuditRow(
                at=at, who=who, name=name, address=address, what=what, database=database,
                outcome=code, times=times,
            )
            for (who, name, address, what, database, code), times in refused.items()
        ]  # fmt: skip

        def write(db: sqlite3.Connection) -> None:
            insert_audit(db, rows)
            write_uses(db, used)

        try:
            await self._journal.change(write)
        except BaseException:
            self._refused.update(refused)
            self._tokens.give_back_uses(used)
            raise

    async def run(self) -> None:
        """Write and prune now and then, until cancelled; what is left is written at the end."""
        loop = asyncio.get_running_loop()
        prune_at_s = loop.time()
        try:
            while True:
                await self._try(self.write)
                if loop.time() >= prune_at_s:
                    await self._try(self.prune)
                    prune_at_s = loop.time() + PRUNE_EVERY_S
                await asyncio.sleep(WRITE_EVERY_S)
        finally:
            await self._try(self.write)

    async def prune(self) -> None:
        """Delete rows that are older than their retention."""
        until = self._now() - self._retention
        pruned = PRUNED_AT_ONCE
        while pruned == PRUNED_AT_ONCE:
            pruned = await self._journal.change(lambda db: prune_audit(db, until))

    async def _try(self, work: Callable[[], Any]) -> None:
        try:
            await work()
        except (sqlite3.Error, OSError) as exc:  # of a disk that is full
            log.warning("audit log not written", reason=str(exc))
