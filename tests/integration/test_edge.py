"""The reader's public port: what goes to Datasette, how, and what the reader says itself."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio

from tests.integration.edge_kit import EdgeClient, Primary, edge_of, values_of
from tests.integration.reader_kit import (
    eventually,
    reading,
    settings_for,
)
from tests.samples import find_sample

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Answers below /-/test/ as the edge must be able to hand on.
PLUGIN = """
import asyncio, gzip, hashlib, json, os, pathlib
from datasette import hookimpl

@hookimpl
def asgi_wrapper(datasette):
    def wrap(app):
        async def wrapped(scope, receive, send):
            path = scope.get("path", "")
            if not path.startswith("/-/test/"):
                return await app(scope, receive, send)
            await ANSWERS[path.split("/")[3]](scope, receive, send)
        return wrapped
    return wrap

async def start(send, status=200, *headers):
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})

async def body(send, chunk, more=False):
    await send({"type": "http.response.body", "body": chunk, "more_body": more})

async def echo(scope, receive, send):
    digest, size = hashlib.sha256(), 0
    while True:
        message = await receive()
        digest.update(message["body"])
        size += len(message["body"])
        if not message["more_body"]:
            break
    answer = {
        "method": scope["method"], "size": size, "sha256": digest.hexdigest(),
        "raw_path": scope["raw_path"].decode(), "query": scope["query_string"].decode(),
        "headers": [[k.decode("latin1"), v.decode("latin1")] for k, v in scope["headers"]],
        "client": scope["client"] and scope["client"][0], "scheme": scope["scheme"],
    }
    await start(send, 200, (b"content-type", b"application/json"), (b"connection", b"x-hop"),
        (b"x-hop", b"1"), (b"keep-alive", b"timeout=9"), (b"headrace-generation", b"999"),
        (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"))
    await body(send, json.dumps(answer).encode())

async def status(scope, receive, send):
    code = int(scope["path"].split("/")[4])
    await start(send, code, (b"etag", b'"x"'))
    await body(send, b"")

async def zipped(scope, receive, send):
    await start(send, 200, (b"content-encoding", b"gzip"))
    await body(send, gzip.compress(b"plain"))

async def slow(scope, receive, send):
    go = pathlib.Path(scope["query_string"].decode())
    await start(send, 200)
    await body(send, b"first\\n", True)
    while not go.exists():
        await asyncio.sleep(0.01)
    await body(send, b"last\\n")

async def cut(scope, receive, send):
    await start(send, 200)
    await body(send, b"half", True)
    await asyncio.sleep(0.1)
    os._exit(1)

async def die_once(scope, receive, send):
    flag = pathlib.Path(scope["query_string"].decode())
    if not flag.exists():
        flag.touch()
        os._exit(1)
    await start(send, 200)
    await body(send, b"alive")

ANSWERS = {"echo": echo, "status": status, "zipped": zipped, "slow": slow, "cut": cut,
    "die-once": die_once}
"""


class Edge(EdgeClient):
    """A reader with the test's plugin, and its primary."""

    primary: Primary

    async def echo(self, target: str, *headers: str, method: str = "GET") -> dict[str, Any]:
        """Send a target byte for byte; give what Datasette saw."""
        lines = [
            f"{method} {target} HTTP/1.1",
            "Host: data.example.org",
            "Connection: close",
            *headers,
        ]
        answer = await self.raw("\r\n".join([*lines, "", ""]).encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), answer
        if b"chunked" in head:
            body = body.partition(b"\r\n")[2].partition(b"\r\n")[0]
        seen: dict[str, Any] = json.loads(body)
        return seen


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    """Give a reader in generation 1, two workers, with the plugin above."""
    root, primary = tmp_path_factory.mktemp("edge"), Primary()
    async with edge_of(root, Edge, PLUGIN, ingest=primary.ingest, workers=2) as edge:
        edge.primary = primary
        yield edge


# to Datasette


@pytest.mark.parametrize(
    "target",
    [
        "/-/test/echo/a%2fb%2Fc/../d//e?x=%20+&&y=%26&=#",
        "/-/test/echo/~F0~9F~90~B6.json?_sort=a;b&c[]={}|^`",
        "/-/test/echo/%0A%00%ff?%0d%0a",
        f"/-/test/echo?sql={'x' * 20000}",
    ],
)
async def test_edge_hands_path_and_query_on_byte_for_byte(edge: Edge, target: str) -> None:
    """What a URL means is Datasette's affair: nothing in it is decoded, folded or cut."""
    seen = await edge.echo(target)

    path, _, query = target.partition("?")
    assert (seen["raw_path"], seen["query"]) == (path, query)


async def test_edge_takes_a_target_in_absolute_form(edge: Edge) -> None:
    """A request as proxies send it is answered like any other."""
    seen = await edge.echo("http://data.example.org/-/test/echo/x?y=1")

    assert (seen["raw_path"], seen["query"]) == ("/-/test/echo/x", "y=1")


@pytest.mark.parametrize("target", [b"/caf\xc3\xa9", b"/\xff", b"*"])
async def test_edge_refuses_a_target_that_is_no_path(edge: Edge, target: bytes) -> None:
    """A target that cannot be handed on is the client's mistake."""
    answer = await edge.raw(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert b" 400 " in answer.partition(b"\r\n")[0], answer


async def test_edge_refuses_methods_for_other_proxies(edge: Edge) -> None:
    """TRACE would give headers back that scripts may not see; Datasette would fail on it."""
    answer = await edge.raw(b"TRACE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 405")


async def test_edge_hands_on_headers_that_are_no_text(edge: Edge) -> None:
    """Bytes that are no UTF-8, and headers of 200 kB, are no reason to fail."""
    hostile = b"X-Bytes: \xff\xfe\r\n" + b"".join(
        b"X-%d: %s\r\n" % (n, b"a" * 4000) for n in range(50)
    )
    head = b"GET /sales.json HTTP/1.1\r\nHost: \xff\r\nConnection: close\r\n"
    answer = await edge.raw(head + hostile + b"\r\n")

    assert answer.startswith(b"HTTP/1.1 200")


async def test_edge_drops_what_is_about_one_connection(edge: Edge) -> None:
    """Hop-by-hop headers end here in both directions, those that Connection names as well."""
    seen = await edge.echo(
        "/-/test/echo",
        "Connection: X-Named, Host, Cookie",
        "X-Named: 1",
        "Keep-Alive: timeout=5",
        "TE: trailers",
        "Upgrade: websocket",
        "Proxy-Authorization: Basic eA==",
        "Cookie: kept=1",
    )

    names = {name for name, _ in seen["headers"]}
    gone = {"x-named", "keep-alive", "te", "upgrade", "proxy-authorization", "connection"}
    assert not names & gone
    assert values_of(seen["headers"], "cookie") == ["kept=1"]
    assert values_of(seen["headers"], "host") == ["data.example.org"]
    async with edge.session.get(edge.reader.url + "/-/test/echo") as response:
        assert "X-Hop" not in response.headers
        assert "Keep-Alive" not in response.headers
        assert response.headers.getall("Set-Cookie") == ["a=1", "b=2"]
        assert response.headers["Server"] == "Headrace"


async def test_edge_tells_who_asked_and_believes_nobody(edge: Edge) -> None:
    """A client cannot say that it is somebody else, or that it came over TLS."""
    seen = await edge.echo(
        "/-/test/echo",
        "X-Forwarded-For: 6.6.6.6",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Prefix: /evil",
        "Forwarded: for=6.6.6.6",
        "X-Real-IP: 6.6.6.6",
    )

    assert "6.6.6.6" not in json.dumps(seen)
    assert "evil" not in json.dumps(seen)
    assert (seen["client"], seen["scheme"]) == ("127.0.0.1", "http")
    assert values_of(seen["headers"], "x-forwarded-host") == ["data.example.org"]


async def test_edge_adds_no_headers_of_its_client(edge: Edge) -> None:
    """Datasette sees what the client accepts and who it is, and not what aiohttp would say."""
    seen = await edge.echo("/-/test/echo")

    names = {name for name, _ in seen["headers"]}
    assert names == {"host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"}


@pytest.mark.parametrize(
    "smuggled",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Bad Header: x\r\n\r\n",
    ],
)
async def test_edge_refuses_ambiguous_requests(edge: Edge, smuggled: bytes) -> None:
    """A request that two servers could read differently is refused, never handed on."""
    answer = await edge.raw(b"POST /-/test/echo HTTP/1.1\r\nHost: x\r\n" + smuggled)

    assert b" 400 " in answer.partition(b"\r\n")[0], answer


@pytest.mark.parametrize("status", [204, 304])
async def test_edge_hands_an_empty_answer_back_empty(edge: Edge, status: int) -> None:
    """An answer without a body stays one, and the connection can be used on."""
    for _ in range(2):
        async with edge.session.get(f"{edge.reader.url}/-/test/status/{status}") as response:
            assert response.status == status
            assert response.headers["ETag"] == '"x"'
            assert await response.read() == b""


async def test_edge_answers_head_without_a_body(edge: Edge) -> None:
    """HEAD gives the headers of GET, and nothing after them."""
    head = await edge.raw(b"HEAD /sales.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200")
    assert b"application/json" in head
    assert head.endswith(b"\r\n\r\n")


async def test_edge_hands_encoded_bodies_back_as_they_are(edge: Edge) -> None:
    """What Datasette compressed is not touched."""
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(edge.reader.url + "/-/test/zipped") as response,
    ):
        assert response.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(await response.read()) == b"plain"


async def test_edge_streams_answers(edge: Edge, tmp_path: Path) -> None:
    """The first bytes reach the client before the last exist."""
    go = tmp_path / "go"
    async with edge.session.get(f"{edge.reader.url}/-/test/slow?{go}") as response:
        assert await response.content.readline() == b"first\n"
        go.touch()
        assert await response.content.readline() == b"last\n"


async def test_edge_streams_request_bodies(edge: Edge) -> None:
    """A POST to Datasette arrives byte for byte, with or without a length."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100_000

    for body in (b"y" * 1_000_000, chunks()):
        async with edge.session.post(edge.reader.url + "/-/test/echo", data=body) as response:
            seen = await response.json()
        assert seen["method"] == "POST"
        assert seen["size"] in {1_000_000, 2_000_000}


async def test_edge_repeats_no_writes(edge: Edge, tmp_path: Path) -> None:
    """A POST that lost its worker is not sent twice: nobody knows what it has done."""
    url = f"{edge.reader.url}/-/test/die-once?{tmp_path / 'died'}"
    async with edge.session.post(url, data=b"x") as response:
        assert response.status == 502
        assert (await response.json(content_type=None))["code"] == "worker-failed"
    await eventually(lambda: edge.workers == 2)


async def test_edge_answers_502_for_a_page_that_a_worker_broke_off(edge: Edge) -> None:
    """A page that is held until it is whole is never shown in part, nor kept."""
    status, text = await edge.get("/-/test/cut")

    assert (status, json.loads(text)["code"]) == (502, "worker-failed")
    await eventually(lambda: edge.workers == 2)


async def test_edge_lets_go_of_a_set_when_the_client_is_gone(edge: Edge, tmp_path: Path) -> None:
    """A client that hangs up in the middle does not hold its generation."""
    go = tmp_path / "go"
    async with edge.session.get(f"{edge.reader.url}/-/test/slow?{go}") as response:
        await response.content.readline()
        assert edge.in_flight == 1
        response.close()

    await eventually(lambda: edge.in_flight == 0)
    go.touch()


# its own


@pytest.mark.parametrize("path", ["/", "/nothing", "/ingest", "/-/healthz", "/-/headrace.json"])
async def test_edge_signs_every_answer_with_the_generation(edge: Edge, path: str) -> None:
    """Whatever the answer, it says which generation it is of, once."""
    edge.primary.answer = edge.primary.echo
    async with edge.session.get(edge.reader.url + path) as response:
        assert response.headers.getall("Headrace-Generation") == ["1"]


async def test_edge_reports_what_it_serves(edge: Edge) -> None:
    """Machines learn what is served, how fresh it is, and whether something is wrong."""
    report = await edge.json("/-/headrace.json")

    assert report["generation"] == report["newest_generation"] == 1
    assert report["region"] == "local"
    assert report["seconds_behind"] == 0
    assert report["workers"] == 2
    assert report["push_connected"] is True
    assert report["last_error"] is None
    assert report["databases"]["sales"].keys() == {"lineage", "txid", "updated_at"}
    assert await edge.json("/-/readyz") == {"ok": True, "generation": 1}
    assert await edge.json("/-/healthz") == {"ok": True}


async def test_edge_counts_requests(edge: Edge) -> None:
    """Metrics tell requests by kind and code, on a port of their own."""
    await edge.get("/nothing")
    async with edge.session.get(edge.reader.metrics_url) as response:
        text = await response.text()

    assert find_sample(text, 'headrace_reader_requests_total{code="404",kind="datasette"}')
    assert find_sample(text, 'headrace_reader_response_bytes_total{kind="datasette"}')
    assert find_sample(text, "headrace_reader_generation") == 1
    assert find_sample(text, 'headrace_reader_step_seconds_count{step="restore"}') == 1
    assert find_sample(text, "headrace_reader_workers") == 2
    assert (await edge.get("/metrics"))[0] == 404


async def test_edge_without_a_generation_says_so(tmp_path: Path) -> None:
    """Before the first generation a reader lives, and is not ready."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "generations").write_text("in the way: the log cannot be read")
    async with reading(settings_for(tmp_path)) as client:
        for path in ("/", "/-/readyz"):
            status, text = await client.get(path)
            assert (status, json.loads(text)["code"]) == (503, "not-ready")
        assert (await client.get("/-/healthz"))[0] == 200
        assert (await client.json("/-/headrace.json"))["generation"] is None
