"""How long somebody waits for what is not there yet, and when no longer."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from headrace.backoff import Pauses
from headrace.errors import RestoreError

FIRST_BACKOFF_S = 0.1
MAX_BACKOFF_S = 2.0


class Patience:
    """Waits between tries, each time longer, until a deadline.

    Args:
        timeout_s: How long in all.
        superseded: Set when nobody waits for the outcome any more.
    """

    def __init__(self, timeout_s: float, superseded: asyncio.Event) -> None:
        self._superseded = superseded
        self._deadline_s = asyncio.get_running_loop().time() + timeout_s
        self._pauses = Pauses(FIRST_BACKOFF_S, MAX_BACKOFF_S)

    async def wait(self, reason: str) -> None:
        """Wait before the next try.

        Args:
            reason: Why the last one failed.

        Raises:
            RestoreError: The time is over, or nobody waits; it gives the reason.
        """
        pause_s = self._pauses.next_s()
        over_s = asyncio.get_running_loop().time() + pause_s
        if over_s > self._deadline_s or self._superseded.is_set():
            raise RestoreError(reason)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._superseded.wait()
