"""The last generations, as the log tells of them: read when somebody looks, and then remembered."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.errors import HeadraceError
from serve.groups import one_error

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from headrace.generation import Entry
    from headrace.log import GenerationLog

KEPT = 30
NAMES = 20  # of databases in one generation; a rollback may set thousands
READS_AT_ONCE = 10
WITHIN_S = 2.0  # what is not read by then is read when somebody looks again
MAY_NOT_BE_VISIBLE = (
    3  # of the newest: readers in other regions hear of an entry before they see it
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """One generation.

    Attributes:
        number: Its number.
        created_at: When it was published.
        kind: Why: ``ingest``, ``rows``, ``delete``, …
        files: Databases that it sets, each with the file that it came from; None: from none.
        removed: Databases that it removes.
        more: How many of both are left out.
    """

    number: int
    created_at: datetime
    kind: str
    files: Mapping[str, str | None]
    removed: tuple[str, ...]
    more: int = 0


class RecentGenerations:
    """Reads the last entries of the log, each once."""

    def __init__(self, log: GenerationLog) -> None:
        self._log = log
        self._known: dict[int, Brief] = {}
        self._first = 1  # what is before it is pruned

    async def read(self, newest: int) -> list[Brief]:
        """Give the last generations, oldest first; without those that cannot be read now."""
        oldest = max(newest - KEPT + 1, self._first)
        unknown = [each for each in range(oldest, newest + 1) if each not in self._known]
        turns = asyncio.Semaphore(READS_AT_ONCE)

        async def find(number: int) -> None:
            async with turns:
                entry = await self._log.find_entry(number)
            if entry is not None:
                self._known[number] = _describe(entry)
            elif number <= newest - MAY_NOT_BE_VISIBLE:
                self._first = max(self._first, number + 1)

        # What the store does not tell is the follower's to say.
        with suppress(HeadraceError, TimeoutError), one_error():
            async with asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as tasks:
                for number in unknown:
                    tasks.create_task(find(number))
        self._known = {each: brief for each, brief in self._known.items() if each > newest - KEPT}
        return [self._known[each] for each in sorted(self._known) if each <= newest]


def _describe(entry: Entry) -> Brief:
    names = [*entry.databases, *entry.removed]
    told = frozenset(names[:NAMES])
    return Brief(
        number=entry.number,
        created_at=entry.created_at,
        kind=str(entry.cause.get("kind", "")),
        files={
            name: cut.source.filename if cut.source else None
            for name, cut in entry.databases.items()
            if name in told
        },
        removed=tuple(name for name in entry.removed if name in told),
        more=len(names) - len(told),
    )
