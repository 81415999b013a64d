"""``/ingest``: to the primary and back; who uploaded is made to wait for what he uploaded.

While the primary is away, uploads go to the object store. Whether it is there is asked before a
body is sent on (``Expect: 100-continue``), because what was sent is gone from here. Source: RFC
9110, section 10.1.1.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import unquote

import aiohttp
import yarl
from aiohttp import web

from headrace.arriving import find_database
from headrace.errors import Refusal
from headrace.options import database_of
from headrace.tokens import SESSION_COOKIE
from headrace.tracing import carried
from headrace.tus_metadata import describe, read_metadata
from headrace.web import answer_json
from serve.arrivals import min_generation_cookie
from serve.event_streams import EventStreams, nothing_yet
from serve.headers import request_headers, response_headers, sign
from serve.proxy import body_of, finish, forward, hand_back

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from multidict import CIMultiDict

    from serve.actor_question import ActorQuestion
    from serve.callers import Caller
    from serve.incoming import IncomingUploads
    from serve.proxy import Body

ANSWER_S = 5.0  # for the primary to want a body, or to show a receipt
OFFSET_S = 30.0  # to say how far a resumable upload is, which may have to be finished first
RECEIPT_AT_MOST_BYTES = 256 * 1024
_PUBLISHED = 201
_UNAVAILABLE = 503
_RECEIPT = re.compile(r"/ingest/receipts/([0-9a-f]{32})")
_EVENTS = re.compile(r"/ingest/receipts/[0-9a-f]{32}/events")
_DATABASE = re.compile(r"/ingest/databases/([^/]+)")
_TUS = re.compile(r"/ingest/tus/[^/]+")
_WAIT = re.compile(r"[?&]wait=([0-9]{1,2})(?:&|$)")


class IngestProxy:
    """Hands uploads on.

    Args:
        primary: Its URL.
        session: For requests to it.
        incoming: Takes uploads while it is away.
        actors: Asks Datasette who is signed in; None: this reader has no token to say so with.

    Attributes:
        events: The streams of events that are open.
    """

    def __init__(
        self,
        primary: str,
        session: aiohttp.ClientSession,
        incoming: IncomingUploads,
        actors: ActorQuestion | None = None,
    ) -> None:
        self._primary = yarl.URL(primary)
        self._session = session
        self._incoming = incoming
        self._actors = actors
        self.events = EventStreams()

    async def answer(
        self, request: web.BaseRequest, target: str, caller: Caller, generation: int
    ) -> web.StreamResponse:
        """Hand a request on, and the primary's answer back; or do in its place what can be done.

        Raises:
            Refusal: ``primary-away``, ``primary-lost``, or what an upload is refused for here.
        """
        if request.method == "GET" and _EVENTS.fullmatch(target.partition("?")[0]):
            return await self._answer_events(request, target, caller, generation)
        answer = await self.obtain(request, target, caller, generation)
        if isinstance(answer, web.Response):
            return answer
        return await pass_back(request, answer, generation)

    async def may_be_known(self, request: web.BaseRequest, target: str, caller: Caller) -> bool:
        """Tell whether the primary may know who sends a request; it is not asked."""
        if "Authorization" in request.headers or SESSION_COOKIE in request.cookies:
            return True
        return self._actors is not None and bool(
            await self._actors.ask(request, target, caller, None)
        )

    async def obtain(
        self, request: web.BaseRequest, target: str, caller: Caller, generation: int
    ) -> aiohttp.ClientResponse | web.Response:
        """Give the primary's answer, whose body is not read yet, or one that is made here.

        Raises:
            Refusal: As ``answer``.
        """
        path = target.partition("?")[0]
        receipt = _RECEIPT.fullmatch(path) if request.method == "GET" else None
        own: web.Response | None = None
        if (request.method, path) == ("POST", "/ingest"):
            answer = await self._offer(request, target, caller)
            if answer is None:
                own = await self._incoming.take(request, caller.address)
        elif receipt is not None:
            answer = await self._ask_receipt(request, target, caller)
            if answer is None:
                document = await self._incoming.find_receipt(receipt[1])
                own = None if document is None else answer_json(document)
        elif request.method == "HEAD" and _TUS.fullmatch(path):
            answer = await self._ask(request, target, caller, OFFSET_S)
            if answer is None:
                raise _offset_unknown()
        else:
            answer = await self._ask(request, target, caller, None)
        if own is not None:
            sign(own.headers, generation)
            return own
        if answer is None:
            raise Refusal(
                "primary-away",
                "the primary did not answer",
                hint="what is published can be read all the while; ask again later",
            )
        return answer

    async def _ask_receipt(
        self, request: web.BaseRequest, target: str, caller: Caller
    ) -> aiohttp.ClientResponse | None:
        """Ask for a receipt, and wait as the client wants to; None if the primary is away."""
        wait = _WAIT.search(target)
        if wait is None:
            return await self._ask(request, target, caller, ANSWER_S)
        within_s = ANSWER_S + float(wait[1])
        asking = self._ask(request, target, caller, within_s)
        answer = await self.events.unless_ended(asking)
        if answer is None:  # this reader stops, or the primary did not answer
            path = target.partition("?")[0]
            return await self._ask(request, path, caller, ANSWER_S)
        return answer

    async def _answer_events(
        self, request: web.BaseRequest, target: str, caller: Caller, generation: int
    ) -> web.StreamResponse:
        """Hand on the events of an upload as they come."""
        answer = await self._ask(request, target, caller, ANSWER_S)
        if answer is None:
            stream = nothing_yet("the primary cannot be reached")
            sign(stream.headers, generation)
            return stream
        if answer.content_type != "text/event-stream":
            return await pass_back(request, answer, generation)
        try:
            return await self.events.hand_back(request, answer, _headers_back(answer, generation))
        finally:
            answer.close()

    async def _ask(
        self, request: web.BaseRequest, target: str, caller: Caller, within_s: float | None
    ) -> aiohttp.ClientResponse | None:
        """Hand a request on; None if the primary does not answer."""
        try:
            async with asyncio.timeout(within_s):
                return await self._forward(request, target, caller, body_of(request))
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def _offer(
        self, request: web.BaseRequest, target: str, caller: Caller
    ) -> aiohttp.ClientResponse | None:
        """Hand an upload on; None if the primary is not there, or cannot take any: nothing is sent.

        Raises:
            Refusal: ``primary-lost``: it was there, and is gone in the middle.
        """
        body = _Offered(body_of(request))
        asking = asyncio.create_task(
            self._forward(request, target, caller, body.read(), expect100=True)
        )
        wanted = asyncio.create_task(body.wanted.wait())
        answer = None
        try:
            await asyncio.wait(
                [asking, wanted], timeout=ANSWER_S, return_when=asyncio.FIRST_COMPLETED
            )
            if asking.done() or not body.withdraw():
                answer = await asking
        except aiohttp.ClientError as exc:
            if not body.withdraw():
                raise Refusal(
                    "primary-lost",
                    "the primary is gone in the middle of the upload, which may be there or not",
                    hint="send it again, with the same Idempotency-Key: then it counts once",
                ) from exc
        finally:
            asking.cancel()
            wanted.cancel()
            await asyncio.gather(asking, wanted, return_exceptions=True)
        if answer is not None and answer.status == _UNAVAILABLE and body.withdraw():
            answer.close()
            return None
        return answer

    async def _forward(
        self,
        request: web.BaseRequest,
        target: str,
        caller: Caller,
        body: Body,
        *,
        expect100: bool = False,
    ) -> aiohttp.ClientResponse:
        headers = request_headers(request.headers, caller)
        headers.update(carried())
        if self._actors is not None:
            database = _find_database(request, target.partition("?")[0])
            headers.update(await self._actors.ask(request, target, caller, database))
        return await forward(
            self._session,
            self._primary,
            method=request.method,
            target=target,
            headers=headers,
            body=body,
            expect100=expect100,
        )


def _find_database(request: web.BaseRequest, path: str) -> str | None:
    """Tell which database a request writes to, if that stands before its body.

    Of one that is not there yet Datasette says whether somebody may only if it is asked by name.
    """
    if found := _DATABASE.match(path):
        return unquote(found[1])
    if (request.method, path) != ("POST", "/ingest/tus"):
        return find_database(request)
    with suppress(Refusal):  # the primary says what is wrong
        said = describe(read_metadata(request.headers.get("Upload-Metadata", "")))
        return database_of(said.fields, said.filename)
    return None


class _Offered:
    """A body that the primary wants, or that somebody else may take whole: never both.

    Attributes:
        wanted: Set when the primary wants it.
    """

    def __init__(self, chunks: AsyncIterator[bytes] | None) -> None:
        self.wanted = asyncio.Event()
        self._withdrawn = False
        self._chunks = chunks

    def withdraw(self) -> bool:
        """Offer it no longer, unless it was wanted; tells whether nothing of it is sent."""
        self._withdrawn = not self.wanted.is_set()
        return self._withdrawn

    async def read(self) -> AsyncIterator[bytes]:
        """Give it as it comes.

        Raises:
            ConnectionAbortedError: It is not offered any more: an empty one would be another.
        """
        if self._withdrawn:
            raise ConnectionAbortedError("the primary wants the body too late")
        self.wanted.set()
        if self._chunks is not None:
            async for chunk in self._chunks:
                yield chunk


async def pass_back(
    request: web.BaseRequest, answer: aiohttp.ClientResponse, generation: int
) -> web.StreamResponse:
    """Hand the primary's answer back as it comes; a browser that uploaded waits for the rows."""
    try:
        back = _headers_back(answer, generation)
        begun = []
        if request.method == "POST" and _may_be_receipt(answer):
            begun = [await answer.content.read()]
            if published := read_generation(begun[0]):
                back.add("Set-Cookie", min_generation_cookie(published))
        return await hand_back(request, answer, headers=back, begun=begun)
    finally:
        finish(answer)


def _headers_back(answer: aiohttp.ClientResponse, generation: int) -> CIMultiDict[str]:
    back = response_headers(answer.headers)
    sign(back, generation)
    return back


def _offset_unknown() -> Refusal:
    """Give what makes a client ask again: tus-js-client 4.3 takes a 503 for the upload's end."""
    return Refusal(
        "upload-locked",
        "the primary did not answer, so nobody knows how far the upload is",
        hint="ask again a moment later: what has come is kept",
    )


def _may_be_receipt(answer: aiohttp.ClientResponse) -> bool:
    length = answer.content_length
    return (
        answer.status == _PUBLISHED
        and answer.content_type == "application/json"
        and length is not None
        and length <= RECEIPT_AT_MOST_BYTES
    )


def read_generation(body: bytes) -> int:
    """Give the generation of a receipt, or the newest of several; 0 if there is none."""
    try:
        document = json.loads(body)
        receipts = document.get("receipts", [document])
        return max(int(receipt.get("generation") or 0) for receipt in receipts)
    except (ValueError, TypeError, AttributeError):
        return 0
