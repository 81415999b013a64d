"""Trying again what failed for a reason that passes: with longer and longer pauses, for so long."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from headrace.backoff import Pauses

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.errors import UnreachableError

FIRST_PAUSE_S = 0.2
MOST_PAUSE_S = 10.0


class Insisting:
    """Pauses between tries, until it has failed for too long at a stretch.

    Args:
        retry_for_s: How long it may fail at a stretch.
        on_pause: Called with the reason before each pause.
        first_for_s: How long it may fail if there never was a connection; None: as long.
    """

    def __init__(
        self,
        retry_for_s: float,
        on_pause: Callable[[UnreachableError], None] = lambda _exc: None,
        *,
        first_for_s: float | None = None,
    ) -> None:
        self._retry_for_s = retry_for_s
        self._first_for_s = retry_for_s if first_for_s is None else first_for_s
        self._on_pause = on_pause
        self._pauses = Pauses(FIRST_PAUSE_S, MOST_PAUSE_S)
        self._since_s: float | None = None

    def went_well(self) -> None:
        """Begin anew with short pauses: something was done."""
        self._pauses.reset()
        self._since_s = None

    async def pause(self, exc: UnreachableError) -> None:
        """Wait before the next try.

        Raises:
            UnreachableError: The one that is given: it has failed for too long.
        """
        now_s = time.monotonic()
        if self._since_s is None:
            self._since_s = now_s
        for_s = self._first_for_s if exc.is_first else self._retry_for_s
        left_s = self._since_s + for_s - now_s
        if left_s <= 0:
            raise exc
        self._on_pause(exc)
        pause_s = max(self._pauses.next_s(), exc.retry_after_s or 0.0)
        await asyncio.sleep(min(pause_s, left_s))
