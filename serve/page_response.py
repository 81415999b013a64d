"""An answer from memory: one write to the socket, with a head that was made ready before."""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache
from typing import TYPE_CHECKING

from aiohttp import web

from serve.proxy import send_in_time
from serve.staleness import HEADER as STALENESS

if TYPE_CHECKING:
    import asyncio

    from aiohttp.abc import AbstractStreamWriter

    from serve.page import Representation

_CHUNK_BYTES = 256 * 1024


class PageResponse(web.StreamResponse):
    """Sends a page. It says all headers itself: aiohttp's way of making them costs twice as much.

    Args:
        page: What to send.
        unchanged: Whether the client has it already: then a ``304`` is sent.
        generation: The one that the page shows.
        age_s: Since it was rendered.
        timing: For ``Server-Timing``.
        stale_s: Since that generation was last known to be the newest; 0: not worth a word.
    """

    def __init__(
        self,
        page: Representation,
        status: int,
        *,
        unchanged: bool,
        generation: int,
        age_s: int,
        timing: str,
        stale_s: int,
    ) -> None:
        super().__init__(status=304 if unchanged else status)
        self._head = page.head_304 if unchanged else page.head
        self._page_body = b"" if unchanged else page.body
        self._body_length = len(self._page_body)
        self._rest = (
            f"Headrace-Generation: {generation}\r\nAge: {age_s}\r\n"
            f"Server-Timing: {timing}\r\nDate: {_http_date(int(time.time()))}\r\n"
        )
        if stale_s:
            self._rest += f"{STALENESS}: {stale_s}\r\n"

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it all."""
        self._keep_alive = keep_alive = request.keep_alive
        rest = self._rest
        if not keep_alive:
            rest += "Connection: close\r\n"
        elif request.version < (1, 1):
            rest += "Connection: keep-alive\r\n"
        body = b"" if request.method == "HEAD" else self._page_body
        self._body_length = len(body)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        head = self._head + rest.encode() + b"\r\n"
        if len(body) <= _CHUNK_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            await _write_large(request, transport, body)
        if transport.get_write_buffer_size():
            await _drain(request, transport)
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: all is sent."""


async def _write_large(
    request: web.BaseRequest, transport: asyncio.WriteTransport, body: bytes
) -> None:
    view = memoryview(body)
    for start in range(0, len(body), _CHUNK_BYTES):
        transport.write(view[start : start + _CHUNK_BYTES])
        await _drain(request, transport)


async def _drain(request: web.BaseRequest, transport: asyncio.WriteTransport) -> None:
    try:
        await send_in_time(request.writer.drain())
    except TimeoutError:
        transport.abort()
        raise ConnectionResetError("the client takes nothing") from None


@lru_cache(maxsize=2)
def _http_date(now_s: int) -> str:
    return formatdate(now_s, usegmt=True)
