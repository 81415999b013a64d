"""How often a reader asks for the next entry of the log."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

from headrace.generation import State
from serve.clock import Clock
from serve.follow import Follower
from serve.freshness import Freshness
from serve.heard import Heard
from serve.metrics import ReaderMetrics
from tests.unit.loop_kit import now_s, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOUR_S = 3600.0


class Log:
    """An empty log, that counts who asks."""

    def __init__(self) -> None:
        self.polls = 0

    async def read_checkpoint(self) -> State:
        """Give the state before the first entry."""
        return State()

    async def find_newer(self, _state: State, *, past_pruned: bool) -> None:  # noqa: ARG002
        """Find nothing."""
        self.polls += 1


class Primary:
    """One that says every few seconds that nothing is new; or that is away."""

    status = 200

    def __init__(self, *, away: bool) -> None:
        self._away = away
        self.content = self

    @asynccontextmanager
    async def get(self, _url: str, **_options: Any) -> AsyncIterator[Primary]:
        """Answer."""
        if self._away:
            raise aiohttp.ClientConnectionError("away")
        yield self

    async def iter_any(self) -> AsyncIterator[bytes]:
        """Give the stream."""
        while True:
            yield b"\n"
            await asyncio.sleep(5)


def count_polls(primary: Primary) -> int:
    """Follow for an hour; give how often the log was asked."""

    async def follow() -> int:
        log, metrics = Log(), ReaderMetrics("test")
        clock = Clock(lambda: (now_s(), now_s(), now_s()))
        follower = Follower(
            log,  # type: ignore[arg-type]
            primary,  # type: ignore[arg-type]
            "http://primary",
            metrics,
            Freshness(clock),
            heard=Heard(metrics, clock),
        )
        following = asyncio.create_task(follower.run())
        await asyncio.sleep(HOUR_S)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        return log.polls

    return run(follow())


def test_log_is_asked_every_2_s_without_a_push() -> None:
    """A generation is found soon though the primary is away; each poll is one GET."""
    assert HOUR_S / 2 * 0.95 < count_polls(Primary(away=True)) < HOUR_S / 2 * 1.05


def test_log_is_asked_every_30_s_beside_a_push() -> None:
    """What the primary tells at once is only checked now and then."""
    assert HOUR_S / 30 * 0.9 < count_polls(Primary(away=False)) < HOUR_S / 30 * 1.1
