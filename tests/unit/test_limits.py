"""Load shedding, single flight, and whom the edge believes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from headrace.errors import ConfigError, Refusal
from serve.arrivals import Arrivals, personal_cookies, read_min_generation
from serve.callers import Callers
from serve.flight import Flights
from serve.limits import ClientLimit, Gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


async def until(look: Callable[[], bool]) -> None:
    """Let other tasks run until something is so."""
    for _ in range(1000):
        if look():
            return
        await asyncio.sleep(0)
    pytest.fail("it never was")


async def test_gate_lets_in_order_and_refuses_beyond_its_queue() -> None:
    """So many at once, so many in a row, and the next is told to come back."""
    gate, order = Gate(2), []

    async def enter(name: str) -> None:
        await gate.enter(1)
        order.append(name)

    await enter("a")
    waiting = [asyncio.create_task(enter(name)) for name in "bc"]
    await until(lambda: gate.waiting == 2)
    with pytest.raises(Refusal) as refused:
        await enter("d")
    for _ in range(3):
        gate.leave()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)

    assert refused.value.code == "overloaded"
    assert order == ["a", "b", "c"]
    assert (gate.inside, gate.waiting) == (0, 0)


async def test_gate_forgets_who_gave_up_waiting() -> None:
    """A client that hangs up in the queue takes nobody's turn, also if it was its turn just now."""
    gate = Gate(5)
    await gate.enter(1)
    gone, called, last = (asyncio.create_task(gate.enter(1)) for _ in range(3))
    await until(lambda: gate.waiting == 3)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    gate.leave()
    called.cancel()
    await asyncio.gather(called, return_exceptions=True)
    await last

    assert (gate.inside, gate.waiting) == (1, 0)
    gate.leave()
    assert gate.inside == 0


async def test_gate_loses_nobody_who_gives_up_while_another_leaves() -> None:
    """Who waits and whoever is inside may run out of time together: each is told just that."""
    gate = Gate(5)
    await gate.enter(1)
    waiting = [asyncio.create_task(gate.enter(1)) for _ in range(2)]
    await until(lambda: gate.waiting == 2)
    for task in waiting:
        task.cancel()
    gate.leave()
    ends = await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(each) for each in ends] == [asyncio.CancelledError] * 2
    assert (gate.inside, gate.waiting) == (0, 0)


def test_client_limit_counts_each_address_for_itself() -> None:
    """One busy address is refused, the others are not, and it comes back when it is done."""
    limit = ClientLimit(1)
    with limit.hold("a"), limit.hold("b"), pytest.raises(Refusal) as refused, limit.hold("a"):
        pass
    with limit.hold("a"):
        pass
    with ClientLimit(0).hold("a"):
        pass
    assert refused.value.code == "too-many-requests"


async def test_flight_that_fails_fails_for_all_who_wait_and_is_begun_anew() -> None:
    """An error is nobody's answer for ever."""
    flights: Flights[str, int] = Flights(lambda _: None)
    results: Iterator[ValueError | int] = iter([ValueError("no"), 7])

    async def make() -> int:
        await asyncio.sleep(0)
        result = next(results)
        if isinstance(result, ValueError):
            raise result
        return result

    failed = await asyncio.gather(
        *(flights.join("k", make) for _ in range(3)), return_exceptions=True
    )
    assert [type(each) for each in failed] == [ValueError] * 3
    assert await flights.join("k", make) == 7
    assert flights.waiting() == {}


async def test_flight_that_all_left_is_given_up() -> None:
    """What nobody waits for is not made."""
    flights: Flights[str, int] = Flights(lambda _: None)
    ended = asyncio.Event()

    async def make() -> int:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return 1

    waiting = [asyncio.create_task(flights.join("k", make)) for _ in range(2)]
    await until(lambda: flights.waiting().get("k") == 2)
    for task in waiting:
        assert not ended.is_set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await ended.wait()


async def test_arrivals_wake_those_who_wait_for_that_generation() -> None:
    """Older generations wake nobody for good; time ends the wait."""
    arrivals = Arrivals()
    waiting = asyncio.create_task(arrivals.wait(2, 10.0))
    arrivals.announce(1)
    await asyncio.sleep(0)
    assert not waiting.done()
    arrivals.announce(3)

    assert await waiting
    assert not await arrivals.wait(4, 0.0)


def test_cookie_of_ours_says_nothing_about_who_asks() -> None:
    """It is taken out, and read; others stay as they are."""
    ours = "headrace_min_generation=7"
    for cookies, others, generation in (
        ([ours], "", 7),
        ([f"a=1; {ours}; b=2"], "a=1; b=2", 7),
        ([ours, "a=1"], "a=1", 7),
        (["a=1;b=2"], "a=1;b=2", 0),
        (["headrace_min_generation=²"], "", 0),
    ):
        headers = CIMultiDict(("Cookie", each) for each in cookies)
        assert personal_cookies(headers) == others
        assert read_min_generation(headers) == generation


FORWARDED = CIMultiDict(
    [
        ("Host", "inner"),
        ("X-Forwarded-For", "6.6.6.6, 203.0.113.9, 10.0.0.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "data.example.org"),
    ]
)


@pytest.mark.parametrize(
    ("trusted", "seen"),
    [
        ("", ("10.0.0.1", "http", "inner")),
        ("192.168.0.0/16", ("10.0.0.1", "http", "inner")),
        ("10.0.0.0/8,fd00::/8", ("203.0.113.9", "https", "data.example.org")),
    ],
)
async def test_forwarded_headers_are_believed_from_trusted_proxies_only(
    trusted: str, seen: tuple[str, str, str]
) -> None:
    """The client is the last address that no proxy of ours has; what it claims itself is not."""
    request = make_mocked_request("GET", "/", FORWARDED).clone(remote="10.0.0.1")
    caller = Callers(trusted).tell(request)

    assert (caller.address, caller.scheme, caller.host) == seen


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("172.19.0.1", "203.0.113.9"),
        ("::ffff:172.19.0.1", "203.0.113.9"),
        ("fdaa:0:18:a7b::2", "fdaa:0:18:a7b::2"),
    ],
)
def test_client_is_whom_the_header_of_the_platform_names(remote: str, address: str) -> None:
    """Fly ends X-Forwarded-For with an address of its own, and names the client beside it."""
    headers = {
        "Host": "data.example.org",
        "X-Forwarded-For": "6.6.6.6, 203.0.113.9, 2a09:8280:1::af:1aa1:0",
        "Fly-Client-IP": "203.0.113.9",
    }
    request = make_mocked_request("GET", "/", headers).clone(remote=remote)
    assert Callers("172.16.0.0/12", "Fly-Client-IP").tell(request).address == address


def test_trusted_proxies_that_are_no_network_are_refused() -> None:
    """A typing error does not make the edge believe everybody, or nobody, in silence."""
    with pytest.raises(ConfigError, match="trusted-proxies"):
        Callers("10.0.0.0/33")
