"""Which headers a proxy hands on, and which it sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multidict import CIMultiDict

from headrace.actor_claim import HEADER as ACTOR_HEADER
from headrace.tokens import MADE_PREFIX, SESSION_COOKIE, bearer_of
from serve.arrivals import personal_cookies
from serve.cache_rules import NOT_SENT_ON
from serve.page_header import PAGE_HEADER
from serve.staleness import HEADER as STALENESS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from multidict import CIMultiDictProxy, MultiMapping

    from serve.cache import Address
    from serve.callers import Caller

# They are about one connection, not about the request. Source: RFC 9110, 7.6.1.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    }
)
# What only this reader says of itself.
_GENERATION = "Headrace-Generation"
_OWN = (_GENERATION, STALENESS)
# What a client says about who it is, and what only this reader may say.
_FORWARDED = frozenset(
    {
        *("forwarded", "x-real-ip", "fly-client-ip"),
        *("headrace-generation", "headrace-min-generation"),
        PAGE_HEADER.lower(),
        ACTOR_HEADER.lower(),
    }
)
_FORWARDED_PREFIX = "x-forwarded-"
# `Connection` may name any header, but these are not about one connection.
_NEVER_NAMED = frozenset({"host", "content-length", "authorization", "cookie", "set-cookie"})


def request_headers(given: MultiMapping[str], caller: Caller) -> CIMultiDict[str]:
    """Give the headers to send on: end-to-end ones, and who asked for what.

    What the client itself says of its address is dropped: nobody has proven it (callers.py).
    """
    headers = _end_to_end(given)
    for name in [name for name in headers if _is_claim(name)]:
        headers.popall(name, None)
    headers.popall("Expect", None)  # answered here
    headers.popall("Cookie", None)
    if cookies := personal_cookies(given):
        headers["Cookie"] = cookies
    if caller.host:
        headers["Host"] = caller.host  # Datasette builds absolute URLs of it
    headers["X-Forwarded-For"] = caller.address
    headers["X-Forwarded-Proto"] = caller.scheme
    headers["X-Forwarded-Host"] = caller.host
    return headers


def rendering_headers(given: MultiMapping[str], caller: Caller) -> CIMultiDict[str]:
    """Give the headers to ask for a whole page with, whatever the client has of it."""
    headers = request_headers(given, caller)
    for name in NOT_SENT_ON:
        headers.popall(name, None)
    return headers


def warming_headers(address: Address) -> CIMultiDict[str]:
    """Give the headers to ask for a page with before anybody does."""
    headers = CIMultiDict({"Host": address.host})
    if address.origin:
        headers["Origin"] = address.origin
    headers["X-Forwarded-Proto"] = address.scheme
    headers["X-Forwarded-Host"] = address.host
    return headers


def response_headers(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """Give the headers to hand back."""
    kept = _end_to_end(headers)
    for name in _OWN:
        kept.popall(name, None)
    return kept


def sign(headers: CIMultiDict[str], generation: int, stale_s: int = 0) -> None:
    """Say in the headers of an answer whose it is, of which generation, and how stale that is.

    Args:
        headers: They are added to.
        generation: As served here, or as the primary says of what it did.
        stale_s: Seconds; 0: not worth a word.
    """
    headers[_GENERATION] = str(generation)
    headers["Server"] = "Headrace"
    if stale_s:
        headers[STALENESS] = str(stale_s)


def may_be_known_to_primary(headers: MultiMapping[str]) -> bool:
    """Tell whether the primary may know who sends a request that has not the root token."""
    token = bearer_of(headers)
    if token is None:
        return "Authorization" in headers or bool(personal_cookies(headers))
    return token.startswith(MADE_PREFIX)


def without_session(cookies: Iterable[str]) -> str:
    """Give cookies without the session's, which is the primary's: Datasette never sees it."""
    pairs = [pair.strip() for each in cookies for pair in each.split(";")]
    return "; ".join(
        pair for pair in pairs if pair and pair.partition("=")[0].strip() != SESSION_COOKIE
    )


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    named = {
        name.strip().lower()
        for key, value in headers.items()
        if key.lower() == "connection"
        for name in value.split(",")
    }
    dropped = _HOP_BY_HOP | (named - _NEVER_NAMED)
    return CIMultiDict((key, value) for key, value in headers.items() if key.lower() not in dropped)


def _is_claim(name: str) -> bool:
    return name.lower() in _FORWARDED or name.lower().startswith(_FORWARDED_PREFIX)
