"""Trying again what must be done in the end."""

from __future__ import annotations

from itertools import pairwise

import pytest

from headrace.errors import PrimaryLostError, StoreError
from ingest.insist import insist
from tests.unit.loop_kit import now_s, run


def test_insist_asks_until_it_is_done_with_pauses_that_double() -> None:
    """The store is not hammered while it is away, and nobody waits long when it is back."""
    asked_s: list[float] = []

    async def ask() -> str:
        asked_s.append(now_s())
        if len(asked_s) <= 8:
            raise StoreError("away")
        return "done"

    assert run(insist(ask, StoreError, "publish failed")) == "done"
    pauses_s = [after - before for before, after in pairwise(asked_s)]
    for pause_s, most_s in zip(pauses_s, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0], strict=True):
        assert most_s / 2 <= pause_s <= most_s + 1e-6


def test_insist_gives_up_at_once_on_any_other_failure() -> None:
    """What trying again cannot mend is raised: a primary that is lost stays lost."""
    asked: list[float] = []

    async def ask() -> None:
        asked.append(now_s())
        raise PrimaryLostError("somebody else published")

    with pytest.raises(PrimaryLostError):
        run(insist(ask, StoreError, "publish failed"))
    assert asked == [0.0]
