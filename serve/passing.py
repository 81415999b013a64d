"""Answers that are not kept: handed through to one client as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serve.arrivals import personal_cookies
from serve.cache_rules import is_streamed, passing_cache_control
from serve.headers import request_headers, response_headers, sign
from serve.proxy import hand_back, read_small_body

if TYPE_CHECKING:
    from aiohttp import web

    from serve.callers import Caller
    from serve.upstream import Answer, Upstream
    from serve.workers import WorkerSet


async def pass_through(
    request: web.BaseRequest,
    target: str,
    caller: Caller,
    held: WorkerSet,
    upstream: Upstream,
    *,
    stale_s: int,
) -> web.StreamResponse:
    """Ask Datasette for one client, and hand its answer back as it comes.

    Raises:
        Refusal: It did not answer.
    """
    headers = request_headers(request.headers, caller)
    body = await read_small_body(request)
    streamed = is_streamed(target) or not (body is None or isinstance(body, bytes))
    async with upstream.limited():
        answer = await upstream.ask(held, request.method, target, headers, body, streamed=streamed)
    if not streamed:
        answer.leave_gate()
    return await _hand_back(request, answer, stale_s)


async def claim_and_hand_back(
    request: web.BaseRequest, answer: Answer, stale_s: int
) -> web.StreamResponse | None:
    """Hand an open answer back, if nobody else does already."""
    if request.method == "HEAD":
        answer.discard()
        return None
    if not answer.claim():
        return None
    answer.leave_gate()
    return await _hand_back(request, answer, stale_s)


async def _hand_back(request: web.BaseRequest, answer: Answer, stale_s: int) -> web.StreamResponse:
    try:
        headers = response_headers(answer.response.headers)
        given = ", ".join(headers.popall("Cache-Control", [])) or None
        personal = bool(personal_cookies(request.headers)) or "Authorization" in request.headers
        if said := passing_cache_control(given, personal=personal):
            headers["Cache-Control"] = said
        sign(headers, answer.generation, stale_s)
        headers["Server-Timing"] = f"cache;desc=pass, datasette;dur={answer.upstream_s * 1000:.1f}"
        return await hand_back(request, answer.response, headers=headers, begun=answer.begun)
    finally:
        answer.close()
