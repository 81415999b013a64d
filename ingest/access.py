"""Who sends a request: by a token, by a cookie that a token became, or by Datasette's own sign-in.

In this order; what comes first counts. Rates are counted before anything is read of a body.
"""

from __future__ import annotations

import hmac
from dataclasses import replace
from typing import TYPE_CHECKING

from headrace.actor_claim import ALL, HEADER, ActorClaims
from headrace.errors import Refusal
from headrace.tokens import SESSION_COOKIE, UNKNOWN_HINT, bearer_of, hash_token
from ingest.same_origin import SAFE, require_same_origin
from ingest.sessions import LIFETIME_S, Sessions
from ingest.writer import INGEST, ROOT, By, Writer

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from aiohttp import web

    from ingest.rates import Rate
    from ingest.token_store import TokenStore


class Access:
    """Tells who sends a request, and whether it comes too often.

    Args:
        root_token: The token of the settings.
        tokens: Those that were given out.
        now: Gives the time, by a clock that never jumps.
        token_rate: Bounds the writes of each token, session or actor.
        address_rate: Bounds those of each address.
    """

    def __init__(
        self,
        root_token: str,
        tokens: TokenStore,
        now: Callable[[], datetime],
        *,
        token_rate: Rate,
        address_rate: Rate,
    ) -> None:
        self._root_hash = hash_token(root_token)
        self._tokens = tokens
        self._now = now
        self._sessions = Sessions(root_token, tokens.session_key)
        self._claims = ActorClaims(root_token)
        self._token_rate = token_rate
        self._address_rate = address_rate

    def count_address(self, request: web.Request) -> None:
        """Count a write of an address, before anybody knows whose it is.

        Raises:
            Refusal: ``too-many-requests``.
        """
        self._address_rate.take(address_of(request))

    def count(self, writer: Writer) -> None:
        """Count a write.

        Raises:
            Refusal: ``too-many-requests``.
        """
        self._token_rate.take(writer.id)

    def identify(self, request: web.Request) -> Writer:
        """Tell who sends a request.

        Raises:
            Refusal: ``unauthorized``; ``cross-site``: a cookie says so, and the request may be
                somebody else's idea.
        """
        address = address_of(request)
        token = bearer_of(request.headers)
        if token is not None:
            return self.of_token(token, address)
        if (writer := self._of_cookies(request, address)) is not None:
            if request.method not in SAFE:
                require_same_origin(request.headers)
            return writer
        raise Refusal(
            "unauthorized",
            "the request has no token",
            hint="send the header: Authorization: Bearer …",
        )

    def of_token(self, text: str, address: str) -> Writer:
        """Tell whose token that is.

        Raises:
            Refusal: ``unauthorized``.
            EndedTokenRefusal: The same, for one that was good once.
        """
        if hmac.compare_digest(hash_token(text), self._root_hash):
            return replace(ROOT, address=address)
        token = self._tokens.find(text)
        if token is None:
            raise Refusal("unauthorized", "the token is not known", hint=UNKNOWN_HINT)
        if fault := token.fault(self._now()):
            raise EndedTokenRefusal(fault, token.writer(address))
        self._tokens.note_use(token)
        return token.writer(address)

    def recall(self, writer_id: str, database: str | None, address: str) -> Writer:
        """Give who began something, after a while: he was allowed to then.

        Args:
            writer_id: His id.
            database: That he may go on with; a token that has ended since allows nothing.
            address: Where he wrote from.
        """
        if writer_id == ROOT.id:
            return replace(ROOT, address=address)
        scopes = frozenset() if database is None else frozenset({INGEST + database})
        token = self._tokens.find_by_id(writer_id.removeprefix("token:"))
        if token is not None and token.fault(self._now()) is not None:
            scopes = frozenset()
        name = writer_id.partition(":")[2] if token is None else token.name
        return Writer(id=writer_id, name=name, scopes=scopes, address=address)

    def session_of(self, writer: Writer) -> tuple[str, int]:
        """Give the cookie of a writer who has shown a token, and for how many seconds it is good.

        Raises:
            Refusal: ``not-found``: there is no such token any more.
        """
        token_id = writer.id.removeprefix("token:")
        expires_at = None if token_id == ROOT.id else self._tokens.get(token_id).expires_at
        now = self._now()
        left_s = LIFETIME_S
        if expires_at is not None:
            left_s = min(left_s, int((expires_at - now).total_seconds()))
        ends_s = now.timestamp() + left_s
        return self._sessions.encode(token_id, now.fromtimestamp(ends_s, now.tzinfo)), left_s

    def _of_cookies(self, request: web.Request, address: str) -> Writer | None:
        cookie = request.cookies.get(SESSION_COOKIE)
        token_id = None if cookie is None else self._sessions.decode(cookie, self._now())
        if token_id == ROOT.id:
            return replace(ROOT, address=address, by=By.SESSION)
        token = None if token_id is None else self._tokens.find_by_id(token_id)
        if token is not None and token.fault(self._now()) is None:
            self._tokens.note_use(token)
            return token.writer(address, By.SESSION)
        return self._of_actor(request, address)

    def _of_actor(self, request: web.Request, address: str) -> Writer | None:
        claim = self._claims.decode(
            request.headers.get(HEADER, ""),
            method=request.method,
            path=request.raw_path.partition("?")[0],
            now_s=self._now().timestamp(),
        )
        if claim is None:
            return None
        return Writer(
            id=f"actor:{claim.actor}",
            name=claim.actor,
            scopes=frozenset(INGEST + ("*" if name == ALL else name) for name in claim.databases),
            address=address,
            by=By.ACTOR,
        )


class EndedTokenRefusal(Refusal):
    """A token that is known, and has ended.

    Attributes:
        writer: Whose it was.
    """

    def __init__(self, detail: str, writer: Writer) -> None:
        super().__init__("unauthorized", detail, hint="ask for a new one")
        self.writer = writer


def address_of(request: web.Request) -> str:
    """Give where a request came from: a reader says so, and only readers get here."""
    return request.headers.get("X-Forwarded-For", "") or request.remote or ""
