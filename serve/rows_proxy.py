"""Datasette's write API: to the primary and back; who wrote is made to wait for what he wrote.

Nothing is taken in the primary's place: who is answered with success has it replicated and
published.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import aiohttp
import yarl
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from headrace.errors import Refusal
from headrace.row_answers import answer_refusal
from headrace.row_bundles import Answered, Asked
from headrace.tracing import carried
from headrace.web import refuse_method
from serve.arrivals import min_generation_cookie
from serve.headers import request_headers, response_headers, sign
from serve.proxy import forward, read_small_body
from serve.row_bundles import MOST_BYTES, NotTakenError, RowBundles

if TYPE_CHECKING:
    from headrace.row_paths import RowPath
    from serve.actor_question import ActorQuestion
    from serve.callers import Caller
    from serve.proxy import Body

ANSWER_S = 45.0  # the primary itself says after 30 s that it takes too long
_MULTIPLE_CHOICES = 300
_AWAY = "what is published can be read all the while; send it again later"
_LOST = "look whether the rows are there before you send them again; an upsert may be sent twice"


class RowsProxy:
    """Hands writes of rows on.

    Args:
        primary: Its URL.
        session: For requests to it.
        actors: Asks Datasette who is signed in; None: this reader has no token to say so with.
    """

    def __init__(
        self,
        primary: str,
        session: aiohttp.ClientSession,
        actors: ActorQuestion | None = None,
    ) -> None:
        self._primary = yarl.URL(primary)
        self._session = session
        self._bundles = RowBundles(primary, session, answer_s=ANSWER_S)
        self._actors = actors

    async def answer(
        self, request: web.BaseRequest, target: str, path: RowPath, caller: Caller
    ) -> web.Response:
        """Hand a write on, and the primary's answer back."""
        if request.method != "POST":
            return refuse_method(request, target.partition("?")[0], "POST")
        try:
            return await self._answer(request, target, path, caller)
        except Refusal as refusal:
            return answer_refusal(refusal, older=path.older)

    async def _answer(
        self, request: web.BaseRequest, target: str, path: RowPath, caller: Caller
    ) -> web.Response:
        headers = request_headers(request.headers, caller)
        headers.update(carried())
        if self._actors is not None:
            headers.update(await self._actors.ask(request, target, caller, path.database))
        body = await read_small_body(request)
        within_s = ANSWER_S if body is None or isinstance(body, bytes) else None
        try:
            async with asyncio.timeout(within_s):
                answer = await self._ask(target, headers, body)
        except aiohttp.ClientConnectorError as exc:
            raise Refusal("primary-away", "the primary did not answer", hint=_AWAY) from exc
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise Refusal(
                "primary-lost",
                "the primary is gone in the middle: the rows may be there or not",
                hint=_LOST,
            ) from exc
        given = CIMultiDictProxy(CIMultiDict(answer.headers))
        back = response_headers(given)
        generation = int(given.get("Headrace-Generation", "0"))
        sign(back, generation)
        back.popall("Content-Length", None)
        back.popall("Date", None)
        if "Headrace-Receipt" in back and answer.status < _MULTIPLE_CHOICES:
            back.add("Set-Cookie", min_generation_cookie(generation))
        response = web.Response(status=answer.status, body=answer.body, headers=back)
        if request.body_exists and not request.content.at_eof():
            response.force_close()  # an early answer: the rest of the body is not wanted
        return response

    async def _ask(self, target: str, headers: CIMultiDict[str], body: Body) -> Answered:
        """Send a write on, a small one with others."""
        if isinstance(body, bytes) and len(body) <= MOST_BYTES:
            asked = Asked(target=target, headers=[*headers.items()], body=body)
            with suppress(NotTakenError):
                return await self._bundles.ask(asked)
        answer = await forward(
            self._session, self._primary, method="POST", target=target, headers=headers, body=body
        )
        async with answer:
            content = await answer.read()
        return Answered(status=answer.status, headers=[*answer.headers.items()], body=content)
