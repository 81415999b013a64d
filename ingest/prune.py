"""prune: what nobody needs of the generation log any more is deleted, oldest first.

The log is cut at a checkpoint, its new base. It is below the one that the hint names, because
readers start there, and older than that one by the retention: so all times are the store's own. The
base and all that comes after it stay.

Deleting in the order of the numbers, and entry N before checkpoint N, keeps every entry after each
checkpoint that is there: so a prune may end anywhere, and the next one goes on. What may go once
may go for ever: so two that prune do no harm.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from headrace.keys import (
    CHECKPOINTS_PREFIX,
    GENERATIONS_PREFIX,
    checkpoint_key,
    generation_key,
    parse_log_key,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from headrace.log import GenerationLog
    from headrace.store import Store
    from ingest.metrics import IngestMetrics

log = structlog.get_logger()

STALL_S = 30.0  # without an answer of the store


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class LogObject:
    """An entry or a checkpoint of the log; they sort in the order in which they are deleted."""

    number: int
    is_checkpoint: bool
    size_bytes: int = 0

    @property
    def kind(self) -> str:
        """``checkpoint`` or ``entry``."""
        return "checkpoint" if self.is_checkpoint else "entry"

    @property
    def key(self) -> str:
        """Its key in the store."""
        return checkpoint_key(self.number) if self.is_checkpoint else generation_key(self.number)

    def is_below(self, base: int) -> bool:
        """Whether a log that begins with a checkpoint does without it."""
        return self.number < base or (self.number == base and not self.is_checkpoint)


def choose_base(checkpoints: Mapping[int, datetime], *, last: int, retention: timedelta) -> int:
    """Give the checkpoint that the log is to begin with; 0 if it is to stay as it is.

    Args:
        checkpoints: When each was written, by the store's clock.
        last: The one that the hint names.
        retention: Every entry that was written less than that before the last checkpoint is kept.
    """
    if last not in checkpoints:
        return 0
    keep_since = checkpoints[last] - retention
    old = (number for number, at in checkpoints.items() if number < last and at <= keep_since)
    return max(old, default=0)


class LogPruner:
    """Deletes what is too old of the log.

    Args:
        store: Where it lies.
        generations: The log.
        retention: How long entries are kept; a day at least (``headrace.log.SURELY_KEPT_S``).
        metrics: Counts what was deleted.
    """

    def __init__(
        self, store: Store, generations: GenerationLog, retention: timedelta, metrics: IngestMetrics
    ) -> None:
        self._store = store
        self._log = generations
        self._retention = retention
        self._metrics = metrics
        self._pruned_at = 0  # the last checkpoint at that time

    async def prune(self) -> None:
        """Prune once.

        Raises:
            LogError: The last checkpoint cannot be read, so nothing was deleted.
            StoreError: The store could not be asked; what was deleted by then was not needed.
        """
        last = (await self._log.read_checkpoint()).number
        if last == self._pruned_at:
            return
        await self._delete(await self._find_below(last))
        self._pruned_at = last

    async def find_below(self) -> list[LogObject]:
        """Give what ``prune`` would delete, in that order.

        Raises:
            LogError: The last checkpoint cannot be read.
            StoreError: The store could not be asked.
        """
        return await self._find_below((await self._log.read_checkpoint()).number)

    async def _find_below(self, last: int) -> list[LogObject]:
        base = choose_base(await self._list_checkpoints(), last=last, retention=self._retention)
        return sorted(await self._list_below(base)) if base else []

    async def _list_checkpoints(self) -> dict[int, datetime]:
        listed = self._store.list_objects(CHECKPOINTS_PREFIX, stall_s=STALL_S)
        return {
            parsed[0]: each.modified_at
            async for each in listed
            if (parsed := parse_log_key(each.key)) is not None
        }

    async def _list_below(self, base: int) -> list[LogObject]:
        """List what goes; the rest is not remembered, since a log may have millions of entries."""
        below: list[LogObject] = []
        async for each in self._store.list_objects(GENERATIONS_PREFIX, stall_s=STALL_S):
            parsed = parse_log_key(each.key)
            if parsed is not None:
                found = LogObject(
                    number=parsed[0], is_checkpoint=parsed[1], size_bytes=each.size_bytes
                )
                if found.is_below(base):
                    below.append(found)
        return below

    async def _delete(self, ordered: list[LogObject]) -> None:
        counts = Counter[str]()
        for each in ordered:
            await self._store.delete(each.key)
            self._metrics.pruned.labels(each.kind).inc()
            counts[each.kind] += 1
        if ordered:
            log.info("log pruned", entries=counts["entry"], checkpoints=counts["checkpoint"])
