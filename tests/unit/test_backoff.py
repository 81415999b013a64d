"""When what has failed may be tried again."""

from __future__ import annotations

import asyncio

import pytest

from headrace.backoff import LEAST, Pauses
from serve.backoff import Backoff
from tests.unit.loop_kit import run


async def fail(backoff: Backoff, times: int, what: object = "a") -> list[float]:
    """Fail at something so often, each time as soon as it is allowed; give the pauses."""
    pauses_s = []
    for _ in range(times):
        backoff.note(what, done=False)
        assert not backoff.allows(what)
        assert backoff.wait_s is not None
        pauses_s.append(backoff.wait_s)
        await asyncio.sleep(backoff.wait_s)
        assert backoff.allows(what)
        assert backoff.wait_s == 0
    return pauses_s


@pytest.mark.parametrize(
    ("most_s", "pauses_s"),
    [(10.0, [0.5, 1, 2, 4, 8, 10, 10]), (0.5, [0.5, 0.5]), (0.1, [0.1, 0.1])],
)
def test_backoff_pauses_twice_as_long_each_time(most_s: float, pauses_s: list[float]) -> None:
    """What goes on failing is tried ever more seldom, but never more seldom than was said."""

    async def main() -> list[float]:
        return await fail(Backoff(most_s), len(pauses_s))

    for pause_s, longest_s in zip(run(main()), pauses_s, strict=True):
        assert longest_s * LEAST <= pause_s <= longest_s


def test_backoff_refuses_only_what_failed_last() -> None:
    """A newer generation does not wait because an older one failed."""

    async def main() -> None:
        backoff = Backoff(10.0)
        assert backoff.allows("a")
        assert backoff.wait_s is None
        backoff.note("a", done=False)
        assert not backoff.allows("a")
        assert backoff.allows("b")
        backoff.note("b", done=False)
        assert not backoff.allows("b")
        assert backoff.allows("a")

    run(main())


@pytest.mark.parametrize("done", [True, False])
def test_backoff_begins_anew_after_a_success(done: bool) -> None:
    """Nothing is refused any more, and the next failure is the first; so when all is forgotten."""

    async def main() -> list[float]:
        backoff = Backoff(10.0)
        await fail(backoff, 4)
        backoff.note("a", done=False)
        if done:
            backoff.note("a", done=True)
        else:
            backoff.forget()
        assert backoff.allows("a")
        assert backoff.wait_s is None
        return await fail(backoff, 2)

    first_s, second_s = run(main())
    assert first_s <= 0.5
    assert 1.0 * LEAST <= second_s <= 1.0


def test_pauses_of_many_differ() -> None:
    """Who failed at the same moment does not come back at the same moment."""
    assert len({Pauses(1.0, 60.0).next_s() for _ in range(100)}) > 90
