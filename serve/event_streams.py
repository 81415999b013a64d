"""Streams of events, from the primary to whoever watches an upload: nothing is held back.

A stream is worth nothing whole: whoever loses it asks again, and says what it saw last. So it ends
in order whenever the primary is gone, or this reader stops.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import aiohttp
from aiohttp import web

from serve.proxy import send_in_time

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from multidict import CIMultiDict

SILENCE_S = 30.0  # of the primary, which sends a heartbeat every 5
RETRY_MS = 2000  # until a client asks again

Done = TypeVar("Done")


class EventStreams:
    """Those that are open."""

    def __init__(self) -> None:
        self._ending = asyncio.Event()

    def end(self) -> None:
        """End all of them, and what is waited for besides."""
        self._ending.set()

    async def unless_ended(self, work: Coroutine[Any, Any, Done]) -> Done | None:
        """Wait for something as long as this reader does not stop; None if it does."""
        working = asyncio.ensure_future(work)
        ending = asyncio.ensure_future(self._ending.wait())
        try:
            await asyncio.wait([working, ending], return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            for task in (working, ending):
                task.cancel()
            await asyncio.gather(working, ending, return_exceptions=True)

    async def hand_back(
        self,
        request: web.BaseRequest,
        answer: aiohttp.ClientResponse,
        headers: CIMultiDict[str],
    ) -> web.StreamResponse:
        """Hand a stream back as it comes, until either side ends it or this reader stops."""
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(request)
        try:
            while chunk := await self.unless_ended(_read(answer)):
                await send_in_time(response.write(chunk))
            await send_in_time(response.write_eof())
        except TimeoutError:  # of a client that takes nothing
            if request.transport is not None:
                request.transport.abort()
        return response


def nothing_yet(why: str) -> web.Response:
    """Give a stream without events: a browser asks again, where a 503 would end it for good.

    Source: html.spec.whatwg.org/multipage/server-sent-events.html, 9.2.3: whatever is not 200 and a
    stream of events fails the connection.
    """
    return web.Response(
        text=f"retry: {RETRY_MS}\n: {why}\n\n",
        content_type="text/event-stream",
        headers={"Cache-Control": "no-store"},
    )


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """Read what has come; nothing if the primary is gone, and with it its part of the stream."""
    with suppress(aiohttp.ClientPayloadError, TimeoutError):
        async with asyncio.timeout(SILENCE_S):
            return await answer.content.readany()
    return b""
