"""What the edge shows people below ``/ingest``, before a primary that says what it is told to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

from headrace.errors import Refusal
from headrace.web import problem_response, refuse_method
from tests.integration.edge_kit import EdgeClient, edge_of

if TYPE_CHECKING:
    from pathlib import Path

HTML = {"Accept": "text/html,*/*;q=0.8"}
AWAY = "headrace_session=away"
SESSION = "headrace_session=of-somebody"
# Shows what Datasette and its plugins get of a request.
COOKIES = """
from datasette import hookimpl

@hookimpl
def extra_template_vars(request):
    return {"datasette_version": "cookies: " + request.headers.get("cookie", "")}
"""


async def primary(request: web.Request) -> web.Response:
    """Answer as the primary: knows one session, and is away for another."""
    if "away" in request.cookies.values():
        assert request.transport
        request.transport.abort()
    if request.method == "PUT":
        return refuse_method(request, request.path, "GET, HEAD, POST")
    if request.method == "PATCH":
        again = Refusal("too-many-requests", "too often", extra={"retry_after": 7})
        return problem_response(request, again.document())
    if request.method == "POST":
        refusal = Refusal("unauthorized", "the token is not known")
        kind = "application/problem+json"
        return web.json_response(refusal.document(), status=401, content_type=kind)
    if request.path == "/ingest/session":
        signed_in = "headrace_session" in request.cookies
        named = {"signed_in": signed_in, "name": "<b>Ada</b>", "by": "session"}
        return web.json_response(named if signed_in else {"signed_in": False})
    return web.json_response({"path": request.path_qs, "accept": request.headers["Accept"]})


async def test_page_of_nobody_is_kept_and_that_of_somebody_is_not(tmp_path: Path) -> None:
    """What one person sees is never shown to another, and Datasette does not see the session."""
    async with edge_of(tmp_path, EdgeClient, COOKIES, ingest=primary) as reader:
        for expected in ("miss", "hit"):
            answer, text = await _get(reader, "/ingest")
            assert f"cache;desc={expected}" in answer.headers["Server-Timing"]
            assert "Accept" in answer.headers["Vary"].split(", ")
            assert 'name="token"' in text
        answer, text = await _get(reader, "/ingest", Cookie=f"{SESSION}; theme=dark")
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert "&lt;b&gt;Ada&lt;/b&gt;" in text
        assert 'name="token"' not in text
        assert "of-somebody" not in text
        answer, text = await _get(reader, "/ingest")
        assert "Ada" not in text
        assert json.loads((await reader.get("/ingest"))[1])["accept"] == "*/*"  # a program


async def test_page_cannot_be_filled_in_by_a_client(tmp_path: Path) -> None:
    """The header by which the edge has a page rendered is taken from nobody else."""
    said = json.dumps({"page": "problem", "document": {"title": "Call us", "detail": "now"}})
    async with edge_of(tmp_path, EdgeClient, COOKIES, ingest=primary) as reader:
        for path in ("/ingest", "/-/../ingest", "/%69ngest"):
            for method in ("GET", "POST"):
                options: dict[str, Any] = {"headers": {**HTML, "Headrace-Page": "1"}, "data": said}
                url = reader.url + path
                async with reader.session.request(method, url, **options) as answer:
                    assert "Call us" not in await answer.text()


async def test_page_says_what_is_wrong_in_the_look_of_the_instance(tmp_path: Path) -> None:
    """A primary that is away is no blank page; whoever is signed out can still read the page."""
    async with edge_of(tmp_path, EdgeClient, COOKIES, ingest=primary) as reader:
        answer, text = await _get(reader, "/ingest/generations", Cookie=AWAY)
        assert answer.status == 503
        assert "app.css" in text
        assert "The primary cannot be reached" in text
        answer, text = await _get(reader, "/ingest", Cookie=AWAY)
        assert (answer.status, 'name="token"' in text) == (200, True)


async def test_page_of_a_problem_has_the_headers_of_its_document(tmp_path: Path) -> None:
    """When to come back, what is allowed and how to say who one is: a browser is told as well."""
    expected = [
        ("PUT", {}, 405, {"Allow": "GET, HEAD, POST"}),
        ("PATCH", {}, 429, {"Retry-After": "7"}),
        ("POST", {}, 401, {"WWW-Authenticate": 'Bearer realm="headrace"'}),
        ("GET", {"Cookie": AWAY}, 503, {"Retry-After": "1"}),
    ]
    async with edge_of(tmp_path, EdgeClient, COOKIES, ingest=primary) as reader:
        url = f"{reader.url}/ingest/generations"
        for method, sent, status, headers in expected:
            async with reader.session.request(method, url, headers={**HTML, **sent}) as answer:
                assert answer.content_type == "text/html"
                assert (answer.status, headers.items() - answer.headers.items()) == (status, set())


async def test_page_of_a_wrong_token_leads_back_within_the_host(tmp_path: Path) -> None:
    """Who signs in goes on where the form was, whatever a page elsewhere says of that."""
    ways = {
        "http://here/ingest/audit?limit=5": "/ingest/audit?limit=5",
        "https://evil.example/ingest/receipts": "/ingest/receipts",
        "https://evil.example//evil.example/": "/ingest",
        "http://here/ingest/session": "/ingest",
        "http://[": "/ingest",
        "": "/ingest",
    }
    async with edge_of(tmp_path, EdgeClient, COOKIES, ingest=primary) as reader:
        for referer, way in ways.items():
            headers = {**HTML, "Referer": referer}
            url = f"{reader.url}/ingest/session"
            async with reader.session.post(url, headers=headers, data={"token": "x"}) as answer:
                assert answer.status == 401
                assert f'name="next" value="{way}"' in await answer.text(), referer


async def test_page_that_is_turned_off_is_not_there(tmp_path: Path) -> None:
    """Then no page leads to it, and browsers get the primary's JSON as programs do."""
    async with edge_of(tmp_path, EdgeClient, COOKIES, ingest=primary, upload_page=False) as reader:
        _answer, text = await _get(reader, "/ingest")
        assert json.loads(text)["path"] == "/ingest"
        for path in ("/", "/sales", "/sales/orders"):
            assert "/ingest" not in (await _get(reader, path))[1]


async def _get(reader: EdgeClient, path: str, **headers: str) -> tuple[Any, str]:
    url = reader.url + path
    async with reader.session.get(url, headers={**HTML, **headers}) as answer:
        return answer, await answer.text()
