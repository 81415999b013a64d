"""How long to wait before something that failed is tried again: all pauses are made here."""

from __future__ import annotations

import random

LEAST = 0.5  # of a pause: the rest is left to chance, so that many do not come at once


class Pauses:
    """Pauses that double, up to a longest one; a part of each is left to chance.

    So however long something fails, it is tried twice in the longest pause at the most.

    Args:
        first_s: The first one.
        most_s: The longest one.
    """

    def __init__(self, first_s: float, most_s: float) -> None:
        self._first_s = min(first_s, most_s)
        self._most_s = most_s
        self._upcoming_s = self._first_s

    def next_s(self) -> float:
        """Give the next pause."""
        pause_s = self._upcoming_s * random.uniform(LEAST, 1)  # noqa: S311 - jitter
        self._upcoming_s = min(self._upcoming_s * 2, self._most_s)
        return pause_s

    def reset(self) -> None:
        """Begin with the first one again: it went well."""
        self._upcoming_s = self._first_s
