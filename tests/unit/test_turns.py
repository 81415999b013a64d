"""Whose upload is next, how many are on their way, and how often somebody may write."""

from __future__ import annotations

import asyncio

import pytest

from headrace.errors import Refusal
from ingest.rates import KEYS, Rate
from ingest.turns import Places, Turns


async def test_turns_go_one_of_each_sender_after_another() -> None:
    """Who sends many does not keep one file of another waiting; his own keep their order."""
    turns = Turns(1)
    done: list[str] = []

    async def work(sender: str, name: str) -> None:
        async with turns.turn(sender):
            await asyncio.sleep(0)
            done.append(name)

    names = ["a1", "a2", "a3", "a4", "b1", "b2", "c1"]
    await asyncio.gather(*(work(name[0], name) for name in names))
    assert done == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]
    assert turns.waiting == 0


async def test_turn_of_one_who_gives_up_is_the_next_ones() -> None:
    """Nobody's turn is lost, whether he waits or has just got it."""
    turns = Turns(1)
    done: list[str] = []

    async def work(sender: str) -> None:
        async with turns.turn(sender):
            done.append(sender)

    async with turns.turn("first"):
        waiting = [asyncio.create_task(work(name)) for name in ("a", "b", "c")]
        await asyncio.sleep(0)
        waiting[0].cancel()  # it waits
        await asyncio.gather(waiting[0], return_exceptions=True)
    waiting[1].cancel()  # it was its turn just now
    await asyncio.gather(*waiting, return_exceptions=True)
    assert done == ["c"]
    async with asyncio.timeout(1), turns.turn("last"):
        pass


def test_places_are_bounded_and_one_is_left_for_who_has_none() -> None:
    """Those who fill all places do not shut out others, who share what is left and are bounded."""
    large = Places(200)
    for _number in range(200):
        large.take("many")
    for _number in range(10):
        large.require("few")
        large.take("few")
    with pytest.raises(Refusal):
        large.require("few")
    large.require("none")
    places = Places(20)
    for _number in range(20):
        places.take("many")
    with pytest.raises(Refusal) as refusal:
        places.require("many")
    assert (refusal.value.code, refusal.value.extra) == ("too-many-requests", {"retry_after": 2})
    for sender in ("b", "c"):
        places.require(sender)
        places.take(sender)
    for sender in ("b", "d"):
        with pytest.raises(Refusal):
            places.require(sender)
    places.give_back("many")
    places.give_back("many")
    places.give_back("many")
    with places.hold("many"):
        assert places.taken == 20
    assert places.taken == 19


def test_rate_lets_a_minutes_worth_through_and_then_one_after_another() -> None:
    """Whoever is refused is told when he will not be."""
    now_s = 1000.0
    rate = Rate(60, "a token", now_s=lambda: now_s)
    for _number in range(60):
        rate.take("a")
    with pytest.raises(Refusal) as refusal:
        rate.take("a")
    assert refusal.value.extra == {"retry_after": 1}
    rate.take("b")
    now_s += 1
    rate.take("a")
    with pytest.raises(Refusal):
        rate.take("a")
    now_s += 3600
    for _number in range(60):
        rate.take("a")


def test_rate_of_less_than_one_a_minute_lets_the_first_through() -> None:
    """A slow rate is not none."""
    now_s = 1000.0
    rate = Rate(0.5, "a token", now_s=lambda: now_s)
    rate.take("a")
    with pytest.raises(Refusal) as refusal:
        rate.take("a")
    assert refusal.value.extra == {"retry_after": 120}
    now_s += 120
    rate.take("a")


def test_rate_remembers_a_bounded_number_of_keys() -> None:
    """However many addresses write, memory does not grow with them; 0 is no limit."""
    rate = Rate(60, "an address", now_s=lambda: 1000.0)
    for number in range(3 * KEYS):
        rate.take(str(number))
    assert len(rate._free_at_s) <= KEYS  # noqa: SLF001
    unlimited = Rate(0, "an address")
    for _number in range(1000):
        unlimited.take("a")
