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

import yarl
from aiohttp import web
from multidict import CIMultiDict

from headrace.errors import PROBLEM, Refusal
from headrace.web import problem_headers, refuse_method
from serve.arrivals import min_generation_cookie, personal_cookies
from serve.headers import request_headers, sign, without_session
from serve.ingest_proxy import pass_back, read_generation
from serve.primary_json import as_program, read_body
from serve.rendering import render
from serve.status_pages import PERSONAL

if TYPE_CHECKING:
    import aiohttp
    from multidict import MultiMapping

    from serve.callers import Caller
    from serve.ingest_proxy import IngestProxy
    from serve.pages import Pages
    from serve.status_pages import StatusPages
    from serve.workers import WorkerSet

FORM_WAIT_S = 2  # for small files: what is there by then needs no second look
SESSION_S = 5.0  # for the primary to say who somebody is
_JSON = "application/json"
DOCS = "/ingest/docs"
_OPENAPI = "/ingest/openapi.json"
_UPLOAD = "/ingest"
_SESSION = "/ingest/session"
# What a page is made of, by path.
_PAGES = (
    (re.compile(r"/ingest/receipts/[0-9a-f]{32}"), "receipt"),
    (re.compile(r"/ingest/receipts"), "receipts"),
    (re.compile(r"/ingest/audit"), "audit"),
)
_NOT_TO_KEEP = "private, no-store"
_KEPT = ("Set-Cookie", "Allow")  # headers of the primary's answer that its page has as well


class IngestPages:
    """Shows people what the primary says.

    Args:
        ingest: The way to the primary.
        pages: The way to Datasette.
        status: Shows people how it is.
    """

    def __init__(self, ingest: IngestProxy, pages: Pages, status: StatusPages) -> None:
        self._ingest = ingest
        self._pages = pages
        self._status = status

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
                if not _is_known(request.headers):  # the same for everybody: from memory
                    return await self._pages.answer(request, target, caller, held)
                session = await self._find_session(request, caller)
                said: dict[str, Any] = {"page": "upload", "session": session}
                return await self._show(request, target, caller, held, said)
            if reads and path == PERSONAL:
                return await self._status.answer(request, caller, held, personal=True)
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
        asking = as_program(request, method="GET", rel_url=_SESSION)
        try:
            async with asyncio.timeout(SESSION_S):
                answer = await self._ingest.obtain(asking, _SESSION, caller, 0)
                body = await read_body(answer)
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
        asking = as_program(request, method="GET", rel_url=_OPENAPI)
        answer = await self._ingest.obtain(asking, _OPENAPI, caller, held.state.number)
        document = json.loads(await read_body(answer))
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
        body = await read_body(answer)
        document = json.loads(body)
        headers = CIMultiDict(
            (name, value) for name in _KEPT for value in answer.headers.getall(name, [])
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
        asked["Cookie"] = without_session(asked.popall("Cookie", []))
        said = {"goes_on": _find_way_on(request, target), **said}
        page = await render(self._pages.upstream, held, target, asked, said)
        back = page.headers
        back.extend(headers or {})
        if said["page"] == "problem":
            back.update(problem_headers(said["document"]))
        back["Cache-Control"] = _NOT_TO_KEEP
        if page.status != HTTPStatus.OK:
            status = page.status
        sign(back, held.state.number)
        return web.Response(status=status, body=page.html, headers=back)


def _is_known(headers: MultiMapping[str]) -> bool:
    return "Authorization" in headers or bool(personal_cookies(headers))


def _asking_for_json(request: web.BaseRequest, path: str) -> web.BaseRequest:
    """Give a browser's request as a program would send it, which waits a little for an upload."""
    asking = as_program(request)
    if request.method == "POST" and path == _UPLOAD and "Prefer" not in asking.headers:
        headers = CIMultiDict(asking.headers)
        headers["Prefer"] = f"wait={FORM_WAIT_S}"
        return asking.clone(headers=headers)
    return asking


def _find_way_on(request: web.BaseRequest, target: str) -> str:
    """Tell where who signs in goes on: at the page asked for, or where its form was."""
    way = target
    if request.method not in {"GET", "HEAD"}:
        with suppress(ValueError):  # it is no URL
            way = yarl.URL(request.headers.get("Referer", "")).raw_path_qs
    within = way.startswith((f"{_UPLOAD}?", f"{_UPLOAD}/")) and not way.startswith(_SESSION)
    return way.replace("\\", "%5C") if within else _UPLOAD
