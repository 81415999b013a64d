"""Which requests and answers the page cache may keep, and what others are told to keep."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serve.restless import asks_restless

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multidict import CIMultiDictProxy

# A browser asks again each time, and a CDN as well: the answer is a 304 from memory, and nobody
# ever sees an old generation. Datasette's own `max-age=5`, which nobody chose, becomes this.
REVALIDATE = "public, max-age=0, must-revalidate"
UNCHOSEN = "max-age=5"  # Source: Datasette 0.65.5, setting default_cache_ttl
PERSONAL = "private, no-store"

# A page may show the time of day in a way that nobody sees (restless.py): it is rendered again at
# the latest after this.
MAX_AGE_S = 3600.0

CACHEABLE_METHODS = frozenset({"GET", "HEAD"})
_CACHEABLE_STATUS = frozenset({200, 404})
# Only requests without these are cached, so an answer that varies by them is one answer.
_ABSENT = frozenset({"cookie", "authorization"})
_UNDERSTOOD = frozenset({"accept-encoding", "accept", "origin"})
_FORBIDDING = frozenset({"private", "no-store", "no-cache", "must-understand"})

# They are about a copy that the client has, or a part: the cache wants the whole.
NOT_SENT_ON = frozenset(
    {
        "accept-encoding",
        "cache-control",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-unmodified-since",
        "pragma",
    }
)

# Answers that end when the client has them all: never held.
_STREAMED = re.compile(r"[?&]_stream=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How an answer is kept.

    Attributes:
        max_age_s: After that many seconds it is rendered again.
        cache_control: What browsers and CDNs are told.
        by_accept: Whether it answers only requests with the same ``Accept``.
    """

    max_age_s: float
    cache_control: str
    by_accept: bool


def is_cacheable_request(method: str, target: str, headers: Mapping[str, str]) -> bool:
    """Tell whether the cache may answer a request that carries no cookie of the user's."""
    return (
        method in CACHEABLE_METHODS
        and "Authorization" not in headers
        and "Range" not in headers
        and "Upgrade" not in headers
        and not is_streamed(target)
        and not asks_restless(target)
    )


def is_streamed(target: str) -> bool:
    """Tell whether a target is a CSV export without end."""
    return "_stream" in target and _STREAMED.search(target) is not None


def find_keeping(status: int, headers: CIMultiDictProxy[str]) -> Keeping | None:
    """Tell how Datasette's answer to a cacheable request is kept; None: not at all."""
    if status not in _CACHEABLE_STATUS or "Set-Cookie" in headers or "Content-Encoding" in headers:
        return None
    vary = _names(headers.getall("Vary", []))
    if vary - _UNDERSTOOD - _ABSENT:
        return None
    given = ", ".join(headers.getall("Cache-Control", []))
    if _names([given]) & _FORBIDDING:
        return None
    max_age_s, said = MAX_AGE_S, REVALIDATE
    if given and given.strip().lower() != UNCHOSEN:
        said = given
        max_age_s = min(_read_max_age_s(given), MAX_AGE_S)
    if max_age_s <= 0:
        return None
    return Keeping(max_age_s=max_age_s, cache_control=said, by_accept="accept" in vary)


def passing_cache_control(given: str | None, *, personal: bool) -> str | None:
    """Give the ``Cache-Control`` of an answer that is not kept; None: none."""
    if personal:
        forbidden = given is not None and _names([given]) & {"private", "no-store"}
        return given if forbidden else PERSONAL
    if given is not None and given.strip().lower() == UNCHOSEN:
        return "no-cache"
    return given


def _names(values: list[str]) -> set[str]:
    """Give the lower-case names in a list header, without their arguments."""
    return {
        name
        for value in values
        for part in value.split(",")
        if (name := part.partition("=")[0].strip().lower())
    }


def _read_max_age_s(given: str) -> float:
    lower = given.lower()
    found = re.search(r"s-maxage=(\d+)", lower) or re.search(r"max-age=(\d+)", lower)
    return float(found[1]) if found else MAX_AGE_S
