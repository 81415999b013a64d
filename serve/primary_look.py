"""What the primary says of itself and of all regions, asked for when somebody wants to see it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Mapping

ASK_EVERY_S = 1.0  # at most, however many look
ANSWER_S = 2.0
AWAY_EVERY_S = 5.0  # a primary that does not answer is asked more seldom: somebody waits for it

_TIMEOUT = aiohttp.ClientTimeout(total=ANSWER_S)
_OK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen of the primary.

    Attributes:
        said: Its last answer; None: there was none yet.
        said_at: When that came.
        away_since: When it was first found not to answer; None: it does.
    """

    said: Mapping[str, Any] | None = None
    said_at: datetime | None = None
    away_since: datetime | None = None

    def find_away_since(self, push_away_since: datetime | None) -> datetime | None:
        """Say since when it does not answer: when it went away, perhaps nobody looked.

        Args:
            push_away_since: Since when its stream of generations is away; None: it is not.
        """
        if self.away_since is None or push_away_since is None:
            return self.away_since
        return min(self.away_since, max(push_away_since, self.said_at or push_away_since))


class PrimaryLook:
    """Asks the primary, for all who look at this reader.

    Args:
        session: For requests to it.
        primary: Its URL.
    """

    def __init__(self, session: aiohttp.ClientSession, primary: str) -> None:
        self._session = session
        self._url = f"{primary.rstrip('/')}/-/readers"
        self._seen = Seen()
        self._next_s = 0.0  # the loop's time

    async def look(self) -> Seen:
        """Give what is seen, not older than a moment; one look at a time."""
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._next_s:
            self._next_s = now_s + ASK_EVERY_S
            self._seen = await self._ask()
            if self._seen.away_since is not None:
                self._next_s = now_s + AWAY_EVERY_S
        return self._seen

    async def _ask(self) -> Seen:
        try:
            async with self._session.get(self._url, timeout=_TIMEOUT) as answer:
                if answer.status == _OK:
                    return Seen(said=await answer.json(), said_at=datetime.now(UTC))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            pass
        before = self._seen
        away_since = before.away_since or datetime.now(UTC)
        return Seen(said=before.said, said_at=before.said_at, away_since=away_since)
