"""Following generations by push and by the log."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from headrace.errors import StoreError
from headrace.generation import Entry
from headrace.keys import generation_key
from headrace.log import GenerationLog
from headrace.web import listening, problems
from serve import follow
from serve.clock import Clock
from serve.follow import Follower
from serve.freshness import Freshness
from serve.heard import Heard
from serve.metrics import ReaderMetrics
from tests.integration.reader_kit import NO_PRIMARY, Publisher, eventually, primary_of
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from headrace.store import Store


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    """Give a publisher with an empty log."""
    return Publisher(tmp_path)


@asynccontextmanager
async def following(store: Store, primary: str) -> AsyncIterator[Follower]:
    """Run a follower while the block runs."""
    async with aiohttp.ClientSession() as session:
        log, metrics = GenerationLog(store), ReaderMetrics("test")
        heard = Heard(metrics, clock := Clock())
        follower = Follower(log, session, primary, metrics, Freshness(clock), heard=heard)
        running = asyncio.create_task(follower.run())
        try:
            yield follower
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def test_follower_of_a_pushing_primary_hears_at_once(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pushed generation is known although the log is not polled."""
    monkeypatch.setattr(follow, "POLL_WITH_PUSH_S", 3600.0)
    async with primary_of(publisher) as url, following(publisher.store, url) as follower:
        await eventually(lambda: follower.push_connected)

        await publisher.publish({})

        assert (await asyncio.wait_for(follower.wait_newer(0), 20)).number == 1


ENTRY = {
    "generation": 1,
    "epoch": 1,
    "created_at": "2026-11-27T21:00:00Z",
    "cause": {},
    "databases": {},
    "removed": [],
}
WRONG: dict[str, list[Any]] = {
    "cause": [None, 5, "x", [], {"arrived_at": 5}],
    "removed": [[{}], "sales"],
    "created_at": ["2026-11-27T21:00:00"],
    "databases": [{"sales": []}],
}
PUSHED = [json.dumps({**ENTRY, name: each}) for name in WRONG for each in WRONG[name]]
PUSHED += ["[" * 200_000, "{"]


async def test_entry_that_is_none_is_told_and_does_not_end_the_following(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the primary pushes, the follower asks again, and follows on."""
    monkeypatch.setattr(follow, "FIRST_BACKOFF_S", 0.01)
    told: list[str | None] = []

    async def push(request: web.Request) -> web.StreamResponse:
        told.append(follower.why.get("push"))
        if len(told) > len(PUSHED):
            return await publisher.push(request)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(PUSHED[len(told) - 1].encode() + b"\n")
        return response

    app = web.Application(middlewares=[problems])
    app.router.add_get("/-/generations", push)
    async with (
        listening(app, "127.0.0.1", 0, shutdown_timeout=0.1) as listener,
        following(publisher.store, f"http://127.0.0.1:{listener.port}") as follower,
    ):
        await eventually(lambda: len(told) > len(PUSHED))
        await publisher.publish({})

        assert (await asyncio.wait_for(follower.wait_newer(0), 20)).number == 1
    assert all("it is no entry of the log" in str(each) for each in told[1:])


async def test_follower_that_fails_in_a_way_nobody_thought_of_follows_on(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect in what is done with a push is told, and looked past."""
    monkeypatch.setattr(follow, "FIRST_BACKOFF_S", 0.01)
    monkeypatch.setattr(follow, "POLL_WITH_PUSH_S", 3600.0)
    decode = Entry.decode
    failed: list[bytes] = []

    def fail_once(body: bytes) -> Entry:
        if not failed:
            failed.append(body)
            raise AssertionError("a defect")
        return decode(body)

    async with primary_of(publisher) as url, following(publisher.store, url) as follower:
        await eventually(lambda: follower.push_connected)
        monkeypatch.setattr(Entry, "decode", fail_once)
        await publisher.publish({})
        await eventually(lambda: failed)

        assert (await asyncio.wait_for(follower.wait_newer(0), 20)).number == 1


async def test_follower_whose_primary_falls_silent_begins_anew(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream on which not even a heartbeat comes any more is not listened to for ever."""
    monkeypatch.setattr(follow, "POLL_WITH_PUSH_S", 3600.0)
    monkeypatch.setattr(follow, "SILENCE_S", 0.5)
    streams = 0

    async def push(request: web.Request) -> web.StreamResponse:
        nonlocal streams
        streams += 1
        if streams > 1:
            return await publisher.push(request)
        await web.StreamResponse().prepare(request)
        raise RuntimeError("the handler fails after it has begun")

    app = web.Application(middlewares=[problems])
    app.router.add_get("/-/generations", push)
    async with (
        listening(app, "127.0.0.1", 0, shutdown_timeout=0.1) as listener,
        following(publisher.store, f"http://127.0.0.1:{listener.port}") as follower,
    ):
        await eventually(lambda: streams > 1)
        await publisher.publish({})

        assert (await asyncio.wait_for(follower.wait_newer(0), 20)).number == 1


async def test_follower_without_a_primary_polls_the_log(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A primary that is away delays generations, and hides none."""
    monkeypatch.setattr(follow, "POLL_S", 0.05)
    async with following(publisher.store, NO_PRIMARY) as follower:
        await asyncio.wait_for(follower.wait_newer(-1), 20)
        for _ in range(3):
            await publisher.publish({})

        assert (await asyncio.wait_for(follower.wait_newer(2), 20)).number == 3
        await eventually(lambda: "cannot hear the primary" in follower.why.get("push", ""))


async def test_follower_on_an_empty_disk_shows_nothing_before_the_end_of_the_log(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it lost its disk its reader may have shown what the store does not give just now."""
    monkeypatch.setattr(follow, "POLL_S", 0.05)
    for _ in range(2):
        await publisher.publish({})
    read, refused = publisher.store.read, 0

    async def read_not_the_last(key: str) -> bytes:
        nonlocal refused
        if key == generation_key(2) and refused < 2:
            refused += 1
            raise StoreError("read it: the store is away")
        return await read(key)

    monkeypatch.setattr(publisher.store, "read", read_not_the_last)
    async with following(publisher.store, NO_PRIMARY) as follower:
        first = await asyncio.wait_for(follower.wait_newer(-1), 20)

    assert (first.number, refused) == (2, 2)


async def test_follower_whose_primary_comes_back_hears_what_it_missed(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push stream that breaks is made again, from where it broke; since when is known."""
    port = free_ports([0])
    async with AsyncExitStack() as stack:
        async with primary_of(publisher, port=port) as url:
            follower = await stack.enter_async_context(following(publisher.store, url))
            await eventually(lambda: follower.push_connected)
            assert follower.push_away_since is None
            monkeypatch.setattr(follow, "POLL_S", 3600.0)
        await eventually(lambda: follower.push_away_since)
        for _ in range(3):
            await publisher.publish({})
        await stack.enter_async_context(primary_of(publisher, port=port))

        assert (await asyncio.wait_for(follower.wait_newer(2), 20)).number == 3
        assert (follower.why, follower.push_away_since) == ({}, None)


async def test_follower_that_meets_a_gap_closes_it_from_the_log(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry that the push left out is read from the log."""
    monkeypatch.setattr(follow, "POLL_WITH_PUSH_S", 3600.0)
    async with primary_of(publisher) as url, following(publisher.store, url) as follower:
        await eventually(lambda: follower.push_connected)
        state, entry_log = publisher.state, GenerationLog(publisher.store)
        missed = Publisher(publisher.root)
        missed.state = state
        await missed.publish({})  # written to the log behind the pushing primary's back
        assert await entry_log.find_entry(1)
        await missed.publish({})
        entry = await publisher.store.read(generation_key(2))

        await follower._take(entry, 0.0)  # noqa: SLF001 - as the push would give it

        assert (await asyncio.wait_for(follower.wait_newer(1), 20)).number == 2


async def test_follower_survives_what_nobody_foresaw(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect in reading the log is told as well, and does not end the reader."""
    monkeypatch.setattr(follow, "POLL_S", 0.05)
    await publisher.publish({})
    with monkeypatch.context() as patch:
        patch.setattr(GenerationLog, "read_checkpoint", lambda _log: 1 / 0)
        async with following(publisher.store, NO_PRIMARY) as follower:
            why = await eventually(lambda: follower.why.get("log"))
            assert why == "ZeroDivisionError: division by zero"
            patch.undo()

            assert (await asyncio.wait_for(follower.wait_newer(0), 20)).number == 1
            await eventually(lambda: "log" not in follower.why)


async def test_follower_of_a_log_that_was_emptied_does_not_go_back(publisher: Publisher) -> None:
    """A log that ends before what was served already is told, and not followed."""
    for _ in range(3):
        served = await publisher.publish({})
    other = Publisher(publisher.root / "other")
    async with following(other.store, NO_PRIMARY) as follower:
        await follower.begin_at(served)

        await eventually(
            lambda: "the log has no generation 3, which this reader" in follower.why.get("log", "")
        )

        assert follower.newest == served
