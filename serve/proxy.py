"""A streaming reverse proxy for one request: nothing is held whole, in either direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import yarl
from aiohttp import web

from headrace.errors import Refusal
from serve.headers import request_headers, response_headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# Set by the client session unless it is told not to: the client's own are sent on, or none.
_NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_READ_BYTES = 256 * 1024


def raw_target(request: web.BaseRequest) -> str:
    """Give path and query byte for byte, as the client sent them.

    Raises:
        Refusal: ``bad-request``: it is no path, or not ASCII.
    """
    target = request.raw_path
    if not target.startswith("/"):  # the absolute form, RFC 9112, 3.2.2
        target = request.rel_url.raw_path_qs
    if not target.startswith("/") or not target.isascii() or not target.isprintable():
        raise Refusal("bad-request", "the request's target is not a path of ASCII characters")
    return target


async def forward(
    request: web.Request, session: aiohttp.ClientSession, base: yarl.URL
) -> aiohttp.ClientResponse:
    """Send a request on; gives the answer once its headers are here, even if the body is not sent.

    Raises:
        aiohttp.ClientError: No answer came.
    """
    path, _, query = raw_target(request).partition("?")
    return await session.request(
        request.method,
        yarl.URL.build(
            scheme=base.scheme,
            authority=base.authority,
            path=path,
            query_string=query,
            encoded=True,
        ),
        headers=request_headers(request),
        data=_read_body(request) if request.body_exists else None,
        skip_auto_headers=_NOT_ADDED,
        allow_redirects=False,
    )


async def hand_back(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    """Stream an answer to the client; cuts the connection if the answer breaks off.

    A body that ends early must not look whole: so the client's connection is aborted, not ended.
    """
    response = web.StreamResponse(
        status=answer.status, reason=answer.reason, headers=response_headers(answer.headers)
    )
    if request.body_exists and not request.content.at_eof():
        response.force_close()  # an early answer: the rest of the body is not wanted
    await response.prepare(request)
    try:
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
    except aiohttp.ClientConnectionResetError:  # the client is gone
        raise
    except (aiohttp.ClientError, RuntimeError):  # RuntimeError: the worker's session is closed
        if request.transport is not None:
            request.transport.abort()
        return response
    await response.write_eof()
    return response


async def _read_body(request: web.Request) -> AsyncIterator[bytes]:
    """Give the body as it comes; the client is told to send it only when somebody reads it."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    while chunk := await request.content.read(_READ_BYTES):
        yield chunk
