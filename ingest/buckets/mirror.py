"""What was made of a file is deleted when that file is, where somebody asked for that.

A file is gone when two looks in a row that saw everything did not see it (an event that says so
counts as one). Since a bucket that is suddenly empty, or half empty, is more likely a mistake than
a wish, nothing more is deleted then: that is an error, until somebody deletes the databases, or
brings the files back. What was deleted in the last minutes counts, as events come one by one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from headrace.errors import Refusal
from headrace.receipt import UploadState
from ingest.audit_rows import ACCEPTED, AuditRow
from ingest.buckets.record import Known, find_receipts, read_known, write_known
from ingest.buckets.taking import dropper

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from headrace.receipt import Receipt
    from ingest.api import Node

log = structlog.get_logger()

AT_ONCE_S = 600.0  # in which at most half of the files go


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """What a look says of files that are not there.

    Attributes:
        confirmed: Those that two looks did not see.
        missing: Those that this one did not see.
        refused: Whether these are too many at once.
    """

    confirmed: frozenset[str]
    missing: frozenset[str]
    refused: bool


def find_gone(
    known: Collection[str],
    present: Collection[str],
    missed_before: Collection[str],
    *,
    deleted: int = 0,
) -> Gone:
    """Compare what is known with what a complete look saw. Pure.

    Args:
        known: Files that something was made of.
        present: Files that are there.
        missed_before: Those that the look before did not see, or an event says were deleted.
        deleted: How many deletions were mirrored lately.
    """
    missing = frozenset(set(known) - set(present))
    too_many = 2 * (len(missing) + deleted) > len(known) + deleted
    refused = bool(missing) and (not present or too_many)
    confirmed = frozenset() if refused else missing & frozenset(missed_before)
    return Gone(confirmed=confirmed, missing=missing, refused=refused)


@dataclass(slots=True, kw_only=True)
class Mirror:
    """Follows the deletions of one place.

    Attributes:
        node: The primary.
        place: URL of the place.
        missed: Files that the last look did not see, or that an event says were deleted.
    """

    node: Node
    place: str
    missed: set[str] = field(default_factory=set)
    _refused: bool = False
    _deleted_s: list[float] = field(default_factory=list)

    async def read(self) -> dict[str, Known]:
        """Read what is known of the files."""
        return await self.node.journal.look(lambda db: read_known(db, self.place))

    async def note(self, files: Mapping[str, Known]) -> None:
        """Write down what was made of files."""
        if files:
            await self.node.journal.change(lambda db: write_known(db, self.place, files))

    async def follow(self, known: Mapping[str, Known], present: Collection[str]) -> bool:
        """Delete what was made of files that are gone; after a look that saw everything.

        Returns:
            Whether it is done; else another look is needed, since uploads are on their way.

        Raises:
            HeadraceError: It is left for later.
        """
        ids = {name: each.receipt_id for name, each in known.items() if each.receipt_id}
        if not ids.keys() - set(present):
            self._tell(find_gone((), present, ()))
            self.missed.clear()
            return True
        receipts = await self.node.journal.look(lambda db: find_receipts(db, ids.values()))
        made = {name: receipts[each] for name, each in ids.items() if each in receipts}
        # What somebody else has deleted is none of ours any more.
        shown = {name: each for name, each in made.items() if self._tables(each)}
        left = {name: known[name] for name in ids.keys() - shown.keys() - set(present)}
        now_s = asyncio.get_running_loop().time()
        self._deleted_s = [each for each in self._deleted_s if each > now_s - AT_ONCE_S]
        gone = find_gone(shown.keys(), present, self.missed, deleted=len(self._deleted_s))
        self._tell(gone)
        self.missed = set(gone.missing)
        done = True
        for name in sorted(gone.confirmed):
            others = [each for other, each in shown.items() if other not in gone.missing]
            if not await self._delete(shown[name], others):
                done = False
                continue
            left[name] = known[name]
            self._deleted_s.append(now_s)
            log.info("deletion mirrored", place=self.place, receipt=shown[name].id)
            self.node.metrics.buckets.files.labels(self.place, "deleted").inc()
        await self.note(
            {name: Known(receipt_id=None, round=each.round + 1) for name, each in left.items()}
        )
        return done

    def _tell(self, gone: Gone) -> None:
        self.node.metrics.buckets.deletions_refused.labels(self.place).set(
            len(gone.missing) if gone.refused else 0
        )
        if gone.refused and not self._refused:
            log.error(
                "deletions not mirrored: more than half of the files are gone at once",
                place=self.place,
                missing=len(gone.missing),
            )
        self._refused = gone.refused

    def _tables(self, receipt: Receipt) -> set[str]:
        """Give the tables that an upload made, as far as they are there; of one on its way, any."""
        if not receipt.state.final:
            return {""}
        cut = self.node.primary.state.databases.get(receipt.database or "")
        if cut is None or receipt.state is not UploadState.PUBLISHED:
            return set()
        return {each.name for each in receipt.tables} & cut.tables.keys()

    async def _delete(self, receipt: Receipt, others: Collection[Receipt]) -> bool:
        """Delete the tables of an upload that no other file made as well; False: not yet.

        Raises:
            HeadraceError: It could not be done.
        """
        database = receipt.database or ""
        if not all(each.state.final for each in (receipt, *others) if each.database == database):
            return False
        self.node.check_keeping()
        kept = {
            table for each in others if each.database == database for table in self._tables(each)
        }
        tables = self._tables(receipt) - kept
        primary, audit, writer = self.node.primary, self.node.audit, dropper(self.place)
        try:
            if tables and tables >= primary.cut(database).tables.keys():
                async with audit.during(writer, "delete-database", database=database):
                    await primary.delete_database(database)
                return True
            for table in sorted(tables):
                row = AuditRow.of(
                    *(writer, "delete-table", self.node.now()),
                    database=database,
                    detail=table,
                    outcome=ACCEPTED,
                )
                await self.node.rows.drop_table(database, table, row)
        except Refusal as refusal:
            if refusal.code != "not-found":
                raise
        return True
