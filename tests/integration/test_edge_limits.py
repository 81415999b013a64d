"""What the edge does when there is too much, or when it takes too long."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import yarl
from aiohttp import web

from tests.integration.edge_kit import EdgeClient, edge_of
from tests.integration.reader_kit import eventually
from tests.samples import find_sample

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLUGIN = """
import asyncio, os, pathlib, time
from datasette import hookimpl
from datasette.utils.asgi import Response

@hookimpl
def register_routes():
    return [("/-/test/wait", wait), ("/-/test/large", large), ("/-/test/echo", echo),
        ("/-/test/block", block), ("/-/test/cut-once", cut_once)]

async def wait(request):
    while not pathlib.Path(request.args["go"]).exists():
        await asyncio.sleep(0.01)
    return Response.text("done")

async def large(scope, send, request):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for n in range(int(request.args["mb"])):
        await send({"type": "http.response.body", "body": b"x" * 2**20, "more_body": True})
        with open(request.args["log"], "ab") as log:
            log.write(b".")
    await send({"type": "http.response.body", "body": b""})

async def echo(request):
    return Response.json({
        "path": request.full_path, "host": request.host, "scheme": request.scheme,
        "for": request.headers["x-forwarded-for"],
        "encoding": request.headers.get("content-encoding"),
        "body": (await request.post_body()).hex() if request.method == "POST" else None,
    })

async def block(request):
    time.sleep(float(request.args["s"]))  # what no plugin should do: the whole worker waits
    return Response.text("done")

async def cut_once(scope, send, request):
    go, flag = pathlib.Path(request.args["go"]), pathlib.Path(request.args["go"] + "-flag")
    while not go.exists():
        await asyncio.sleep(0.01)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if not flag.exists():
        flag.touch()
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await asyncio.sleep(0.1)
        os._exit(1)
    await send({"type": "http.response.body", "body": b"whole"})

@hookimpl
def skip_csrf():
    return True
"""


LENGTH, CHUNKED = b"Content-Length: 4", b"Transfer-Encoding: chunked"


class Limited(EdgeClient):
    """A reader with limits that a test reaches."""

    receipt: dict[str, Any]

    async def start(self, path: str, **options: Any) -> asyncio.Task[tuple[int, str]]:
        """Ask in the background."""
        return asyncio.create_task(self.get(path, **options))

    async def metrics(self) -> str:
        """Read the metrics."""
        async with self.session.get(self.reader.metrics_url) as response:
            return await response.text()


@asynccontextmanager
async def limited(root: Path, **values: Any) -> AsyncIterator[Limited]:
    """Run a reader with the plugin above, and settings."""
    found: list[Limited] = []

    async def ingest(request: web.Request) -> web.Response:
        await request.read()
        return web.json_response(found[0].receipt, status=201)

    async with edge_of(root, Limited, PLUGIN, ingest=ingest, **values) as reader:
        found.append(reader)
        yield reader


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plain(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Limited]:
    """Give a reader with default limits."""
    async with limited(tmp_path_factory.mktemp("plain")) as reader:
        yield reader


# shedding


async def test_more_than_the_queue_holds_is_shed(tmp_path: Path) -> None:
    """Beyond the queue the answer is a quick 503; pages in memory are answered on."""
    async with limited(tmp_path, worker_concurrency=1, queue_length=1) as reader:
        await reader.get("/sales")
        go = tmp_path / "go"
        asking = [await reader.start(f"/-/test/wait?go={go}&n={n}") for n in range(2)]
        await eventually(lambda: reader.reader.edge.pages.upstream.gate.waiting == 1)

        async with reader.session.get(reader.reader.url + "/sales/orders") as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
            assert (await response.json(content_type=None))["code"] == "overloaded"
        assert (await reader.get("/sales"))[0] == 200
        metrics = await reader.metrics()
        assert find_sample(metrics, 'headrace_reader_shed_total{reason="overloaded"}') == 1
        assert find_sample(metrics, "headrace_reader_queue_length") == 1
        assert find_sample(metrics, 'headrace_limit_used_ratio{limit="queue"}') == 1
        go.touch()
        assert [await each for each in asking] == [(200, "done")] * 2


async def test_one_address_gets_its_share(tmp_path: Path) -> None:
    """An address with too many requests is told so; behind a proxy, clients count apart."""
    values = {"client_concurrency": 1, "trusted_proxies": "127.0.0.0/8"}
    async with limited(tmp_path, **values) as reader:
        go = tmp_path / "go"
        asking = await reader.start(f"/-/test/wait?go={go}")
        await eventually(lambda: reader.in_flight == 1)

        assert (await reader.get("/sales/orders"))[0] == 429
        other = {"X-Forwarded-For": "203.0.113.9"}
        assert (await reader.get("/sales/orders", headers=other))[0] == 200
        go.touch()
        assert (await asking)[0] == 200


# time


async def test_request_over_its_time_is_504_and_blocks_nobody(tmp_path: Path) -> None:
    """A page that takes too long is given up, for all who wait; others are answered meanwhile."""
    async with limited(tmp_path, request_timeout=1.0) as reader:
        never = tmp_path / "never"
        slow = [await reader.start(f"/-/test/wait?go={never}") for _ in range(2)]
        passing = await reader.start(f"/-/test/wait?go={never}", headers={"Cookie": "a=1"})
        await eventually(lambda: reader.in_flight == 2)
        assert (await reader.get("/sales/orders"))[0] == 200

        for status, text in [await each for each in (*slow, passing)]:
            assert status == 504
            assert '"timeout"' in text
        assert reader.in_flight == 0


async def test_all_who_wait_behind_slow_pages_run_out_of_time_alike(tmp_path: Path) -> None:
    """Requests that came together and never got through are told of their time, not of an error."""
    values = {"worker_concurrency": 1, "client_concurrency": 0, "request_timeout": 1.0}
    async with limited(tmp_path, **values) as reader:
        never = tmp_path / "never"
        asking = [await reader.start(f"/-/test/wait?go={never}&n={n}") for n in range(20)]

        assert [status for status, _ in await asyncio.gather(*asking)] == [504] * 20


async def test_worker_that_is_stuck_blocks_nobody(tmp_path: Path) -> None:
    """While one worker does not move, and after it was given up, the other answers."""
    async with limited(tmp_path, workers=2, request_timeout=1.0) as reader:
        stuck = await reader.start("/-/test/block?s=4")
        await eventually(lambda: reader.in_flight == 1)
        for n in range(10):
            assert (await reader.get(f"/sales/orders.json?_n={n}"))[0] == 200
        assert not stuck.done()
        assert (await stuck)[0] == 504
        for n in range(10):
            assert (await reader.get(f"/sales/orders.json?_m={n}"))[0] == 200


async def test_worker_that_dies_in_the_middle_of_a_page_costs_no_answer(tmp_path: Path) -> None:
    """Nobody has seen anything of the page yet: all who wait get it from another worker."""
    async with limited(tmp_path, workers=2) as reader:
        go = tmp_path / "go"
        path = f"/-/test/cut-once?go={go}"
        asking = [await reader.start(path) for _ in range(4)]
        await eventually(lambda: reader.waiting(path) == 4)
        go.touch()

        assert [await each for each in asking] == [(200, "whole")] * 4
        await eventually(lambda: reader.workers == 2)


async def test_export_that_has_begun_has_all_the_time_it_needs(tmp_path: Path) -> None:
    """The time limit ends with the headers of what is streamed."""
    async with limited(tmp_path, request_timeout=1.0) as reader:
        log = tmp_path / "log"
        path = f"/-/test/large?mb=40&_stream=1&log={log}"
        size = 0
        async with reader.session.get(reader.reader.url + path) as response:
            async for chunk in response.content.iter_any():
                if not size:
                    await asyncio.sleep(1.2)  # longer than the limit: that is what is tested
                size += len(chunk)
        assert size == 40 * 2**20


# slow clients


async def test_slow_client_holds_no_worker(plain: Limited, tmp_path: Path) -> None:
    """A client that takes nothing gets a bounded part; then its sender waits, and nobody else."""
    log = tmp_path / "log"
    url = yarl.URL(plain.reader.url)
    with socket.create_connection((url.host, url.port)) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = f"GET /-/test/large?mb=200&log={log} HTTP/1.1\r\nHost: x\r\nCookie: a=1\r\n\r\n"
        slow.sendall(request.encode())
        await eventually(lambda: log.exists() and plain.in_flight == 1)
        assert plain.reader.edge.pages.upstream.gate.inside == 0
        assert (await plain.get("/sales/orders"))[0] == 200
        assert log.stat().st_size < 50  # MiB
    await eventually(lambda: plain.in_flight == 0)


async def test_client_that_takes_nothing_is_cut_off(
    plain: Limited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody holds an answer for ever: after the time to take 64 KiB it ends."""
    monkeypatch.setattr("serve.proxy.SEND_TIMEOUT_S", 0.3)
    path = f"/-/test/large?mb=200&_stream=1&log={tmp_path / 'log'}"
    async with plain.connected() as (_, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await eventually(lambda: plain.in_flight == 1)

        await eventually(lambda: plain.in_flight == 0)


async def test_head_that_never_ends_is_cut_off(
    plain: Limited, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that sends a byte now and then holds nothing for long."""
    monkeypatch.setattr("serve.edge_server.HEAD_TIMEOUT_S", 0.2)
    async with plain.connected() as (reader, writer):
        writer.write(b"GET /sales HTTP/1.1\r\nHost: x\r\nX-Slow: ")

        assert await asyncio.wait_for(reader.read(), 20) == b""


async def test_body_that_never_comes_is_cut_off(
    plain: Limited, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A form that is announced and not sent keeps no worker, and not its connection either."""
    monkeypatch.setattr("serve.proxy.BODY_TIMEOUT_S", 0.2)
    async with plain.connected() as (reader, writer):
        writer.write(b"POST /-/test/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")

        assert await asyncio.wait_for(reader.read(), 20) == b""


# smuggling


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\n%s\r\n%s\r\n\r\n0\r\n\r\n" % (LENGTH, CHUNKED),
        b"POST / HTTP/1.1\r\nHost: x\r\n%s\r\n%s\r\n\r\n0\r\n\r\n" % (CHUNKED, LENGTH),
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4, 4\r\n\r\nabcd",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Fold: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET http://y/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET  /a /b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rX: c\r\n\r\n",
    ],
)
async def test_request_that_two_servers_read_differently_is_refused(
    plain: Limited, request_bytes: bytes
) -> None:
    """Nothing hides behind a request: it is refused, and what follows on the connection as well."""
    follows = b"GET /-/test/echo?evil HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = await plain.raw(request_bytes + follows)

    assert b" 400 " in answer.partition(b"\r\n")[0], answer
    assert b"/-/test/echo" not in answer


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\nabc\r\n0\r\n\r\n",
        b"-1\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabcdef\r\n0\r\n\r\n",
        b"3;\n\r\nabc",
    ],
)
async def test_body_in_bad_chunks_is_cut_off(plain: Limited, body: bytes) -> None:
    """A body whose end is not sure never becomes a request of its own."""
    head = b"POST /-/test/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    follows = b"GET /-/test/echo?evil HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = await plain.raw(head + body + follows)

    assert b"evil" not in answer
    assert b" 200 " not in answer


# who asks, and what was uploaded


async def test_trusted_proxy_says_who_asks(tmp_path: Path) -> None:
    """What Datasette shows of scheme, host and client is what the proxy in front saw."""
    async with limited(tmp_path, trusted_proxies="127.0.0.1/32") as reader:
        headers = {
            "X-Forwarded-For": "6.6.6.6, 203.0.113.9",
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "data.example.org",
        }
        async with reader.session.get(
            reader.reader.url + "/-/test/echo", headers=headers
        ) as response:
            seen = await response.json()
        assert (seen["for"], seen["scheme"]) == ("203.0.113.9", "https")
        assert seen["host"] == "data.example.org"


async def test_compressed_request_body_goes_on_as_it_is(plain: Limited) -> None:
    """Nobody unpacks a body on the way: its length and its coding would be wrong."""
    head = b"POST /-/test/echo HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\n"
    answer = await plain.raw(head + b"Connection: close\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08")

    assert b'"body": "1f8b08"' in answer
    assert b'"encoding": "gzip"' in answer


@pytest.mark.parametrize(
    ("receipt", "generation"),
    [
        ({"generation": 7}, 7),
        ({"receipts": [{"generation": 8}, {"generation": 9}]}, 9),
        ({"generation": None}, None),
        ({}, None),
    ],
)
async def test_upload_is_answered_with_the_cookie_that_waits_for_it(
    plain: Limited, receipt: dict[str, Any], generation: int | None
) -> None:
    """A browser that uploaded asks from now on for what it uploaded."""
    plain.receipt = receipt
    async with plain.session.post(plain.reader.url + "/ingest", data=b"x") as response:
        assert await response.json() == receipt
        cookie = response.cookies.get("headrace_min_generation")
    if generation is None:
        assert cookie is None
    else:
        assert cookie is not None
        assert cookie.value == str(generation)
        assert (cookie["path"], cookie["samesite"]) == ("/", "Lax")
        assert not cookie["httponly"]  # the upload page's script sets it as well
        assert 0 < int(cookie["max-age"]) <= 3600


async def test_cache_can_be_turned_off(tmp_path: Path) -> None:
    """With no bytes for it, every page is Datasette's own."""
    async with limited(tmp_path, cache_size=0) as reader:
        for _ in range(2):
            async with reader.session.get(reader.reader.url + "/sales") as response:
                assert response.status == 200
                assert "cache;desc=pass" in response.headers["Server-Timing"]
