"""How often somebody may write: so many times a minute, in memory.

Generic cell rate algorithm: one number for each key, exact, and it knows when the next may come.
Source: ITU-T I.371, annex A; Brandur Leach, "Rate Limiting, Cells, and GCRA". The libraries looked
at either wait instead of refusing (aiolimiter), or bring storages of their own along (limits).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from headrace.clock import boot_s
from headrace.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTE_S = 60.0
KEYS = 10_000  # remembered, before those are dropped that say nothing any more


class Rate:
    """Bounds how often each of many may do something.

    A whole minute's may come at once; then one comes back after each share of the minute.

    Args:
        per_minute: How often; 0: no limit.
        who: What a key is, for the refusal.
        now_s: Gives the time, by a clock that never jumps.
    """

    def __init__(self, per_minute: float, who: str, *, now_s: Callable[[], float] = boot_s) -> None:
        self._per_minute = per_minute
        self._who = who
        self._now_s = now_s
        self._free_at_s: dict[str, float] = {}  # when all of a minute's may come at once again

    def take(self, key: str) -> None:
        """Count one of a key.

        Raises:
            Refusal: ``too-many-requests``.
        """
        if not self._per_minute:
            return
        now_s = self._now_s()
        interval_s = MINUTE_S / self._per_minute
        free_at_s = max(self._free_at_s.get(key, now_s), now_s) + interval_s
        wait_s = free_at_s - now_s - max(MINUTE_S, interval_s)
        if wait_s > 1e-6:  # noqa: PLR2004 - what adding up loses
            raise Refusal(
                "too-many-requests",
                f"{self._who} may write {self._per_minute:g} times a minute",
                extra={"retry_after": math.ceil(wait_s)},
            )
        if len(self._free_at_s) >= KEYS and key not in self._free_at_s:
            self._forget(now_s)
        self._free_at_s[key] = free_at_s

    def _forget(self, now_s: float) -> None:
        """Drop what says nothing any more; if that is little, the oldest tenth."""
        kept = {key: at_s for key, at_s in self._free_at_s.items() if at_s > now_s}
        for key in list(kept)[: max(0, len(kept) - KEYS * 9 // 10)]:
            del kept[key]
        self._free_at_s = kept
