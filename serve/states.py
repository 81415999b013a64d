"""The states of a reader's supervisor, and which may follow which.

::

    waiting -> restore -> start -> probe -> warm -> switch -> waiting
       |                    |
       +--> start           +-- probe -> start     a spare that fails: fresh workers instead
       (a new configuration:
        the slots are here)

Every state may go back to waiting: that is a failure, or the end of a switch. Proving a copy is
part of making it: it happens slot by slot, several at once, inside ``restore``.
"""

from __future__ import annotations

from enum import StrEnum
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Step(StrEnum):
    """Where the supervisor is; the values are part of ``/-/headrace.json`` and of the metrics."""

    WAITING = "waiting"
    RESTORING = "restore"
    STARTING = "start"
    PROBING = "probe"
    WARMING = "warm"
    SWITCHING = "switch"


NEXT: Mapping[Step, frozenset[Step]] = MappingProxyType(
    {
        Step.WAITING: frozenset({Step.RESTORING, Step.STARTING}),
        Step.RESTORING: frozenset({Step.STARTING, Step.WAITING}),
        Step.STARTING: frozenset({Step.PROBING, Step.WAITING}),
        Step.PROBING: frozenset({Step.WARMING, Step.STARTING, Step.WAITING}),
        Step.WARMING: frozenset({Step.SWITCHING, Step.WAITING}),
        Step.SWITCHING: frozenset({Step.WAITING}),
    }
)


class IllegalTransitionError(RuntimeError):
    """A step was taken that cannot follow the one before: a defect of the program."""


class Steps:
    """The one place where the supervisor's state changes.

    Attributes:
        now: The state.
        seconds: How long each state took since the last wait, but for the one that is not over.
    """

    def __init__(self) -> None:
        self.now = Step.WAITING
        self.seconds: dict[Step, float] = {}
        self._since_s = perf_counter()

    def enter(self, step: Step) -> None:
        """Go to the next state.

        Raises:
            IllegalTransitionError: It cannot follow this one.
        """
        if step not in NEXT[self.now]:
            raise IllegalTransitionError(f"cannot go from {self.now} to {step}")
        now_s = perf_counter()
        if self.now is Step.WAITING:
            self.seconds = {}
        else:
            self.seconds[self.now] = self.seconds.get(self.now, 0.0) + now_s - self._since_s
        self.now, self._since_s = step, now_s

    def give_up(self) -> Step:
        """Go back to waiting, from wherever; give the state that failed."""
        failed = self.now
        if failed is not Step.WAITING:
            self.enter(Step.WAITING)
        return failed
