"""Whose upload is next: bounded, and fair to all who send some, however many one of them sends."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from headrace.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

RESERVED = 10  # one more place for each so many, for those who have few
RETRY_S = 2  # for whom no place is free


class Turns:
    """Lets so many work at once; the others wait, and go one of each sender after another.

    Of one sender they go in the order in which they came.

    Args:
        at_once: How many.
    """

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._rows: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._rows.values()))

    @asynccontextmanager
    async def turn(self, sender: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it while the block runs."""
        if self._free and not self._rows:
            self._free -= 1
        else:
            await self._wait(sender)
        try:
            yield
        finally:
            self._next()

    async def _wait(self, sender: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._rows.setdefault(sender, deque()).append(turn)
        try:
            await turn  # whoever ends hands its turn on
        except asyncio.CancelledError:
            if turn.cancelled():
                row = self._rows[sender]
                row.remove(turn)
                if not row:
                    del self._rows[sender]
            else:  # it was its turn just now
                self._next()
            raise

    def _next(self) -> None:
        if not self._rows:
            self._free += 1
            return
        sender, row = self._rows.popitem(last=False)
        row.popleft().set_result(None)
        if row:
            self._rows[sender] = row  # behind the others


class Places:
    """Bounds the uploads that are on their way, from before their bodies to their ends.

    When all places are taken, a few more are there, shared by those who have fewer than their part
    of these: so nobody is shut out by another's thousand uploads.

    Args:
        limit: How many places there are.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = Counter[str]()

    @property
    def taken(self) -> int:
        """How many places are taken."""
        return self._taken.total()

    @property
    def used(self) -> float:
        """How many of the places are taken, as a part of them: 1 is all but the few more."""
        return self.taken / self._limit

    def require(self, sender: str) -> None:
        """Refuse an upload for which there is no place.

        Raises:
            Refusal: ``too-many-requests``.
        """
        limit = self._limit
        reserved = max(1, limit // RESERVED)
        senders = len(self._taken) + (sender not in self._taken)
        if self._taken[sender] < max(1, reserved // senders):
            limit += reserved
        if self.taken >= limit:
            raise Refusal(
                "too-many-requests",
                f"{self._limit} uploads are on their way already: nothing of this one is kept",
                extra={"retry_after": RETRY_S},
            )

    @contextmanager
    def hold(self, sender: str) -> Iterator[None]:
        """Have a place while the block runs.

        Raises:
            Refusal: ``too-many-requests``.
        """
        self.require(sender)
        self.take(sender)
        try:
            yield
        finally:
            self.give_back(sender)

    def take(self, sender: str) -> None:
        """Have a place, whether one is free or not: what was accepted goes on."""
        self._taken[sender] += 1

    def give_back(self, sender: str) -> None:
        """Let go of a place."""
        self._taken[sender] -= 1
        if not self._taken[sender]:
            del self._taken[sender]
