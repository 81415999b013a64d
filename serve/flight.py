"""Single flight: requests that want the same at the same time share one answer."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

Key = TypeVar("Key", bound="Hashable")
Result = TypeVar("Result")


class _Flight(Generic[Result]):
    def __init__(self, task: asyncio.Task[Result]) -> None:
        self.task = task
        self.waiting = 0
        self.delivered = False


class Flights(Generic[Key, Result]):
    """What is being made, by key. Each runs in a task of its own: no waiter's end ends it.

    Args:
        discard: Called with a result that nobody waited for in the end.
    """

    def __init__(self, discard: Callable[[Result], None]) -> None:
        self._flights: dict[Key, _Flight[Result]] = {}
        self._discard = discard

    def waiting(self) -> dict[Key, int]:
        """Give how many wait for each that is being made."""
        return {key: flight.waiting for key, flight in self._flights.items()}

    def has(self, key: Key) -> bool:
        """Tell whether something is being made."""
        return key in self._flights

    async def join(self, key: Key, make: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Give what ``make`` makes, or what is being made already.

        Raises:
            Exception: What ``make`` raised, to all who wait.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(make()))
            flight.task.add_done_callback(partial(self._land, key, flight))
        flight.waiting += 1
        try:
            result = await asyncio.shield(flight.task)
            flight.delivered = True
        finally:
            flight.waiting -= 1
            if flight.waiting == 0 and not flight.delivered:
                self._leave(key, flight)
        return result

    def _land(self, key: Key, flight: _Flight[Result], _task: asyncio.Task[Result]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not flight.task.cancelled():
            flight.task.exception()  # said to those who wait; nobody may be left

    def _leave(self, key: Key, flight: _Flight[Result]) -> None:
        """Nobody waits any more: what is not done yet is given up."""
        if not flight.task.done():
            if self._flights.get(key) is flight:
                del self._flights[key]
            flight.task.cancel()
        elif not flight.task.cancelled() and flight.task.exception() is None:
            self._discard(flight.task.result())
