"""Load shedding: how much is asked of Datasette at once, how much waits, and for whom."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from headrace.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator


class Gate:
    """Lets so many requests through to Datasette at once; a bounded number waits in a row.

    Args:
        queue_length: Requests that wait at most.
    """

    def __init__(self, queue_length: int) -> None:
        self.inside = 0
        self._queue_length = queue_length
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    @property
    def used(self) -> float:
        """How much of the row is taken, from 0 to 1."""
        return len(self._waiting) / max(self._queue_length, 1)

    async def enter(self, capacity: int) -> None:
        """Wait until fewer than ``capacity`` are inside, and go in; to be followed by ``leave``.

        Raises:
            Refusal: ``overloaded``: too many wait already.
        """
        if self.inside < capacity and not self._waiting:
            self.inside += 1
            return
        if len(self._waiting) >= self._queue_length:
            raise Refusal("overloaded", "too many requests wait for Datasette already")
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn  # whoever leaves hands its place on: ``inside`` stays
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):  # who left before this task woke has taken it out
                    self._waiting.remove(turn)
            else:  # it was its turn just now
                self.leave()
            raise

    def leave(self) -> None:
        """Go out; the next in the row goes in."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.inside -= 1


class ClientLimit:
    """Bounds the requests of one address that are being answered by more than memory.

    Args:
        at_once: Requests of one address; 0: no limit.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._counts: dict[str, int] = {}

    @contextmanager
    def hold(self, address: str) -> Iterator[None]:
        """Count a request while the block runs.

        Raises:
            Refusal: ``too-many-requests``.
        """
        count = self._counts.get(address, 0)
        if self._at_once and count >= self._at_once:
            raise Refusal(
                "too-many-requests",
                f"{self._at_once} requests of this address are being answered already",
            )
        self._counts[address] = count + 1
        try:
            yield
        finally:
            left = self._counts[address] - 1
            if left:
                self._counts[address] = left
            else:
                del self._counts[address]
