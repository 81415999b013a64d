"""Writes that share a request to the primary: each gets its own answer, or none."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web

from headrace.row_bundles import PATH, Answered, Asked, decode_bundle, encode_answer
from serve.row_bundles import NotTakenError, RowBundles
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

BODIES = [b"0", b"1", b"\xff\x00", b'{"name": "\xc3\xa9"}']


@asynccontextmanager
async def bundles_to(handler: Handler | None) -> AsyncIterator[RowBundles]:
    """Give a way to a primary that takes bundles so, or none."""
    app = web.Application()
    if handler is not None:
        app.router.add_post(PATH, handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with aiohttp.ClientSession() as session:
            yield RowBundles(url, session, answer_s=20)
    finally:
        await runner.cleanup()


def asked(body: bytes) -> Asked:
    """Give a write."""
    return Asked(target="/a/b/-/insert", headers=[("X-Of", "me"), ("X-Of", "you")], body=body)


def echo(number: int, one: Asked) -> bytes:
    """Give an answer that holds what was asked."""
    headers = [("Location", one.target), *one.headers]
    return encode_answer(number, Answered(status=201, headers=headers, body=one.body))


async def test_each_of_a_bundle_gets_its_own_answer_in_whatever_order() -> None:
    """Bytes, headers and targets arrive as they are, and go back to whom they belong."""
    sizes: list[int] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        bundle = decode_bundle(await request.read())
        sizes.append(len(bundle))
        response = web.StreamResponse()
        await response.prepare(request)
        for number, one in reversed([*enumerate(bundle)]):
            await response.write(echo(number, one))
        return response

    async with bundles_to(answer) as bundles:
        found = await asyncio.gather(*(bundles.ask(asked(body)) for body in BODIES))

    assert [each.body for each in found] == BODIES
    assert [*map(tuple, found[0].headers)] == [
        ("Location", "/a/b/-/insert"),
        ("X-Of", "me"),
        ("X-Of", "you"),
    ]
    assert sum(sizes) == len(BODIES) > len(sizes)


async def test_answer_comes_before_that_of_others_in_its_bundle() -> None:
    """Nobody waits for a slower one."""
    go_on = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        first, second = decode_bundle(await request.read())
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(echo(1, second))
        await go_on.wait()
        await response.write(echo(0, first))
        return response

    async with bundles_to(answer) as bundles:
        slow = asyncio.create_task(bundles.ask(asked(b"slow")))
        quick = asyncio.create_task(bundles.ask(asked(b"quick")))
        assert (await quick).body == b"quick"
        assert not slow.done()
        go_on.set()
        assert (await slow).body == b"slow"


async def test_answers_that_do_not_come_are_failures_of_those_alone() -> None:
    """Of a primary that ends in the middle, who was answered is told so, and the others are not."""

    async def answer(request: web.Request) -> web.StreamResponse:
        first, _second = decode_bundle(await request.read())
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(echo(0, first))
        assert request.transport
        request.transport.abort()
        return response

    async with bundles_to(answer) as bundles:
        found = await asyncio.gather(
            *(bundles.ask(asked(body)) for body in BODIES[:2]), return_exceptions=True
        )
    assert isinstance(found[0], Answered)
    assert isinstance(found[1], aiohttp.ClientError)


async def test_primary_that_takes_no_bundles_is_told_apart() -> None:
    """One of an earlier version is sent each write by itself; one that is away gets none."""
    async with bundles_to(None) as bundles:
        with pytest.raises(NotTakenError):
            await bundles.ask(asked(b""))
    async with aiohttp.ClientSession() as session:
        away = RowBundles(f"http://127.0.0.1:{free_ports([0])}", session, answer_s=20)
        with pytest.raises(aiohttp.ClientConnectorError):
            await away.ask(asked(b""))
