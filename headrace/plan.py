"""Which LTX files lead from one TXID to another. Pure.

Source: Litestream 0.5.17, ``replica.go``, ``CalcRestorePlan``; here the files may also begin at any
TXID that a slot is at, and the cheapest of all ways is taken instead of the greediest.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.keys import parse_ltx_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LEVELS = range(10)  # 0: one transaction a file; 1 to 8: compacted; 9: snapshots
REQUEST_BYTES = 64 * 1024  # what a further request costs, in bytes that could be sent instead


@dataclass(frozen=True, slots=True, kw_only=True)
class LtxFile:
    """One LTX file in the store.

    Attributes:
        level: 0 to 9.
        min_txid: First transaction in it, from 1; a file from 1 on holds the whole database.
        max_txid: Last transaction in it.
        size_bytes: Its size; 0 if it is not known.
    """

    level: int
    min_txid: int
    max_txid: int
    size_bytes: int = field(default=0, compare=False)


def single_transactions(after: int, upto: int) -> list[LtxFile]:
    """Give the level-0 files of the transactions after one, up to another."""
    return [LtxFile(level=0, min_txid=txid, max_txid=txid) for txid in range(after + 1, upto + 1)]


def decode_listing(level: int, sizes: Mapping[str, int]) -> list[LtxFile]:
    """Read the names of one level's files; what is none is left out."""
    return [
        LtxFile(
            level=level,
            min_txid=parsed[0],
            max_txid=parsed[1],
            size_bytes=size_bytes,
        )
        for name, size_bytes in sizes.items()
        if (parsed := parse_ltx_name(name))
    ]


def find_plan(files: Iterable[LtxFile], *, after: int, upto: int) -> list[LtxFile] | None:
    """Give the files that lead from a TXID to another at the least cost, in their order.

    A file can be applied to any state that has what comes before its first transaction, also to
    one that has some of its own: it then writes their pages again.

    Args:
        files: What there is.
        after: The TXID that is here; 0 for nothing.
        upto: The TXID that is wanted.

    Returns:
        The files; None if none lead there.
    """
    usable = sorted(
        (file for file in files if after < file.max_txid <= upto and file.min_txid >= 1),
        key=lambda file: (file.max_txid, file.min_txid),
    )
    # The TXIDs that can be reached, ascending; and what each costs. One that is lower and not
    # cheaper than another is left out, so the first that a file can follow is the cheapest.
    reached, costs = [after], [0]
    steps: dict[int, tuple[int, LtxFile]] = {}  # TXID -> the best way there: from where, by what
    best: dict[int, int] = {after: 0}
    for file in usable:
        index = bisect_left(reached, file.min_txid - 1)
        if index == len(reached) or reached[index] >= file.max_txid:
            continue
        cost = costs[index] + file.size_bytes + REQUEST_BYTES
        if cost >= best.get(file.max_txid, cost + 1):
            continue
        best[file.max_txid] = cost
        steps[file.max_txid] = (reached[index], file)
        while costs and costs[-1] >= cost:
            reached.pop()
            costs.pop()
        reached.append(file.max_txid)
        costs.append(cost)
    return _walk_back(steps, after, upto)


def _walk_back(
    steps: Mapping[int, tuple[int, LtxFile]], after: int, upto: int
) -> list[LtxFile] | None:
    plan: list[LtxFile] = []
    at = upto
    while at != after:
        if at not in steps:
            return None
        at, file = steps[at]
        plan.append(file)
    return plan[::-1]
