"""The page cache with real workers: what stays hot, what is fresh at once, and for whom."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import brotli
import pytest
import pytest_asyncio

from tests.integration.edge_kit import EdgeClient, edge_of
from tests.integration.reader_kit import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Pages below /-/test/ that count how often a worker makes them.
PLUGIN = """
import asyncio, pathlib
from datasette import hookimpl
from datasette.utils.asgi import Response

COUNTS = {}

@hookimpl
def register_routes():
    return [("/-/test/(?P<name>.*)$", page)]

async def page(request):
    name = request.url_vars["name"]
    COUNTS[name] = COUNTS.get(name, 0) + 1
    answer = f"{name} {COUNTS[name]} {request.headers.get('accept')}"
    wait = request.args.get("wait")
    while wait and not pathlib.Path(wait).exists():
        await asyncio.sleep(0.01)
    headers = {k[1:]: v for k, (v,) in request.args._data.items() if k.startswith("h")}
    status = int(request.args.get("status") or 200)
    return Response(answer, status=status, headers=headers, content_type="text/plain")
"""

VIEW = "CREATE VIEW moment AS SELECT strftime('%s', 'now') AS s"
QUERIES = {
    "sales": {
        "queries": {
            "dice": "select random()",
            "agent": "select :_header_user_agent",
            "all": "select * from orders",
        }
    },
    "clock": {
        "queries": {"later": "select s + 1 from moment", "still": "select date('2026-11-27')"}
    },
}


class Site(EdgeClient):
    """A reader of two databases, and what its cache does."""

    async def fetch(self, path: str, **options: Any) -> tuple[int, str, Any]:
        """GET; give status, body and headers."""
        async with self.session.get(self.reader.url + path, **options) as response:
            return response.status, await response.text(), response.headers

    async def result(self, path: str, **options: Any) -> str:
        """GET; give what the cache did."""
        _, _, headers = await self.fetch(path, **options)
        return str(headers["Server-Timing"]).partition("desc=")[2].partition(",")[0]

    async def insert(self) -> int:
        """Publish one more order; give the generation."""
        cut = self.publisher.write("sales", "INSERT INTO orders (item) VALUES ('x')")
        return (await self.publisher.publish({"sales": cut})).number


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Give a reader of `sales` and `weather`, one worker, with the plugin above."""
    root = tmp_path_factory.mktemp("site")
    (root / "config" / "static").mkdir(parents=True)
    (root / "config" / "static" / "style.css").write_text("p { color: teal }")
    (root / "config" / "metadata.json").write_text(json.dumps({"databases": QUERIES}))
    others = {"weather": "CREATE TABLE days (day TEXT, note TEXT)", "clock": VIEW}
    async with edge_of(root, Site, PLUGIN, others=others) as site:
        yield site


# kept


@pytest.mark.parametrize(
    "path", ["/", "/sales", "/sales/orders.json", "/weather/none", "/-/versions.json", "/none"]
)
async def test_page_asked_for_twice_comes_from_memory(site: Site, path: str) -> None:
    """The second answer is the first, byte for byte, and no worker was asked."""
    status, body, headers = await site.fetch(path)
    again = await site.fetch(path)

    assert again[:2] == (status, body)
    assert "cache;desc=hit" in again[2]["Server-Timing"]
    assert again[2]["Content-Type"] == headers["Content-Type"]
    assert int(again[2]["Age"]) >= 0


async def test_static_files_come_from_memory(site: Site) -> None:
    """The user's files and Datasette's own are kept as well."""
    for path in ("/static/style.css", "/-/static/app.css?1"):
        await site.fetch(path)
        assert await site.result(path) == "hit"


async def test_new_generation_of_one_database_leaves_the_other_hot(site: Site) -> None:
    """Only pages that show what changed are made again, and they are new at once."""
    for path in ("/", "/weather", "/weather/days.json", "/sales", "/sales/orders.json"):
        await site.fetch(path)
    before = len(await site.rows("/sales/orders"))

    number = await site.insert()
    status, _, headers = await site.fetch(
        "/sales/orders.json?_shape=array", headers={"Headrace-Min-Generation": str(number)}
    )

    assert (status, headers["Headrace-Generation"]) == (200, str(number))
    assert await site.result("/weather") == "hit"
    assert await site.result("/weather/days.json") == "hit"
    assert len(await site.rows("/sales/orders")) == before + 1
    assert f"Generation {number}" in (await site.fetch("/"))[1]


# not kept


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/-/test/cookie", {"Cookie": "a=1"}),
        ("/-/test/authorization", {"Authorization": "Bearer x"}),
        ("/-/test/set-cookie?hSet-Cookie=a%3D1", {}),
        ("/-/test/vary?hVary=User-Agent", {}),
        ("/-/test/private?hCache-Control=private", {}),
        ("/-/test/no-store?hCache-Control=no-store", {}),
        ("/-/test/error?status=500", {}),
        ("/sales/orders.csv?_stream=1", {}),
        ("/sales/orders.json?_ttl=0", {}),
        ("/sales.json?sql=select+random()", {}),
        ("/sales.json?sql=select+date(%27now%27)", {}),
        ("/sales.json?%73ql=select+r%61ndom()", {}),
        ("/sales.json?sql=select+date(:day)&day=now", {}),
        ("/_memory.json?sql=select+random()", {}),
        ("/sales/orders.json?_where=random()+%3E+0", {}),
        ("/sales/orders.json?_where=item+%3E+date(%27now%27)", {}),
        ("/sales/dice.json", {}),
        ("/sales/agent.json", {}),
        ("/clock/moment.json", {}),
        ("/clock/later.json", {}),
        ("/clock.json?sql=select+*+from+Moment", {}),
    ],
)
async def test_answer_for_one_person_or_one_moment_is_not_kept(
    site: Site, path: str, headers: dict[str, str]
) -> None:
    """What another may not see, or what changes by itself, is asked for each time."""
    await site.fetch(path, headers=headers)

    assert await site.result(path, headers=headers) == "pass"


@pytest.mark.parametrize(
    "path",
    [
        "/sales/all.json",
        "/sales.json?sql=select+item+as+random_item+from+orders",
        "/weather/days.json?_facet_date=day&_where=date(day)+%3E+%272026-11-27%27",
        "/clock/still.json",
        "/clock.json",
    ],
)
async def test_answer_that_only_looks_like_one_of_a_moment_is_kept(site: Site, path: str) -> None:
    """Names, and dates out of rows, are the same each time."""
    assert (await site.fetch(path))[0] == 200

    assert await site.result(path) == "hit"


async def test_answer_out_of_a_restless_view_is_told_to_be_asked_for_again(site: Site) -> None:
    """No cache on the way keeps it either, unless the operator or the client has chosen a time."""
    _, _, headers = await site.fetch("/clock/moment.json")
    assert headers["Cache-Control"] == "no-cache"
    _, _, headers = await site.fetch("/clock/moment.json?_ttl=7")
    assert headers["Cache-Control"] == "max-age=7"


async def test_answer_to_a_person_is_kept_by_nobody(site: Site) -> None:
    """Whoever shows a cookie gets an answer that no cache on the way may keep."""
    await site.fetch("/sales")
    _, _, headers = await site.fetch("/sales", headers={"Cookie": "ds_actor=1"})

    assert headers["Cache-Control"] == "private, no-store"


async def test_page_that_varies_by_accept_is_kept_for_each(site: Site) -> None:
    """One who asks for JSON never gets what was made for one who asks for HTML."""
    path = "/-/test/accept?hVary=Accept"
    answers = {}
    for kind in ("text/html", "application/json", "text/html", "application/json"):
        _, answers[kind], _ = await site.fetch(path, headers={"Accept": kind})
        assert kind in answers[kind]

    assert await site.result(path, headers={"Accept": "text/html"}) == "hit"
    assert await site.result(path, headers={"Accept": "application/json"}) == "hit"


async def test_page_is_kept_for_each_host(site: Site) -> None:
    """Absolute URLs in a page name the host that was asked, never another's."""
    for host in ("a.example", "b.example"):
        for _ in range(2):
            _, body, _ = await site.fetch("/sales/orders", headers={"Host": host})
            assert f"http://{host}/sales/orders.json" in body


# conditions, methods, codings


async def test_client_that_has_the_page_gets_304(site: Site) -> None:
    """An ETag is good for as long as the page is, and is another for each coding."""
    tags = set()
    for coding in ("identity", "gzip", "br"):
        _, _, headers = await site.fetch("/weather", headers={"Accept-Encoding": coding})
        tag = headers["ETag"]
        tags.add(tag)
        status, body, again = await site.fetch(
            "/weather", headers={"Accept-Encoding": coding, "If-None-Match": f'"x", {tag}'}
        )
        assert (status, body, again["ETag"]) == (304, "", tag)
        assert again["Cache-Control"] == "public, max-age=0, must-revalidate"
        assert "Accept-Encoding" in again["Vary"]
    assert len(tags) == 3
    assert (await site.fetch("/weather", headers={"If-None-Match": '"x"'}))[0] == 200


async def test_304_on_a_page_that_is_not_in_memory_yet(site: Site) -> None:
    """What the client has is compared here, whatever Datasette would do with the header."""
    _, _, headers = await site.fetch("/-/static/app.css")
    site.reader.edge.pages.cache.clear()
    tag = headers["ETag"]
    assert (await site.fetch("/-/static/app.css", headers={"If-None-Match": tag}))[0] == 304


async def test_head_is_answered_out_of_the_page(site: Site) -> None:
    """HEAD gives GET's headers, and fills and reads the same entry."""
    path = "/weather/days"
    async with site.session.head(site.reader.url + path) as response:
        length = int(response.headers["Content-Length"])
        assert await response.read() == b""
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        headers = {"Accept-Encoding": "gzip, deflate, br"}
        async with session.get(site.reader.url + path, headers=headers) as response:
            assert "cache;desc=hit" in response.headers["Server-Timing"]
            assert len(await response.read()) == length


async def test_page_is_compressed_as_the_client_likes(site: Site) -> None:
    """The same page comes in each coding, and says which."""
    bodies = {}
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        for coding in ("identity", "gzip", "br"):
            async with session.get(
                site.reader.url + "/weather", headers={"Accept-Encoding": coding}
            ) as response:
                bodies[coding] = await response.read()
                assert response.headers.get("Content-Encoding", "identity") == coding
    assert gzip.decompress(bodies["gzip"]) == bodies["identity"]
    assert brotli.decompress(bodies["br"]) == bodies["identity"]


# single flight


async def test_answer_larger_than_the_limit_is_not_kept(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One large answer takes no room from many small ones; it is sent whole all the same."""
    monkeypatch.setattr(site.reader.edge.pages.cache, "entry_at_most_bytes", 1000)
    small, large = f"/-/test/{'s' * 900}", f"/-/test/{'l' * 1001}"
    for path, result in ((small, "hit"), (large, "")):
        first = await site.fetch(path)
        again = await site.fetch(path)
        assert [len(each[1]) > len(path) - 8 for each in (first, again)] == [True, True]
        assert (again[2].get("Server-Timing", "").find("desc=hit") > 0) == (result == "hit")
        assert (first[1] == again[1]) == (result == "hit")


async def test_misses_at_the_same_time_run_once(site: Site, tmp_path: Path) -> None:
    """Twenty people who ask for a page that nobody has yet cost one page."""
    go = tmp_path / "go"
    path = f"/-/test/once?wait={go}"
    asking = [asyncio.create_task(site.fetch(path)) for _ in range(20)]
    await eventually(lambda: site.in_flight == 1)
    go.touch()

    bodies = {body for _, body, _ in await asyncio.gather(*asking)}
    assert len(bodies) == 1
    assert bodies.pop().startswith("once 1 ")


async def test_leader_that_hangs_up_does_not_cancel_the_others(site: Site, tmp_path: Path) -> None:
    """Whoever asked first is not needed for the answer of those who came later."""
    go = tmp_path / "go"
    path = f"/-/test/leader?wait={go}"
    leader = asyncio.create_task(site.fetch(path))
    await eventually(lambda: site.in_flight == 1)
    follower = asyncio.create_task(site.fetch(path))
    await eventually(lambda: site.waiting(path) == 2)
    leader.cancel()
    await asyncio.gather(leader, return_exceptions=True)
    await eventually(lambda: site.waiting(path) == 1)
    go.touch()

    status, body, _ = await follower
    assert (status, body.split()[:2]) == (200, ["leader", "1"])


async def test_page_that_nobody_waits_for_is_given_up(site: Site, tmp_path: Path) -> None:
    """A client that hangs up alone holds nothing."""
    path = f"/-/test/alone?wait={tmp_path / 'never'}"
    asking = asyncio.create_task(site.fetch(path))
    await eventually(lambda: site.in_flight == 1)
    asking.cancel()

    await eventually(lambda: site.in_flight == 0)


async def test_answers_not_kept_are_made_for_each(site: Site) -> None:
    """Those who wait for an answer that turns out personal get one each, never another's."""
    path = "/-/test/each?hSet-Cookie=a%3D1"
    answers = await asyncio.gather(*(site.fetch(path) for _ in range(5)))

    assert len({body for _, body, _ in answers}) == 5


# waiting for a generation


async def test_min_generation_waits_for_what_was_uploaded(site: Site) -> None:
    """A person who asks with a generation sees it, though it is not there yet."""
    wanted = site.publisher.state.number + 1
    cookies = {"Cookie": f"headrace_min_generation={wanted}"}
    before = len(await site.rows("/sales/orders"))
    asking = [
        asyncio.create_task(site.fetch("/sales/orders.json?_shape=array", headers=headers))
        for headers in ({"Headrace-Min-Generation": str(wanted)}, cookies)
    ]
    await site.insert()
    for _, body, headers in await asyncio.gather(*asking):
        assert int(headers["Headrace-Generation"]) >= wanted
        assert body.count('"id"') == before + 1
    assert await site.result("/sales/orders.json?_shape=array", headers=cookies) == "hit"


async def test_min_generation_that_never_comes_is_503(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for ever: after the limit the answer says to come back."""
    monkeypatch.setattr("serve.edge.MIN_GENERATION_WAIT_S", 0.05)
    async with site.session.get(
        site.reader.url + "/sales", headers={"Headrace-Min-Generation": "1000"}
    ) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert (await response.json(content_type=None))["code"] == "not-there-yet"


async def test_min_generation_that_is_no_number_is_refused(site: Site) -> None:
    """A header that cannot be obeyed is not ignored; a stale cookie is."""
    for value, status in (("x", 400), ("-1", 400), ("9" * 30, 400)):
        headers = {"Headrace-Min-Generation": value}
        assert (await site.fetch("/sales", headers=headers))[0] == status
    headers = {"Cookie": "headrace_min_generation=x"}
    assert (await site.fetch("/sales", headers=headers))[0] == 200


# warming


async def test_warmed_pages_are_hot_at_the_switch(site: Site) -> None:
    """The addresses asked for most are in memory before anybody asks the new workers."""
    for _ in range(5):
        await site.fetch("/sales/orders.json?_size=1")
    addresses = site.reader.edge.pages.heat.hottest(50)
    assert any(address.target == "/sales/orders.json?_size=1" for address in addresses)

    site.reader.edge.pages.cache.clear()
    await site.reader.edge.warm(site.current)

    assert await site.result("/sales/orders.json?_size=1") == "hit"


async def test_switch_warms_what_is_asked_for_most(site: Site) -> None:
    """The first to ask for the hottest page of a new generation finds it in memory.

    A switch waits for that for a moment only, so a busy machine may need another.
    """
    path = "/sales/orders.json?_size=3"
    for _ in range(50):
        await site.fetch(path)

    async def is_warm() -> bool:
        number = await site.insert()
        headers = {"Headrace-Min-Generation": str(number)}
        return await site.result(path, headers=headers) == "hit"

    await eventually(is_warm)
