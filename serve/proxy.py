"""A streaming reverse proxy for one request: nothing is held whole, in either direction."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import yarl
from aiohttp import web

from headrace.errors import Refusal
from serve.headers import response_headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable

    from multidict import CIMultiDict

    Body = AsyncIterator[bytes] | bytes | None

# Set by the client session unless it is told not to: the client's own are sent on, or none.
_NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_READ_BYTES = 256 * 1024
_WRITE_BYTES = 64 * 1024
SMALL_BODY_BYTES = 64 * 1024
AHEAD_BYTES = 1024**2  # of an answer that waits for a slow client
SEND_TIMEOUT_S = 30.0  # for a client to take the next 64 KiB
BODY_TIMEOUT_S = 60.0  # for a client to send the next bytes of a body


def raw_target(request: web.BaseRequest) -> str:
    """Give path and query byte for byte, as the client sent them.

    Raises:
        Refusal: ``bad-request``: it is no path, not ASCII, or of another host than ``Host`` says.
    """
    target = request.raw_path
    if not target.startswith("/"):  # the absolute form, RFC 9112, 3.2.2
        authority = re.split("[/?#]", target.partition("://")[2], maxsplit=1)[0]
        if authority.lower() != request.headers.get("Host", "").lower():
            raise Refusal("bad-request", "the request's target and its Host are two hosts")
        target = request.rel_url.raw_path_qs
    if not target.startswith("/") or not target.isascii() or not target.isprintable():
        raise Refusal("bad-request", "the request's target is not a path of ASCII characters")
    return target


async def forward(
    session: aiohttp.ClientSession,
    base: yarl.URL,
    *,
    method: str,
    target: str,
    headers: CIMultiDict[str],
    body: Body,
    expect100: bool = False,
) -> aiohttp.ClientResponse:
    """Send a request on; gives the answer once its headers are here, even if the body is not sent.

    Args:
        session: Sends it.
        base: Where to.
        method: Of the request.
        target: Its path and query.
        headers: Its headers.
        body: Its body.
        expect100: Whether to send the body only when it is asked for.

    Raises:
        aiohttp.ClientError: No answer came.
    """
    path, _, query = target.partition("?")
    return await session.request(
        method,
        yarl.URL.build(
            scheme=base.scheme,
            authority=base.authority,
            path=path,
            query_string=query,
            encoded=True,
        ),
        headers=headers,
        data=body,
        expect100=expect100,
        skip_auto_headers=_NOT_ADDED,
        allow_redirects=False,
    )


def body_of(request: web.BaseRequest) -> AsyncIterator[bytes] | None:
    """Give a request's body as it comes; None if there is none."""
    return _read_body(request) if request.body_exists else None


def invite_body(request: web.BaseRequest) -> None:
    """Tell a client that waits for it to send its body."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def read_small_body(request: web.BaseRequest) -> Body:
    """Give a form's body whole, so that nobody waits for a slow client; a larger one as it comes.

    Raises:
        ConnectionError: The client is too slow, or gone.
    """
    length = request.content_length
    if length is None or length > SMALL_BODY_BYTES:
        return body_of(request)
    return b"".join([chunk async for chunk in _read_body(request)])


async def hand_back(
    request: web.BaseRequest,
    answer: aiohttp.ClientResponse,
    *,
    headers: CIMultiDict[str] | None = None,
    begun: Iterable[bytes] = (),
) -> web.StreamResponse:
    """Stream an answer to the client; cuts the connection if the answer breaks off.

    A body that ends early must not look whole: so the client's connection is aborted, not ended.
    A slow client holds a bounded part of the answer here, and its sender only beyond that.

    Args:
        request: Who asked.
        answer: What to hand back.
        headers: Other headers than the answer's.
        begun: What was read of the body before.
    """
    response = web.StreamResponse(
        status=answer.status,
        reason=answer.reason,
        headers=response_headers(answer.headers) if headers is None else headers,
    )
    if request.body_exists and not request.content.at_eof():
        response.force_close()  # an early answer: the rest of the body is not wanted
    await response.prepare(request)
    try:
        for chunk in begun:
            await _write(response, chunk)
        async with _read_ahead(answer) as chunks:
            async for chunk in chunks:
                await _write(response, chunk)
    except aiohttp.ClientConnectionResetError:  # the client is gone
        raise
    # RuntimeError: the worker's session was closed under a request that outlasted the drain
    except (aiohttp.ClientError, TimeoutError, RuntimeError):
        if request.transport is not None:
            request.transport.abort()
        return response
    await response.write_eof()
    return response


def finish(answer: aiohttp.ClientResponse) -> None:
    """Give the connection back for the next request, or close it if this one was cut short."""
    if answer.content.at_eof():
        answer.release()
    else:
        answer.close()


async def send_in_time(sending: Awaitable[None]) -> None:
    """Wait for a client to take something.

    Raises:
        TimeoutError: It took too long: a client must not hold what others need.
    """
    async with asyncio.timeout(SEND_TIMEOUT_S):
        await sending


async def _write(response: web.StreamResponse, chunk: bytes) -> None:
    view = memoryview(chunk)
    for start in range(0, len(chunk), _WRITE_BYTES):
        await send_in_time(response.write(view[start : start + _WRITE_BYTES]))


@asynccontextmanager
async def _read_ahead(answer: aiohttp.ClientResponse) -> AsyncIterator[AsyncIterator[bytes]]:
    """Read an answer as fast as it comes, up to ``AHEAD_BYTES`` ahead of whoever takes it."""
    chunks: deque[bytes] = deque()
    ahead_bytes = 0
    changed = asyncio.Event()

    async def read() -> None:
        nonlocal ahead_bytes
        try:
            async for chunk in answer.content.iter_any():
                chunks.append(chunk)
                ahead_bytes += len(chunk)
                changed.set()
                while ahead_bytes >= AHEAD_BYTES:
                    changed.clear()
                    await changed.wait()
        finally:
            changed.set()

    async def take() -> AsyncIterator[bytes]:
        nonlocal ahead_bytes
        while True:
            while chunks:
                chunk = chunks.popleft()
                ahead_bytes -= len(chunk)
                changed.set()
                yield chunk
            if reading.done():
                await reading  # raises what reading raised
                return
            changed.clear()
            await changed.wait()

    reading = asyncio.create_task(read())
    try:
        yield take()
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _read_body(request: web.BaseRequest) -> AsyncIterator[bytes]:
    """Give the body as it comes; the client is told to send it only when somebody reads it."""
    invite_body(request)
    while True:
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                chunk = await request.content.read(_READ_BYTES)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the client sends nothing") from None
        if not chunk:
            return
        yield chunk
