"""When to try again what has failed."""

from __future__ import annotations

import asyncio

from headrace.backoff import Pauses

FIRST_S = 0.5


class Backoff:
    """Remembers what failed last, and allows it again after a time that doubles.

    Anything else is allowed at once. Times are the event loop's.

    Args:
        most_s: Longest time between two tries.
    """

    def __init__(self, most_s: float) -> None:
        self._pauses = Pauses(FIRST_S, most_s)
        self._failed: object = None
        self._until_s: float | None = None

    def allows(self, what: object) -> bool:
        """Tell whether to try now."""
        return what != self._failed or self._until_s is None or _now_s() >= self._until_s

    def note(self, what: object, *, done: bool) -> None:
        """Remember how a try ended."""
        if done:
            self.forget()
            return
        self._failed, self._until_s = what, _now_s() + self._pauses.next_s()

    def forget(self) -> None:
        """Nothing has failed."""
        self._failed = self._until_s = None
        self._pauses.reset()

    @property
    def wait_s(self) -> float | None:
        """Time until the next try; None if nothing has failed."""
        return None if self._until_s is None else max(self._until_s - _now_s(), 0.0)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
