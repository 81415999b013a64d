"""What writes did to the tables: for the receipt, and for the counts that readers show."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.names import quote_identifier
from headrace.receipt import TableOutcome

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from ingest.rows.writes import Answer


@dataclass(slots=True, kw_only=True)
class Change:
    """What one request did to one table.

    Attributes:
        table: Its name.
        rows: Rows that were sent.
        added: Rows that are new.
        changed: Rows that may have another value.
        removed: Rows that are gone.
        recount: Whether the rows must be counted, because nobody knows what else was done.
        altered: Whether the table itself was made or changed.
        dropped: Whether the table is gone.
    """

    table: str
    rows: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    recount: bool = False
    altered: bool = False
    dropped: bool = False

    @property
    def written(self) -> bool:
        """Whether anything is different in the database."""
        numbers = self.added or self.changed or self.removed
        return bool(numbers or self.recount or self.altered or self.dropped)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """One request that was applied.

    Attributes:
        answer: What it is answered with.
        changes: What it did; nothing if it was refused.
    """

    answer: Answer
    changes: list[Change] = field(default_factory=list)


def count_after(
    db: sqlite3.Connection, before: Mapping[str, int], changes: Iterable[Change]
) -> tuple[dict[str, int], tuple[TableOutcome, ...]]:
    """Give the rows of every table after some changes, and what was done to each that they touch.

    Args:
        db: The database, with the changes.
        before: The rows of every table before.
        changes: In the order in which they were done.
    """
    sums: defaultdict[str, Change] = defaultdict(lambda: Change(table=""))
    tables = dict(before)
    recounted: set[str] = set()
    for each in changes:
        total = sums[each.table]
        total.rows += each.rows
        total.added += each.added
        total.changed += each.changed
        total.removed += each.removed
        if each.dropped:
            tables.pop(each.table, None)
            recounted.discard(each.table)
        else:
            tables[each.table] = tables.get(each.table, 0) + each.added - each.removed
            if each.recount:
                recounted.add(each.table)
    for name in recounted & tables.keys():
        query = f"SELECT count(*) FROM main.{quote_identifier(name)}"  # noqa: S608
        rows = db.execute(query).fetchone()[0]
        sums[name].added += max(0, rows - tables[name])
        sums[name].removed += max(0, tables[name] - rows)
        tables[name] = rows
    outcomes = tuple(
        TableOutcome(
            name=name,
            rows=total.rows,
            added=total.added,
            changed=total.changed,
            removed=total.removed,
            unchanged=max(0, tables.get(name, 0) - total.added - total.changed),
        )
        for name, total in sums.items()
    )
    return tables, outcomes
