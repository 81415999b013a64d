"""The supervisor's states."""

from __future__ import annotations

import itertools

import pytest

from serve.states import NEXT, IllegalTransitionError, Step, Steps

WAY = [Step.RESTORING, Step.STARTING, Step.PROBING, Step.WARMING, Step.SWITCHING, Step.WAITING]


def at(step: Step) -> Steps:
    """Give a machine in a state."""
    steps = Steps()
    for each in WAY[: WAY.index(step) + 1]:
        steps.enter(each)
    return steps


def test_switch_goes_through_all_states_and_back() -> None:
    """A generation comes into service by one way, which can be gone again."""
    steps = at(Step.WAITING)

    assert steps.now is Step.WAITING
    steps.enter(Step.RESTORING)


def test_time_of_each_step_is_known_after_a_switch() -> None:
    """A slow switch says which of its steps was slow; the next one begins anew."""
    steps = at(Step.WAITING)

    assert list(steps.seconds) == WAY[:-1]
    assert min(steps.seconds.values()) >= 0

    steps.enter(Step.STARTING)
    assert not steps.seconds


def test_configuration_switch_needs_no_restore() -> None:
    """A new configuration starts workers on the slots that are in service."""
    steps = Steps()

    steps.enter(Step.STARTING)

    assert steps.now is Step.STARTING


@pytest.mark.parametrize(
    ("before", "after"),
    [pair for pair in itertools.product(Step, Step) if pair[1] not in NEXT[pair[0]]],
)
def test_any_other_transition_is_refused(before: Step, after: Step) -> None:
    """Nothing is served that was not probed, and no step is entered twice: it raises."""
    steps = at(before)

    with pytest.raises(IllegalTransitionError, match=f"from {before} to {after}"):
        steps.enter(after)

    assert steps.now is before


@pytest.mark.parametrize("step", Step)
def test_failure_in_any_state_leads_back_to_waiting(step: Step) -> None:
    """Whatever fails, the next try can begin, and it is known where it failed."""
    steps = at(step)

    assert steps.give_up() is step
    assert steps.now is Step.WAITING
