"""The status page, and the foot of every page, before a primary that says what it is told to."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiohttp import web

from headrace.generation import format_time
from serve import status_pages
from serve.primary_look import ASK_EVERY_S
from tests.integration.edge_kit import EdgeClient, edge_of
from tests.integration.reader_kit import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiohttp
    import pytest

HTML = {"Accept": "text/html,*/*;q=0.8"}
PRIVATE = {"databases": {"secret": {"allow": {"id": "ada"}}}}
# Whoever says in a cookie that he is somebody is, and pages are counted as they are rendered.
PLUGIN = """
from datasette import hookimpl

RENDERED = []

@hookimpl
def actor_from_request(request):
    return {"id": request.cookies["am"]} if "am" in request.cookies else None

@hookimpl
def permission_allowed(actor, action):
    return True if action == "headrace-ingest" and actor and actor["id"] == "ada" else None

@hookimpl
def extra_template_vars(template):
    RENDERED.append(template)
    return {"query_ms": RENDERED.count(template) * 1000}
"""
RECEIPT = {
    "id": "a" * 32,
    "filename": "upload-of-ada.csv",
    "state": "published",
    "generation": 1,
    "url": "/sales/orders",
    "tables": [{"name": "orders", "rows": 1234}],
    "error": None,
    "created_at": "2026-11-27T12:00:00.000Z",
}


class Primary:
    """Answers as the primary, and counts what it is asked.

    Attributes:
        looks: How often it was asked how it is.
        asked: What it was asked for about uploads.
        is_away: Whether it answers nothing.
    """

    def __init__(self) -> None:
        self.looks = 0
        self.asked: list[str] = []
        self.is_away = False
        self.generation = 1

    async def answer_readers(self, request: web.Request) -> web.Response:
        """Say how it is, or hear a report."""
        if self.is_away:
            assert request.transport
            request.transport.abort()
        if request.method == "POST":
            return web.json_response({"ok": True})
        self.looks += 1
        now = format_time(datetime.now(UTC))
        region = {
            "generation": self.generation,
            "readers": 1,
            "silent": 0,
            "silent_since": None,
            "stopped": False,
            "live": [[self.generation, now]],
        }
        return web.json_response(
            {
                "epoch": 3,
                "lease_held": True,
                "lease_taken_at": "2026-11-27T12:00:00.000Z",
                "lease_duration_s": 30.0,
                "litestream_up": True,
                "stopping": False,
                "generation": self.generation,
                "regions": {"local": {**region, "live": []}, "syd": {**region, "live": []}},
            }
        )

    async def answer_ingest(self, request: web.Request) -> web.Response:
        """Say what was uploaded, to one session and one token."""
        self.asked.append(request.path)
        known = request.cookies.get("headrace_session") == "good"
        if known or "Headrace-Actor" in request.headers or "Authorization" in request.headers:
            return web.json_response({"receipts": [RECEIPT]})
        return web.json_response({"code": "unauthorized"}, status=401)


@asynccontextmanager
async def site_of(root: Path, **values: Any) -> AsyncIterator[tuple[EdgeClient, Primary]]:
    """Run a reader of `sales` and the private `secret`, before a primary."""
    (root / "config").mkdir()
    (root / "config" / "metadata.json").write_text(json.dumps(PRIVATE))
    primary = Primary()
    (root / "reader").mkdir()
    (root / "reader" / "token").write_text("of-tests")
    async with edge_of(
        root,
        EdgeClient,
        PLUGIN,
        ingest=primary.answer_ingest,
        readers=primary.answer_readers,
        others={"secret": "CREATE TABLE salaries (id INTEGER)"},
        **values,
    ) as reader:
        yield reader, primary


async def get(reader: EdgeClient, path: str, **headers: str) -> tuple[aiohttp.ClientResponse, str]:
    """GET as a browser does."""
    async with reader.session.get(reader.url + path, headers={**HTML, **headers}) as answer:
        return answer, await answer.text()


async def test_page_of_nobody_is_rendered_once_for_each_thing_to_see(tmp_path: Path) -> None:
    """Who is nobody in particular gets what was rendered before, until there is something new."""
    async with site_of(tmp_path) as (reader, primary):
        for expected in ("miss", "hit"):
            answer, text = await get(reader, "/-/headrace", Cookie="theme=dark")
            assert f"cache;desc={expected}" in answer.headers["Server-Timing"]
            assert answer.headers["Cache-Control"] == "no-store"
            assert "Queries took 1000ms" in text
            assert "Everything is up to date" in text
        await reader.publisher.publish({"sales": reader.publisher.write("sales", "VACUUM")})
        primary.generation = 2
        await reader.wait_generation(2)
        _answer, text = await get(reader, "/-/headrace")
        assert "sales.csv → <a" in " ".join(text.split())
        assert "generation <strong>2</strong>" in text
        assert json.loads((await reader.get("/-/headrace"))[1])["generation"] == 2  # a program


async def test_private_databases_are_named_to_those_who_may_see_them(tmp_path: Path) -> None:
    """A stranger learns neither their names nor those of their files; their readers do."""
    async with site_of(tmp_path) as (reader, _primary):
        _answer, text = await get(reader, "/-/headrace")
        assert "sales.csv" in text
        assert "secret" not in text
        answer, text = await get(reader, "/-/headrace", Cookie="am=ada")
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert "secret.csv" in text
        _answer, text = await get(reader, "/-/headrace")
        assert "secret" not in text


async def test_uploads_are_shown_to_those_who_may_write(tmp_path: Path) -> None:
    """By a session, a token or Datasette's own sign-in; of nobody the primary is asked nothing."""
    async with site_of(tmp_path) as (reader, primary):
        for path, headers in {
            "/-/headrace": {},
            "/-/headrace?a=1": {"Cookie": "headrace_min_generation=1; theme=dark"},
        }.items():
            _answer, text = await get(reader, path, **headers)
            assert "upload-of-ada" not in text
            assert 'href="/ingest/status">Sign in' in text
        answer, text = await get(reader, "/ingest/status")
        assert (answer.status, 'name="token"' in text) == (401, True)
        assert "<code>data/token</code>" in text  # who runs it on his own machine asks nobody
        assert 'name="next" value="/ingest/status"' in text
        answer, text = await get(reader, "/ingest/status", **{"Headrace-If-Known": "1"})
        assert (answer.status, text) == (204, "")
        assert primary.asked == []
        for path, headers in (
            ("/ingest/status", {"Cookie": "headrace_session=good"}),
            ("/ingest/status", {"Cookie": "am=ada"}),
            ("/-/headrace", {"Cookie": "am=ada"}),
            ("/-/headrace", {"Authorization": "Bearer x"}),
        ):
            answer, text = await get(reader, path, **headers)
            assert answer.status == 200
            assert answer.headers["Cache-Control"] == "private, no-store"
            assert ("upload-of-ada.csv" in text, "1,234" in text) == (True, True)
        assert set(primary.asked) == {"/ingest/status"}
        answer, text = await get(reader, "/ingest/status", Cookie="headrace_session=old")
        assert (answer.status, 'name="token"' in text) == (401, True)


async def test_page_without_an_upload_page_leads_to_none(tmp_path: Path) -> None:
    """Where nobody can sign in, nobody is told to."""
    async with site_of(tmp_path, upload_page=False) as (reader, _primary):
        _answer, text = await get(reader, "/-/headrace")
        assert "Last uploads" in text
        assert "/ingest" not in text
        _answer, text = await get(reader, "/-/headrace", Cookie="am=ada")
        assert "upload-of-ada.csv" in text


async def test_primary_that_is_away_is_told_in_words(tmp_path: Path) -> None:
    """The page is there without the primary, and says what that means and what to do."""
    async with site_of(tmp_path) as (reader, primary):
        assert "It has held the lease" in (await get(reader, "/-/headrace"))[1]
        primary.is_away = True

        async def look() -> str:
            _answer, text = await get(reader, "/-/headrace")
            return text if "The primary does not answer." in text else ""

        text = await eventually(look)
        assert "Something is wrong" in text
        assert "uploads are kept" in text
        assert "not known" in text
        assert ">primary-away</code>" in text  # as guides call it
        assert "It last answered" in text
        assert "It took the lease" in text
        assert "It has held the lease" not in text
        primary.is_away = False
        await eventually(lambda: _is_well(reader))


async def test_many_who_watch_load_the_primary_no_more_than_one(tmp_path: Path) -> None:
    """Each open page hears of a generation; the primary is asked once for all of them."""
    async with site_of(tmp_path) as (reader, primary), AsyncExitStack() as stack:
        began_s = asyncio.get_running_loop().time()
        looks = primary.looks
        streams = []
        for _ in range(60):
            url = f"{reader.url}/-/headrace/events"
            streams.append(await stack.enter_async_context(reader.session.get(url)))
        seen = [await _next_version(stream) for stream in streams]
        assert len(set(seen)) == 1
        primary.generation = 2
        await reader.publisher.publish({"sales": reader.publisher.write("sales", "VACUUM")})
        for stream in streams:
            assert await _next_version(stream) != seen[0]
            await get(reader, "/-/headrace")
        passed_s = asyncio.get_running_loop().time() - began_s
        assert 1 <= primary.looks - looks <= passed_s / ASK_EVERY_S + 2


async def test_nobody_who_watches_costs_nothing(tmp_path: Path) -> None:
    """Once the last page is closed, the primary is asked no more."""
    async with site_of(tmp_path) as (reader, primary):
        async with reader.session.get(f"{reader.url}/-/headrace/events") as stream:
            await _next_version(stream)
            await eventually(lambda: primary.looks > 1)
        await eventually(lambda: reader.reader.overview.watchers == 0)
        await reader.publisher.publish({})  # whoever looked now would be told of it
        await reader.wait_generation(2)
        looks = primary.looks
        _answer, text = await get(reader, "/-/headrace")
        assert "Generation 2" in text
        assert primary.looks <= looks + 1


async def test_events_are_bounded_and_end_with_the_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More pages than a reader can tell anything ask again later; a stop waits for none."""
    monkeypatch.setattr(status_pages, "STREAMS_AT_MOST", 1)
    async with site_of(tmp_path) as (reader, _primary):
        url = f"{reader.url}/-/headrace/events"
        async with reader.session.get(url) as stream:
            assert stream.content_type == "text/event-stream"
            await _next_version(stream)
            async with reader.session.get(url) as other:
                assert await other.text() == "retry: 2000\n: too many watch here already\n\n"
            reader.reader.edge.end_streams()
            await asyncio.wait_for(stream.read(), 20)
        async with reader.session.head(url) as answer:
            assert answer.status == 200
        async with reader.session.post(url) as answer:
            assert answer.status == 405


async def test_foot_of_a_page_says_only_what_the_page_depends_on(tmp_path: Path) -> None:
    """A page that is kept over a generation of another database says what it would say anew."""
    async with site_of(tmp_path, region="fra") as (reader, _primary):
        _answer, kept = await get(reader, "/sales")
        foot = _foot(kept)
        assert ">2026-11-22 01:33:39 UTC</time>, from sales.csv, generation 1, " in foot
        assert foot.startswith("Updated ")
        assert foot.endswith('<a href="/-/headrace">read in Frankfurt</a>')
        await reader.publisher.publish({"secret": reader.publisher.write("secret", "VACUUM")})
        await reader.wait_generation(2)
        answer, text = await get(reader, "/sales")
        assert "cache;desc=hit" in answer.headers["Server-Timing"]
        assert _foot(text) == foot
        _answer, text = await get(reader, "/sales", Cookie="am=nobody")  # made anew
        assert _foot(text) == foot
        assert "generation 2" in _foot((await get(reader, "/"))[1])


async def test_foot_of_an_error_tells_nothing_of_a_private_database(tmp_path: Path) -> None:
    """Neither who may not see it nor a page that outlives generations says more than where."""
    where = '<a href="/-/headrace">Read in region local</a>'
    async with site_of(tmp_path) as (reader, _primary):
        answer, text = await get(reader, "/secret")
        assert answer.status == 403
        assert _foot(text) == where
        _answer, text = await get(reader, "/secret", Cookie="am=ada")
        assert "from secret.csv, generation 1" in _foot(text)


async def test_foot_can_be_left_out(tmp_path: Path) -> None:
    """Whoever does not want it has pages as Datasette makes them."""
    async with site_of(tmp_path, page_footer=False) as (reader, _primary):
        for path in ("/", "/sales", "/sales/orders"):
            _answer, text = await get(reader, path)
            assert "headrace-footer" not in text
            assert "ago.js" not in text
        assert "ago.js" in (await get(reader, "/-/headrace"))[1]


async def _is_well(reader: EdgeClient) -> bool:
    return "Everything is up to date" in (await get(reader, "/-/headrace"))[1]


async def _next_version(stream: aiohttp.ClientResponse) -> str:
    async with asyncio.timeout(20):
        while True:
            line = (await stream.content.readline()).decode()
            if line.startswith("data: "):
                return line


def _foot(text: str) -> str:
    return text.partition('<p class="headrace-footer">')[2].partition("</p>")[0]
