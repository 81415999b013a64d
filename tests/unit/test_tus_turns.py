"""Whose turn an upload is."""

from __future__ import annotations

import asyncio

import pytest

from headrace.errors import Refusal
from ingest.tus import turns as turns_module
from ingest.tus.turns import Turns


async def test_turn_that_another_one_wants_is_told_to_give_way() -> None:
    """Whoever comes has the turn as soon as the one before has ended, and is not told to end."""
    turns = Turns()
    async with turns.take("a") as first:
        assert not first.is_set()

        async def come() -> bool:
            async with turns.take("a") as second:
                return second.is_set()

        coming = asyncio.create_task(come())
        await first.wait()
        async with turns.take("b"):  # another upload is another turn
            assert not coming.done()
    assert await coming is False
    assert not turns.is_taken("a")


async def test_turn_that_two_more_want_goes_to_the_newest() -> None:
    """One that waited in between gives way at once."""
    turns = Turns()
    order = []

    async def come(name: str) -> None:
        async with turns.take("a") as give_way:
            order.append((name, give_way.is_set()))

    async with turns.take("a"):
        tasks = [asyncio.create_task(come(name)) for name in ("old", "new")]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order == [("old", True), ("new", False)]


async def test_turn_that_is_not_given_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever; the one who has it is not disturbed."""
    monkeypatch.setattr(turns_module, "TURN_S", 0.0)
    turns = Turns()
    async with turns.take("a"):
        with pytest.raises(Refusal) as refused:
            async with turns.take("a"):
                pytest.fail("two have the turn")
        assert refused.value.code == "upload-locked"
        assert turns.is_taken("a")
    assert not turns.is_taken("a")
