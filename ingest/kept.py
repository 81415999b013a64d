"""What is kept: the generations of the retention, and what they name. All times are the store's.

A generation is kept for its retention after the next one took its place, so that what was deleted
or overwritten can be brought back for so long, however old it is; the newest is always kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.errors import LogError
from headrace.history import read_at

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from headrace.generation import Cut, Entry, State
    from headrace.log import GenerationLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What some generations name.

    Attributes:
        lineages: Each database with a lineage of it: the oldest TXID that is named.
        receipts: Ids of the uploads that they came from.
    """

    lineages: Mapping[tuple[str, str], int]
    receipts: frozenset[str]


def find_first_kept(written_at: Mapping[int, datetime], *, newest: int, since: datetime) -> int:
    """Give the oldest generation that is kept; all after it are kept as well.

    Args:
        written_at: When each entry of the log was written; those that are pruned are not there.
        newest: The newest generation.
        since: What took the place of another one after that is young.
    """
    young = (number - 1 for number, at in written_at.items() if at > since and number <= newest)
    return min(young, default=newest)


class KeptGenerations:
    """Reads what the kept generations name; each entry once.

    Args:
        generations: The log.
    """

    def __init__(self, generations: GenerationLog) -> None:
        self._log = generations
        self._read: dict[int, Named] = {}

    async def read(self, first: int, newest: int) -> Named:
        """Give what the generations from one to another name, both included.

        Raises:
            LogError: One of them is not there, or cannot be read.
            StoreError: The store could not be asked.
        """
        found = [_named_by(await read_at(self._log, first))]
        for number in range(first, newest + 1):
            if number not in self._read:
                entry = await self._log.find_entry(number)
                if entry is None:
                    if number > first:
                        raise LogError(f"find no generation {number}, which is kept")
                    continue  # of the first there may be a checkpoint alone
                self._read[number] = _named_in(entry)
            found.append(self._read[number])
        self._read = {number: each for number, each in self._read.items() if number >= first}
        lineages: dict[tuple[str, str], int] = {}
        for each in found:
            for pair, txid in each.lineages.items():
                lineages[pair] = min(txid, lineages.get(pair, txid))
        return Named(
            lineages=lineages, receipts=frozenset().union(*(each.receipts for each in found))
        )


def _named_by(state: State) -> Named:
    return Named(lineages=_lineages(state.databases), receipts=frozenset())


def _named_in(entry: Entry) -> Named:
    receipt = entry.cause.get("receipt")
    return Named(
        lineages=_lineages(entry.databases),
        receipts=frozenset() if receipt is None else frozenset({receipt}),
    )


def _lineages(databases: Mapping[str, Cut]) -> dict[tuple[str, str], int]:
    return {(name, cut.lineage): cut.txid for name, cut in databases.items()}
