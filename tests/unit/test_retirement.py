"""Sets that are out of service and still answer requests."""

from __future__ import annotations

import asyncio
from typing import Any

from headrace.generation import State
from serve.metrics import ReaderMetrics
from serve.retirement import AT_MOST, DRAIN_S, LEAST_DRAIN_S, Retirement
from tests.unit.loop_kit import now_s, run


class Draining:
    """A set of workers as the retirement sees it: it drains when it is told.

    Args:
        failure: Of its end.
    """

    def __init__(self, failure: Exception | None = None) -> None:
        self.slots: dict[str, Any] = {}
        self.state = State()
        self.in_flight = 1
        self.drained = asyncio.Event()
        self.stopped: str | None = None
        self._failure = failure

    async def drain(self, drain_s: float) -> bool:
        """Wait until all requests are answered, or for so long."""
        try:
            async with asyncio.timeout(drain_s):
                await self.drained.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self, *, at_once: bool = False) -> None:
        """End it."""
        self.stopped = "at once" if at_once else "in order"
        if self._failure is not None:
            raise self._failure


async def _nothing() -> None:
    return


def make_retirement(*, takes: bool) -> Retirement:
    """Make a retirement whose spares take every drained set, or none."""
    return Retirement(lambda _old: takes, _nothing, ReaderMetrics("test"))


def test_switch_waits_for_the_oldest_of_too_many_sets_only_so_long() -> None:
    """Slow readers can neither fill the memory with workers, nor hold back all news."""

    async def main() -> None:
        retirement = make_retirement(takes=False)
        sets: list[Any] = [Draining() for _ in range(AT_MOST + 1)]
        for each in sets[:-1]:
            retirement.retire(each)
            await asyncio.sleep(0.1)
        waiting = asyncio.create_task(retirement.wait_room())
        await asyncio.sleep(LEAST_DRAIN_S - 0.1 * AT_MOST - 0.05)
        assert retirement.waited_for
        assert not any(each.stopped for each in sets)

        await waiting
        assert [each.stopped for each in sets] == ["at once", *([None] * AT_MOST)]
        assert not retirement.waited_for
        retirement.retire(sets[-1])
        began_s = now_s()
        await retirement.wait_room()
        assert now_s() - began_s < 0.2
        assert [each.stopped for each in sets] == ["at once", "at once", *([None] * (AT_MOST - 1))]

    run(main())


def test_set_that_cannot_be_stopped_stands_in_no_switchs_way() -> None:
    """Whatever goes wrong with old workers is told, and new ones come into service."""

    async def main() -> None:
        retirement = make_retirement(takes=False)
        sets: list[Any] = [Draining(OSError("no space left")) for _ in range(AT_MOST)]
        for each in sets:
            retirement.retire(each)
        sets[3].drained.set()
        await retirement.wait_room()
        assert len(retirement.retiring) == AT_MOST - 1
        retirement.retire(newest := Draining())  # type: ignore[arg-type]
        await retirement.wait_room()
        assert list(retirement.retiring) == [*sets[1:3], *sets[4:], newest]

    run(main())


def test_set_that_drains_by_itself_makes_room() -> None:
    """Nobody's answer is cut short for a place that is free."""

    async def main() -> None:
        retirement = make_retirement(takes=False)
        sets: list[Any] = [Draining() for _ in range(AT_MOST)]
        for each in sets:
            retirement.retire(each)
        waiting = asyncio.create_task(retirement.wait_room())
        await asyncio.sleep(1)
        assert not waiting.done()

        sets[3].drained.set()

        await waiting
        await asyncio.sleep(LEAST_DRAIN_S)
        assert [each.stopped for each in sets].count(None) == AT_MOST - 1

    run(main())


def test_set_that_never_drains_is_stopped_at_its_deadline() -> None:
    """A request that never ends does not hold its workers for ever."""

    async def main() -> None:
        retirement = make_retirement(takes=True)
        draining: Any = Draining()
        retirement.retire(draining)
        await asyncio.sleep(DRAIN_S - 1)
        assert not draining.stopped
        await asyncio.sleep(2)
        assert draining.stopped
        assert not retirement.retiring

    run(main())
