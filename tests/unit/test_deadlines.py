"""Nobody waits for ever for somebody else: what the primary waits for has a deadline."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from headrace import arriving
from headrace.errors import Refusal
from ingest.api import readers
from tests.unit.loop_kit import now_s, run

if TYPE_CHECKING:
    from aiohttp import web


def test_client_that_sends_nothing_any_more_is_given_up() -> None:
    """However slow the pieces of a body come, only silence ends it."""

    async def read(_size: int) -> bytes:
        await asyncio.sleep(arriving.STALL_S - 1 if now_s() < 1000 else 3600)
        return b"x"

    pieces: list[bytes] = []

    async def take_all() -> None:
        async for piece in arriving.read_chunks(read):
            pieces.append(piece)  # noqa: PERF401 - those before the end count

    with pytest.raises(Refusal) as caught:
        run(take_all())

    assert (len(pieces), caught.value.code) == (17, "incomplete-body")


def test_follower_that_takes_nothing_any_more_is_given_up() -> None:
    """What is published does not pile up for a reader that hangs."""

    class Stuck:
        async def write(self, _line: bytes) -> None:
            await asyncio.Event().wait()

    async def main() -> float:
        with pytest.raises(TimeoutError):
            await readers._write(cast("web.StreamResponse", Stuck()), b"\n")  # noqa: SLF001
        return now_s()

    assert run(main()) == readers.SILENCE_S
