"""The clock that goes on while the machine is suspended."""

from __future__ import annotations

import pytest

from serve.clock import NAP_S, Clock


class Clocks:
    """The three clocks of a machine."""

    def __init__(self) -> None:
        self.now = (1000.0, 5000.0, 1.8e9)
        self.clock = Clock(lambda: self.now)

    def move(self, steady_s: float, boot_s: float, day_s: float) -> float:
        """Move each by so much, and give what the clock says then."""
        self.now = (self.now[0] + steady_s, self.now[1] + boot_s, self.now[2] + day_s)
        return self.clock.now_s()


@pytest.mark.parametrize(
    "slept",
    [(3600.0, 3600.0, 3600.0), (0.5, 3600.0, 3600.0), (0.5, 0.5, 3600.0)],
    ids=["a process that was stopped", "a suspended kernel", "a machine of a snapshot"],
)
def test_clock_counts_what_was_slept_by_whichever_clock_shows_it(
    slept: tuple[float, float, float],
) -> None:
    """However a reader was put to sleep, it knows for how long."""
    clocks = Clocks()
    clocks.move(1, 1, 1)

    assert clocks.move(*slept) == 3601
    assert clocks.clock.naps == 1
    assert clocks.move(2, 2, 2) == 3603
    assert clocks.clock.naps == 1


def test_clock_bears_a_time_of_day_that_is_set() -> None:
    """Corrections of the time of day are no time that has passed, and nothing goes back."""
    clocks = Clocks()

    assert clocks.move(1, 1, -7200) == 1
    assert clocks.move(1, 1, 1 + NAP_S) == 2
    assert clocks.move(1, 1, 1.5) == 3
    assert clocks.clock.naps == 0
