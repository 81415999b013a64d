"""Sets that are out of service and still answer requests."""

from __future__ import annotations

import asyncio
from typing import Any

from serve.metrics import ReaderMetrics
from serve.retirement import AT_MOST, Retirement
from tests.unit.loop_kit import run


class Draining:
    """A set of workers as the retirement sees it: it drains when it is told."""

    def __init__(self) -> None:
        self.slots: dict[str, Any] = {}
        self.drained = asyncio.Event()
        self.stopped = False

    async def drain(self, drain_s: float) -> bool:
        """Wait until all requests are answered, or for so long."""
        try:
            async with asyncio.timeout(drain_s):
                await self.drained.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """End it."""
        self.stopped = True


async def _nothing() -> None:
    return


def make_retirement(*, takes: bool) -> Retirement:
    """Make a retirement whose spares take every drained set, or none."""
    return Retirement(lambda _old: takes, _nothing, ReaderMetrics("test"))


def test_switch_waits_while_too_many_sets_drain() -> None:
    """Long exports cannot fill the memory with workers: one set must end before the next."""

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
        assert [each.stopped for each in sets].count(True) == 1

    run(main())


def test_set_that_never_drains_is_stopped_at_its_deadline() -> None:
    """A request that never ends holds neither its workers nor the next switch for ever."""

    async def main() -> None:
        retirement = make_retirement(takes=True)
        sets: list[Any] = [Draining() for _ in range(AT_MOST)]
        for each in sets:
            retirement.retire(each)
        await retirement.wait_room()
        assert any(each.stopped for each in sets)

    run(main())
