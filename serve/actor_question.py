"""Who is signed in to Datasette: asked of a worker, and told to the primary, signed.

So whoever signs in by one of Datasette's own plugins needs no token to upload. Only requests with
cookies or an ``Authorization``, and without a token, are asked about.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import aiohttp
import structlog

from headrace.actor_claim import ASKED_AT, HEADER, ActorClaim
from headrace.errors import Refusal
from headrace.tokens import SESSION_COOKIE, bearer_of
from serve.arrivals import personal_cookies
from serve.headers import rendering_headers, without_session
from serve.upstream import SAFE_TO_REPEAT

if TYPE_CHECKING:
    from aiohttp import web
    from multidict import CIMultiDict

    from headrace.actor_claim import ActorClaims
    from serve.callers import Caller
    from serve.switch import Supervisor
    from serve.upstream import Upstream

log = structlog.get_logger()

ANSWER_AT_MOST_BYTES = 256 * 1024
ANSWER_S = 5.0
_OK = 200
_SERVER_ERROR = 500
_OF_BODY = ("Content-Type", "Content-Length", "Content-Encoding", "Accept-Encoding")


class ActorQuestion:
    """Asks who is signed in.

    Args:
        claims: Signs what is told.
        supervisor: Has the set in service.
        upstream: The way to its workers.
    """

    def __init__(self, claims: ActorClaims, supervisor: Supervisor, upstream: Upstream) -> None:
        self._claims = claims
        self._supervisor = supervisor
        self._upstream = upstream

    async def ask(
        self, request: web.BaseRequest, target: str, caller: Caller, database: str | None
    ) -> dict[str, str]:
        """Give the headers that tell the primary; none if nobody is signed in.

        Args:
            request: That of the client.
            target: What it asks for.
            caller: Who sent it.
            database: Where it writes to, if that is known.

        Raises:
            Refusal: Datasette did not say, and only that could allow what is asked.
        """
        cookies = without_session([personal_cookies(request.headers)])
        known = cookies or "Authorization" in request.headers
        if not known or bearer_of(request.headers) is not None:
            return {}
        headers = rendering_headers(request.headers, caller)
        for name in (*_OF_BODY, "Cookie"):
            headers.popall(name, None)
        if cookies:
            headers["Cookie"] = cookies
        try:
            claim = await self._read(headers, database)
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError, Refusal) as exc:
            log.warning("actor not asked for", reason=repr(exc))
            if request.method in SAFE_TO_REPEAT or SESSION_COOKIE in request.cookies:
                return {}
            if isinstance(exc, Refusal):
                raise
            raise _not_told() from exc
        if claim is None:
            return {}
        path = target.partition("?")[0]
        now_s = time.time()
        signed = self._claims.encode(claim, method=request.method, path=path, now_s=now_s)
        return {HEADER: signed}

    async def _read(self, headers: CIMultiDict[str], database: str | None) -> ActorClaim | None:
        held = self._supervisor.current
        if held is None:
            raise Refusal("not-ready", "no generation is in service yet")
        query = "" if database is None else f"?{urlencode({'database': database})}"
        async with asyncio.timeout(ANSWER_S):
            answer = await self._upstream.ask(held, "GET", ASKED_AT + query, headers)
        try:
            body = await answer.read(ANSWER_AT_MOST_BYTES, ANSWER_S)
            if answer.response.status >= _SERVER_ERROR or body is None:
                raise _not_told()
            if answer.response.status != _OK:  # a plugin sends strangers elsewhere
                return None
            document = json.loads(body)
            if document["actor"] is None:
                return None
            return ActorClaim(
                actor=str(document["actor"]), databases=tuple(map(str, document["databases"]))
            )
        finally:
            answer.close()


def _not_told() -> Refusal:
    return Refusal("worker-failed", "Datasette did not say who is signed in: send it again")
