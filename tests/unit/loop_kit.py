"""What the tests of waiting stand on: a loop whose clock jumps, so nothing is really waited for."""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

Result = TypeVar("Result")


class JumpingLoop(asyncio.SelectorEventLoop):
    """Where others wait for a timer, its clock is moved there; what is for a thread runs at once.

    So a test takes no time, and always goes the same way.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Give the loop's time, which begins at 0."""
        return self.now_s

    def run_in_executor(  # type: ignore[override] # whoever waits for it sees no difference
        self, _executor: Any, function: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Call a function, here and now."""
        future = self.create_future()
        future.set_result(function(*args))
        return future


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: JumpingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("the test waits for what never comes")
        self._loop.now_s += timeout
        return super().select(0)


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine on a loop whose clock jumps."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main)


def now_s() -> float:
    """Give the running loop's time."""
    return asyncio.get_running_loop().time()
