"""One request at a time for each upload, and the newest first.

A client that lost its connection comes back while the primary still waits for bytes of the old one,
which may stay half open for minutes. So whoever comes ends the request that is waiting for bytes;
what that one had received is kept. tusd does the same (its documentation, Upload locks).
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from headrace.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TURN_S = 10.0  # for a request before to write down what it has, or to finish an upload


class _Place:
    """Who has the turn of one upload, and how many want it or have it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.give_way = asyncio.Event()
        self.count = 0


class Turns:
    """The turns of all uploads."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}

    def is_taken(self, upload_id: str) -> bool:
        """Whether somebody has the turn."""
        return upload_id in self._places

    @asynccontextmanager
    async def take(self, upload_id: str) -> AsyncIterator[asyncio.Event]:
        """Have the turn while the block runs; gives what is set when somebody else wants it.

        Raises:
            Refusal: ``upload-locked``.
        """
        place = self._places.setdefault(upload_id, _Place())
        place.count += 1
        place.give_way.set()
        try:
            async with asyncio.timeout(TURN_S):
                await place.lock.acquire()
        except TimeoutError as exc:
            self._leave(upload_id, place)
            raise locked("another request for this upload is being answered") from exc
        except BaseException:
            self._leave(upload_id, place)
            raise
        try:
            # Whoever came after this one waits already, and will not say so again.
            if place.count == 1:
                place.give_way.clear()
            yield place.give_way
        finally:
            place.lock.release()
            self._leave(upload_id, place)

    def _leave(self, upload_id: str, place: _Place) -> None:
        place.count -= 1
        if place.count == 0:
            del self._places[upload_id]


def locked(detail: str) -> Refusal:
    """Give the refusal of a request that is to be sent again later."""
    return Refusal(
        "upload-locked", detail, hint="ask for its offset (HEAD) a moment later, and go on there"
    )
