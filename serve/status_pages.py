"""The status page, on the edge's side: what there is to see, rendered by a worker, and kept.

Everybody who is nobody in particular gets the same page, out of memory, for as long as there is
nothing new to see. Who may write gets one of his own at ``/ingest/status``, with the last uploads
that he may see; and here as well, if it is Datasette that he has signed in to.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from http import HTTPStatus
from time import perf_counter
from typing import TYPE_CHECKING, Any

from aiohttp import web

from headrace.errors import Refusal
from serve.cache import Address, Key
from serve.cache_rules import MAX_AGE_S
from serve.event_streams import RETRY_MS, nothing_yet
from serve.headers import request_headers, sign, warming_headers, without_session
from serve.page import Page
from serve.primary_json import as_program, read_body
from serve.proxy import send_in_time
from serve.rendering import Rendered, render

if TYPE_CHECKING:
    from multidict import CIMultiDict

    from serve.callers import Caller
    from serve.ingest_proxy import IngestProxy
    from serve.overview import Overview, Sight
    from serve.pages import Pages
    from serve.workers import WorkerSet

PATH = "/-/headrace"
EVENTS = "/-/headrace/events"
PERSONAL = "/ingest/status"
STREAMS_AT_MOST = 2000
HEARTBEAT_S = 15.0
IF_KNOWN = "Headrace-If-Known"  # the page's script asks whether there is more for this person
UPLOADS_S = 5.0  # for the primary to say what somebody has uploaded
# A copy that a browser or a CDN shows while this reader is gone would say that all is well.
_NOT_KEPT = "no-store"


class StatusPages:
    """Shows people how it is.

    Args:
        overview: Knows what there is to see.
        pages: The way to Datasette.
        ingest: The way to the primary.
        has_sign_in: Whether there is a page to sign in at.
    """

    def __init__(
        self, overview: Overview, pages: Pages, ingest: IngestProxy, *, has_sign_in: bool
    ) -> None:
        self._overview = overview
        self._pages = pages
        self._ingest = ingest
        self._has_sign_in = has_sign_in
        self._streams = 0

    async def answer(
        self,
        request: web.BaseRequest,
        caller: Caller,
        held: WorkerSet,
        *,
        personal: bool = False,
    ) -> web.StreamResponse:
        """Show the page.

        Args:
            request: What is asked.
            caller: Who asks.
            held: The set in service.
            personal: Whether it is for people alone who can be told what was uploaded.

        Raises:
            Refusal: ``unauthorized``: nobody said who he is; or a worker did not answer. The page's
                script is told in another way, since browsers complain of what is refused.
        """
        known, uploads = await self._find_uploads(request, caller)
        if personal and not known:
            if IF_KNOWN in request.headers:
                return web.Response(status=HTTPStatus.NO_CONTENT)
            raise Refusal("unauthorized", "the page is for people who may write")
        sight = await self._overview.look()
        if known:
            said = self._say(sight, is_known=True, uploads=uploads)
            return await self._show_one(request, caller, held, said)
        token = held.dependencies.find_token(PATH) or str(held.state.number)
        address = Address(caller.scheme, caller.host, PATH)
        key = Key(address, f"status.{sight.version}.{token}")

        async def make() -> Page:
            said = self._say(sight, is_known=False, uploads=None)
            return _as_page(await self._render(held, warming_headers(address), said))

        return await self._pages.answer_made(request, key, caller, held, make)

    async def answer_events(self, request: web.BaseRequest) -> web.StreamResponse:
        """Tell when there is something new to see, until the client goes or this reader stops."""
        if self._streams >= STREAMS_AT_MOST:
            return nothing_yet("too many watch here already")
        self._streams += 1
        try:
            return await self._stream(request)
        finally:
            self._streams -= 1

    async def _stream(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
        }
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        try:
            await response.write(f"retry: {RETRY_MS}\n\n".encode())
            async with aclosing(self._overview.watch()) as versions:
                upcoming = asyncio.ensure_future(anext(versions))
                try:
                    while await self._ingest.events.unless_ended(_wait(upcoming)) is not None:
                        text = ": \n\n"
                        if upcoming.done():
                            text = f"data: {upcoming.result()}\n\n"
                            upcoming = asyncio.ensure_future(anext(versions))
                        await send_in_time(response.write(text.encode()))
                finally:
                    upcoming.cancel()
                    await asyncio.gather(upcoming, return_exceptions=True)
            await send_in_time(response.write_eof())
        except TimeoutError:  # of a client that takes nothing
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _show_one(
        self, request: web.BaseRequest, caller: Caller, held: WorkerSet, said: dict[str, Any]
    ) -> web.Response:
        """Show the page to one person."""
        headers = request_headers(request.headers, caller)
        headers["Cookie"] = without_session(headers.popall("Cookie", []))
        page = await self._render(held, headers, said)
        page.headers["Cache-Control"] = "private, no-store"
        sign(page.headers, held.state.number)
        return web.Response(status=page.status, body=page.html, headers=page.headers)

    async def _find_uploads(self, request: web.BaseRequest, caller: Caller) -> tuple[bool, Any]:
        """Ask the primary what somebody has uploaded last; of a stranger it is not asked.

        Returns:
            Whether he is known, and the receipts that he may see; None: the primary does not say.
        """
        if not await self._ingest.may_be_known(request, PERSONAL, caller):
            return False, None
        asking = as_program(request, method="GET", rel_url=PERSONAL)
        try:
            async with asyncio.timeout(UPLOADS_S):
                answer = await self._ingest.obtain(asking, PERSONAL, caller, 0)
                body = await read_body(answer)
        except (Refusal, TimeoutError):
            return True, None
        if answer.status == HTTPStatus.UNAUTHORIZED:
            return False, None
        return True, json.loads(body)["receipts"] if answer.status == HTTPStatus.OK else None

    def _say(self, sight: Sight, *, is_known: bool, uploads: Any) -> dict[str, Any]:
        return {
            "seen": sight.document,
            "seen_version": sight.version,
            "is_known": is_known,
            "uploads": uploads,
            "has_sign_in": self._has_sign_in,
        }

    async def _render(
        self, held: WorkerSet, headers: CIMultiDict[str], said: dict[str, Any]
    ) -> Rendered:
        return await render(self._pages.upstream, held, PATH, headers, said)


async def _wait(upcoming: asyncio.Future[str]) -> bool:
    """Wait for what is new, or until it is time to show that the stream is alive."""
    await asyncio.wait([upcoming], timeout=HEARTBEAT_S)
    return True


def _as_page(page: Rendered) -> Page:
    """Give a page to keep; a broken template of the user's is told anew each time."""
    if page.status != HTTPStatus.OK:
        raise Refusal("worker-failed", "Datasette could not render the status page")
    return Page(
        status=HTTPStatus.OK,
        headers=[(k, v) for k, v in page.headers.items() if k.lower() != "vary"],
        content_type=page.headers.get("Content-Type", ""),
        body=page.html,
        cache_control=_NOT_KEPT,
        vary=["Accept", "Cookie", "Authorization"],
        accept=None,
        rendered_at_s=perf_counter(),
        max_age_s=MAX_AGE_S,
    )
