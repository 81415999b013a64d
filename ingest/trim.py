"""trim: the files of a live lineage that no kept generation needs, as the log is cut at its base.

The base is the newest snapshot that is not newer than the oldest kept generation: with all that
comes after it every kept generation can be restored, to the transaction. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.keys import parse_ltx_key

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from headrace.store import Listed

SNAPSHOTS = 9  # level


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    level: int
    last: int  # TXID
    listed: Listed


def choose_files(
    lineage: Iterable[Listed], *, needed_from: int | None, since: datetime
) -> list[Listed]:
    """Give the files of a lineage that nobody needs.

    Args:
        lineage: All of its files.
        needed_from: The oldest TXID that is to be restored, and all after it; None: only the newest
            state is.
        since: What was written after that stays: it may be read just now.
    """
    levels: defaultdict[int, list[_File]] = defaultdict(list)
    for listed in lineage:
        if (parsed := parse_ltx_key(listed.key)) is not None:
            level, _first, last = parsed
            levels[level].append(_File(level=level, last=last, listed=listed))
    snapshots = [each.last for each in levels[SNAPSHOTS]]
    if needed_from is not None:
        snapshots = [last for last in snapshots if last <= needed_from]
    base = max(snapshots, default=0)
    newest = {level: max(each.last for each in files) for level, files in levels.items() if files}
    return [
        each.listed
        for files in levels.values()
        for each in files
        if each.last <= base
        and not (each.level == SNAPSHOTS and each.last == base)
        and each.listed.modified_at <= since
        and _is_free(each, newest)
    ]


def _is_free(file: _File, newest: dict[int, int]) -> bool:
    """Say whether Litestream does without a file, which goes on after the newest of each level.

    Source: Litestream 0.5.17, ``db.go``, ``EnforceL0RetentionByTime``; ``compactor.go``,
    ``EnforceRetentionByTXID``.
    """
    if file.last == newest[file.level]:
        return False
    return file.level > 0 or file.last <= newest.get(1, 0)
