"""What Datasette shows: from memory, or rendered once for all who ask, or handed through."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING

import aiohttp

from headrace.errors import Refusal
from serve.arrivals import personal_cookies
from serve.cache import Address, Heat, Key, PageCache
from serve.cache_rules import (
    find_keeping,
    is_cacheable_request,
)
from serve.encoding import IDENTITY, choose_coding
from serve.flight import Flights
from serve.headers import rendering_headers, response_headers, warming_headers
from serve.page import Page, Representation, matches
from serve.page_response import PageResponse
from serve.passing import claim_and_hand_back, pass_through
from serve.upstream import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from aiohttp import web
    from multidict import CIMultiDict

    from serve.callers import Caller
    from serve.limits import ClientLimit
    from serve.metrics import ReaderMetrics
    from serve.upstream import Upstream
    from serve.workers import WorkerSet

HOLD_S = 1.0  # an answer whose body takes longer is streamed: somebody may be reading along
INLINE_BYTES = 32 * 1024  # to compress more than this would be felt by others
PASSING_KEYS = 10_000  # remembered as not to be kept

# Made by aiohttp or by the page itself, or about this connection alone.
_OWN_HEADERS = frozenset({"cache-control", "content-length", "date", "etag", "server", "vary"})


class Pages:
    """Answers requests for Datasette.

    Args:
        cache: What is kept.
        upstream: The way to Datasette.
        clients: Bounds what one address asks of it.
        metrics: Counts hits and misses.
    """

    def __init__(
        self, cache: PageCache, upstream: Upstream, clients: ClientLimit, metrics: ReaderMetrics
    ) -> None:
        self.cache = cache
        self._clock = perf_counter
        self.heat = Heat(self._clock)
        self.upstream = upstream
        self._clients = clients
        self._renders: Flights[Key, Page | Answer] = Flights(_discard)
        self._encodings: Flights[tuple[int, str], Representation] = Flights(lambda _: None)
        self._passing: set[Key] = set()
        results = metrics.cache_requests
        self._hits, self._misses = results.labels("hit"), results.labels("miss")
        self._shared, self._passes = results.labels("shared"), results.labels("pass")
        metrics.watch_cache(cache, upstream.gate)

    async def answer(
        self,
        request: web.BaseRequest,
        target: str,
        caller: Caller,
        held: WorkerSet,
        stale_s: int = 0,
    ) -> web.StreamResponse:
        """Answer a request out of the set in service.

        Args:
            request: What is asked.
            target: Its path and query.
            caller: Who asks.
            held: The set.
            stale_s: What the answer says of its staleness; 0: nothing.
        """
        key = self._find_key(request, target, caller, held)
        if key is not None:
            page = self.cache.find(key, _read_list(request, "Accept"))
            if page is not None:
                self._hits.inc()
                return await self._send(
                    request, key, page, held, timing="cache;desc=hit", stale_s=stale_s
                )
        with self._clients.hold(caller.address):
            if key is not None and key not in self._passing:
                response = await self._render_for(request, key, caller, held, stale_s)
                if response is not None:
                    return response
            self._passes.inc()
            return await pass_through(request, target, caller, held, self.upstream, stale_s=stale_s)

    async def answer_made(
        self,
        request: web.BaseRequest,
        key: Key,
        caller: Caller,
        held: WorkerSet,
        make: Callable[[], Coroutine[Any, Any, Page]],
    ) -> web.StreamResponse:
        """Answer with a page that the edge has made, once for all who ask for the same.

        Args:
            request: What is asked.
            key: Names all that the page depends on.
            caller: Who asks.
            held: The set that makes it.
            make: Makes it.

        Raises:
            Refusal: It was not made.
        """

        async def make_and_keep() -> Page:
            page = await make()
            self.cache.put(key, page)
            return page

        page, word = self.cache.find(key, ""), "hit"
        if page is None:
            with self._clients.hold(caller.address):
                made, word = await self._renders.join(key, make_and_keep), "miss"
            assert isinstance(made, Page)  # noqa: S101 - nobody else has keys of this kind
            page = made
        return await self._send(request, key, page, held, timing=f"cache;desc={word}", stale_s=0)

    def count_waiting(self, target: str) -> int:
        """Give how many wait for a page that is being rendered."""
        waiting = self._renders.waiting()
        return sum(count for key, count in waiting.items() if key.address.target == target)

    async def warm(self, held: WorkerSet, address: Address) -> None:
        """Render a page of a set that is not in service yet into the cache, unless it is there."""
        token = held.dependencies.find_token(address.target.partition("?")[0])
        if token is None or self.cache.find(key := Key(address, token), "") is not None:
            return
        headers = warming_headers(address)
        result = await self._renders.join(key, lambda: self._render(held, key, headers))
        if isinstance(result, Answer):
            result.discard()

    # from memory

    def _find_key(
        self, request: web.BaseRequest, target: str, caller: Caller, held: WorkerSet
    ) -> Key | None:
        """Give the key of a request that the cache may answer, else None."""
        headers = request.headers
        if (
            not self.cache.max_bytes
            or request.body_exists
            or not is_cacheable_request(request.method, target, headers)
            or ("Cookie" in headers and personal_cookies(headers))
        ):
            return None
        token = held.dependencies.find_token(target.partition("?")[0])
        if token is None:
            return None
        origin = _read_list(request, "Origin")
        return Key(Address(caller.scheme, caller.host, target, origin), token)

    async def _send(
        self,
        request: web.BaseRequest,
        key: Key,
        page: Page,
        held: WorkerSet,
        *,
        timing: str,
        stale_s: int,
    ) -> web.StreamResponse:
        self.heat.count(key.address)
        headers = request.headers
        coding = IDENTITY
        if page.compressible:
            coding = choose_coding(headers.get("Accept-Encoding"))
        sent = page.representations.get(coding) or await self._encode(key, page, coding)
        if_none_match = headers.get("If-None-Match")
        return PageResponse(
            sent,
            page.status,
            unchanged=page.status == 200  # noqa: PLR2004
            and if_none_match is not None
            and matches(if_none_match, sent.etag),
            generation=held.state.number,
            age_s=int(self._clock() - page.rendered_at_s),
            timing=timing,
            stale_s=stale_s,
        )

    async def _encode(self, key: Key, page: Page, coding: str) -> Representation:
        """Compress a page, once for all who want that coding."""

        async def encode() -> Representation:
            if len(page.body) <= INLINE_BYTES:
                body = page.encode(coding)
            else:
                body = await asyncio.to_thread(page.encode, coding)
            before_bytes = page.size_bytes
            made = page.add(coding, body)
            self.cache.grown(key, page, page.size_bytes - before_bytes)
            return made

        return await self._encodings.join((id(page), coding), encode)

    # rendered

    async def _render_for(
        self, request: web.BaseRequest, key: Key, caller: Caller, held: WorkerSet, stale_s: int
    ) -> web.StreamResponse | None:
        """Render a page, with all who want the same; None if each has to ask for it alone."""
        accept = _read_list(request, "Accept")
        headers = rendering_headers(request.headers, caller)
        started_s = perf_counter()
        wanted = key
        for last in (False, False, True):
            began = not self._renders.has(wanted)
            try:
                result = await self._renders.join(wanted, lambda: self._render(held, key, headers))
            except Refusal as refusal:
                if refusal.code == "worker-failed" and not began and not last:
                    continue  # the first to come here tries, the others follow it
                raise
            (self._misses if began else self._shared).inc()
            if isinstance(result, Answer):
                return await claim_and_hand_back(request, result, stale_s)
            if result.accept in (None, accept):
                took_ms = (perf_counter() - started_s) * 1000
                word = "miss" if began else "shared"
                timing = f"cache;desc={word}, datasette;dur={took_ms:.1f}"
                return await self._send(request, key, result, held, timing=timing, stale_s=stale_s)
            wanted = key._replace(accept=accept)
        return None

    async def _render(self, held: WorkerSet, key: Key, headers: CIMultiDict[str]) -> Page | Answer:
        """Ask Datasette for a page and keep it; what is not to be kept comes back open."""
        async with self.upstream.limited():
            answer = await self.upstream.ask(held, "GET", key.address.target, headers)
            try:
                response = answer.response
                keeping = find_keeping(response.status, response.headers)
                body = None
                at_most_bytes = self.cache.entry_at_most_bytes
                if keeping is not None and (response.content_length or 0) <= at_most_bytes:
                    body = await answer.read(at_most_bytes, HOLD_S)
            except aiohttp.ClientError as exc:
                answer.close()
                raise Refusal("worker-failed", "Datasette broke off its answer") from exc
            except BaseException:
                answer.close()
                raise
        if keeping is None or body is None:
            if len(self._passing) >= PASSING_KEYS:
                self._passing.clear()
            self._passing.add(key)
            return answer
        answer.close()
        kept = response_headers(response.headers)
        page = Page(
            status=response.status,
            headers=[(k, v) for k, v in kept.items() if k.lower() not in _OWN_HEADERS],
            content_type=response.headers.get("Content-Type", ""),
            body=body,
            cache_control=keeping.cache_control,
            vary=[part for part in kept.getall("Vary", []) if part.lower() != "accept-encoding"],
            accept=", ".join(headers.getall("Accept", [])) if keeping.by_accept else None,
            rendered_at_s=self._clock(),
            max_age_s=keeping.max_age_s,
        )
        self.cache.put(key, page)
        return page


def _read_list(request: web.BaseRequest, name: str) -> str:
    """Give the value of a header that may come in several lines."""
    return ", ".join(request.headers.getall(name, ()))


def _discard(result: Page | Answer) -> None:
    if isinstance(result, Answer):
        result.discard()
