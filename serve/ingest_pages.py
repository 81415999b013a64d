"""What a person's browser is shown below ``/ingest``: pages, where programs get JSON.

The primary is asked for JSON, a worker makes a page of it (``serve/upload_page``): so what people
see has the look of the instance, and neither the primary nor the edge writes HTML.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp
import yarl
from aiohttp import web
from multidict import CIMultiDict

from headrace.errors import PROBLEM, Refusal
from headrace.web import refuse_method
from serve.arrivals import min_generation_cookie, personal_cookies
from serve.headers import request_headers, response_headers, sign, without_session
from serve.ingest_proxy import pass_back, read_generation
from serve.page_header import PAGE_HEADER
from serve.proxy import finish

if TYPE_CHECKING:
    from serve.callers import Caller
    from serve.ingest_proxy import IngestProxy
    from serve.pages import Pages
    from serve.workers import WorkerSet

FORM_WAIT_S = 2  # for small files: what is there by then needs no second look
SESSION_S = 5.0  # for the primary to say who somebody is
_JSON = "application/json"
DOCS = "/ingest/docs"
_OPENAPI = "/ingest/openapi.json"
_UPLOAD = "/ingest"
_SESSION = "/ingest/session"
_ABOUT_A_COPY = ("If-None-Match", "If-Modified-Since", "Range")
# What a page is made of, by path.
_PAGES = (
    (re.compile(r"/ingest/receipts/[0-9a-f]{32}"), "receipt"),
    (re.compile(r"/ingest/receipts"), "receipts"),
    (re.compile(r"/ingest/audit"), "audit"),
)
_ABOUT_A_BODY = ("Content-Length", "Content-Encoding", "Accept-Encoding")
# Where a person comes from: Datasette 1.0 refuses what another site's page sends. This is ours.
_ABOUT_ITS_WAY = ("Origin", "Sec-Fetch-Site")
# About the worker's answer alone, or made anew here.
_OF_THE_WORKER = ("Content-Length", "Date", "Server", "Cache-Control")
_NOT_TO_KEEP = "private, no-store"


class IngestPages:
    """Shows people what the primary says.

    Args:
        ingest: The way to the primary.
        pages: The way to Datasette.
    """

    def __init__(self, ingest: IngestProxy, pages: Pages) -> None:
        self._ingest = ingest
        self._pages = pages

    async def answer(
        self, request: web.BaseRequest, target: str, caller: Caller, held: WorkerSet
    ) -> web.StreamResponse:
        """Answer a person; what no page can be made of is said as before.

        Raises:
            Refusal: A worker did not answer.
        """
        path = target.partition("?")[0]
        reads = request.method in {"GET", "HEAD"}
        try:
            if reads and path == _UPLOAD:
                if not personal_cookies(request.headers):  # the same for everybody: from memory
                    return await self._pages.answer(request, target, caller, held)
                session = await self._find_session(request, caller)
                said: dict[str, Any] = {"page": "upload", "session": session}
                return await self._show(request, target, caller, held, said)
            if path == DOCS:
                return await self._show_docs(request, target, caller, held)
            asking = _asking_for_json(request, path)
            answer = await self._ingest.obtain(asking, target, caller, held.state.number)
            return await self._show_answer(request, target, caller, held, answer)
        except Refusal as refusal:
            if refusal.code in {"worker-failed", "overloaded", "timeout"}:
                raise
            said = {"page": "problem", "document": refusal.document()}
            return await self._show(request, target, caller, held, said, status=refusal.status)

    async def _find_session(self, request: web.BaseRequest, caller: Caller) -> Any:
        """Ask the primary who somebody is; None: nobody that it knows, or it is away."""
        asking = _asking_for_json(request, _SESSION).clone(method="GET", rel_url=_SESSION)
        try:
            async with asyncio.timeout(SESSION_S):
                answer = await self._ingest.obtain(asking, _SESSION, caller, 0)
                body = await _read_body(answer)
        except (Refusal, TimeoutError):
            return None
        return json.loads(body) if answer.status == HTTPStatus.OK else None

    async def _show_docs(
        self, request: web.BaseRequest, target: str, caller: Caller, held: WorkerSet
    ) -> web.Response:
        """Show what the interface is, as the primary describes it."""
        if request.method not in {"GET", "HEAD"}:
            refused = refuse_method(request, DOCS, "GET, HEAD")
            sign(refused.headers, held.state.number)
            return refused
        asking = _asking_for_json(request, _OPENAPI).clone(method="GET", rel_url=_OPENAPI)
        answer = await self._ingest.obtain(asking, _OPENAPI, caller, held.state.number)
        document = json.loads(await _read_body(answer))
        if answer.status != HTTPStatus.OK:
            said = {"page": "problem", "document": document}
            return await self._show(request, target, caller, held, said, status=answer.status)
        said = {"page": "docs", "document": document}
        return await self._show(request, target, caller, held, said)

    async def _show_answer(
        self,
        request: web.BaseRequest,
        target: str,
        caller: Caller,
        held: WorkerSet,
        answer: aiohttp.ClientResponse | web.Response,
    ) -> web.StreamResponse:
        """Make a page of the primary's answer, send the browser to where one is, or pass it on."""
        path = target.partition("?")[0]
        sent = request.method == "POST" and path == _UPLOAD
        is_problem = answer.content_type == PROBLEM
        shown = next((name for pattern, name in _PAGES if pattern.fullmatch(path)), None)
        if not is_problem and not (answer.content_type == _JSON and (sent or shown)):
            if isinstance(answer, web.Response):
                return answer
            return await pass_back(request, answer, held.state.number)
        body = await _read_body(answer)
        document = json.loads(body)
        headers = CIMultiDict(
            ("Set-Cookie", cookie) for cookie in answer.headers.getall("Set-Cookie", [])
        )
        status = answer.status
        if is_problem:
            page = "problem"
        elif shown is not None:
            page = shown
        else:
            if generation := read_generation(body):
                headers.add("Set-Cookie", min_generation_cookie(generation))
            if "receipts" not in document:
                headers["Location"] = answer.headers["Location"]
                headers["Cache-Control"] = _NOT_TO_KEEP
                sign(headers, held.state.number)
                return web.Response(status=HTTPStatus.SEE_OTHER, headers=headers)
            page = "receipts"
        said = {"page": page, "document": document}
        return await self._show(request, target, caller, held, said, status=status, headers=headers)

    async def _show(
        self,
        request: web.BaseRequest,
        target: str,
        caller: Caller,
        held: WorkerSet,
        said: dict[str, Any],
        *,
        status: int = HTTPStatus.OK,
        headers: CIMultiDict[str] | None = None,
    ) -> web.Response:
        """Have a worker render a page for one person.

        Raises:
            Refusal: It did not.
        """
        asked = request_headers(request.headers, caller)
        for name in (*_ABOUT_A_BODY, *_ABOUT_ITS_WAY):
            asked.popall(name, None)
        asked["Cookie"] = without_session(asked.popall("Cookie", []))
        asked[PAGE_HEADER] = "1"
        asked["Content-Type"] = _JSON
        body = json.dumps({"goes_on": _find_way_on(request, target), **said}).encode()
        upstream = self._pages.upstream
        async with upstream.limited():
            answer = await upstream.ask(held, "POST", target, asked, body)
            try:
                html = await answer.response.read()
            except aiohttp.ClientError as exc:
                raise Refusal("worker-failed", "Datasette broke off its answer") from exc
            finally:
                answer.close()
        back = response_headers(answer.response.headers)
        for name in _OF_THE_WORKER:
            back.popall(name, None)
        back.extend(headers or {})
        back["Cache-Control"] = _NOT_TO_KEEP
        if answer.response.status != HTTPStatus.OK:  # a template of the user's is broken
            status = answer.response.status
        sign(back, held.state.number)
        return web.Response(status=status, body=html, headers=back)


def _asking_for_json(request: web.BaseRequest, path: str) -> web.BaseRequest:
    """Give a browser's request as a program would send it."""
    headers = CIMultiDict(request.headers)
    headers["Accept"] = _JSON
    for name in _ABOUT_A_COPY:
        headers.popall(name, None)
    if request.method == "POST" and path == _UPLOAD and "Prefer" not in headers:
        headers["Prefer"] = f"wait={FORM_WAIT_S}"
    return request.clone(headers=headers)


def _find_way_on(request: web.BaseRequest, target: str) -> str:
    """Tell where who signs in goes on: at the page asked for, or where its form was."""
    way = target
    if request.method not in {"GET", "HEAD"}:
        with suppress(ValueError):  # it is no URL
            way = yarl.URL(request.headers.get("Referer", "")).raw_path_qs
    within = way.startswith((f"{_UPLOAD}?", f"{_UPLOAD}/")) and not way.startswith(_SESSION)
    return way.replace("\\", "%5C") if within else _UPLOAD


async def _read_body(answer: aiohttp.ClientResponse | web.Response) -> bytes:
    """Give an answer's body, which is a document of ours.

    Raises:
        Refusal: ``primary-lost``: the primary broke off.
    """
    if isinstance(answer, web.Response):
        return bytes(answer.body)  # type: ignore[arg-type] # it was made of text
    try:
        return await answer.read()
    except aiohttp.ClientError as exc:
        raise Refusal("primary-lost", "the primary broke off its answer") from exc
    finally:
        finish(answer)
