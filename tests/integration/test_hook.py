"""Functions of the operator's, called after each switch, that misbehave."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from headrace.generation import State
from serve.hook import MOST_CALLS, GenerationHook
from serve.metrics import ReaderMetrics
from tests.integration.reader_kit import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Hooked:
    """A hook that calls a function, and is told of one generation after another.

    Args:
        function: Called with the facts of each.
        deadline_s: For a call.
    """

    def __init__(self, function: Callable[[dict[str, str]], None], deadline_s: float) -> None:
        sys.modules["purging"] = module = ModuleType("purging")
        module.purge = function  # type: ignore[attr-defined]
        self._metrics = ReaderMetrics("a")
        self.hook = GenerationHook("python:purging:purge", self._metrics, deadline_s=deadline_s)
        self._number = 0

    async def switch(self, outcome: str) -> None:
        """Switch to the next generation, and wait until its call ends in one way."""
        before, self._number = self.runs(outcome), self._number + 1
        self.hook.notify(State(number=self._number))
        await eventually(lambda: self.runs(outcome) > before)

    def runs(self, outcome: str) -> float:
        """Give how many runs ended in one way."""
        name = "headrace_reader_hook_runs_total"
        return self._metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0.0


@asynccontextmanager
async def hooked(
    function: Callable[[dict[str, str]], None], deadline_s: float
) -> AsyncIterator[Hooked]:
    """Run a hook while the block runs."""
    running = Hooked(function, deadline_s)
    task = asyncio.create_task(running.hook.run())
    try:
        yield running
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        del sys.modules["purging"]


async def test_function_that_hangs_keeps_no_thread_of_the_readers() -> None:
    """All else that the reader does in threads goes on; so do later calls, as long as few hang."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    calls, go_on = set(), threading.Event()

    def purge(facts: dict[str, str]) -> None:
        calls.add(int(facts["HEADRACE_GENERATION"]))
        go_on.wait()

    try:
        async with hooked(purge, 0.01) as running:
            for _ in range(MOST_CALLS + 2):
                await running.switch("late")

            assert await asyncio.wait_for(asyncio.to_thread(lambda: "done"), 20) == "done"
            assert max(calls) <= MOST_CALLS
    finally:
        go_on.set()


async def test_calls_that_hung_make_room_when_they_end() -> None:
    """A function that was stuck for a while is called again."""
    go_on = threading.Event()

    def purge(_facts: dict[str, str]) -> None:
        go_on.wait()

    async with hooked(purge, 0.01) as running:
        for _ in range(MOST_CALLS):
            await running.switch("late")
        go_on.set()
        for call in running.hook._calls:  # noqa: SLF001 - nothing else tells that they ended
            await asyncio.to_thread(call.join)

        running.hook._deadline_s = 20.0  # noqa: SLF001 - from here on none is late
        await running.switch("ok")


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), KeyboardInterrupt()])
async def test_function_that_raises_anything_has_failed(error: BaseException) -> None:
    """Not even ``sys.exit`` in it ends the reader."""

    def purge(_facts: dict[str, str]) -> None:
        raise error

    async with hooked(purge, 20.0) as running:
        await running.switch("failed")
        await running.switch("failed")


HANGING = """
import asyncio, threading
from headrace.generation import State
from serve.hook import GenerationHook
from serve.metrics import ReaderMetrics

called = threading.Event()

def hang(facts):
    called.set()
    threading.Event().wait()

async def main():
    hook = GenerationHook("python:__main__:hang", ReaderMetrics("a"), deadline_s=30.0)
    running = asyncio.create_task(hook.run())
    hook.notify(State(number=1))
    while not called.is_set():
        await asyncio.sleep(0.01)
    running.cancel()

asyncio.run(main())
"""


async def test_function_that_hangs_keeps_no_process_from_its_end() -> None:
    """A reader that is stopped does not wait for what never returns."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", HANGING)
    try:
        assert await asyncio.wait_for(process.wait(), 30) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
