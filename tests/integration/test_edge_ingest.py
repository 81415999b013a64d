"""The reader's public port, and `/ingest`: what goes to the primary, and how."""

from __future__ import annotations

import asyncio
import hashlib
import io
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio
import yarl
from aiohttp import web

from tests.integration.edge_kit import EdgeClient, Primary, edge_of, values_of
from tests.integration.reader_kit import (
    NO_PRIMARY,
    ORDERS,
    Publisher,
    eventually,
    primary_of,
    reading,
    settings_for,
    spawned_reader,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Edge(EdgeClient):
    """A reader, and its primary."""

    primary: Primary


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    """Give a reader in generation 1."""
    root, primary = tmp_path_factory.mktemp("edge"), Primary()
    async with edge_of(root, Edge, "", ingest=primary.ingest) as edge:
        edge.primary = primary
        yield edge


async def test_ingest_reaches_the_primary_with_its_token(edge: Edge) -> None:
    """An upload arrives as it was sent, and the primary's answer comes back."""
    edge.primary.answer = edge.primary.echo
    headers = {"Authorization": "Bearer t", "Content-Disposition": 'attachment; filename="a.csv"'}
    url = edge.reader.url + "/ingest/x%2Fy?database=a%20b"
    async with edge.session.post(yarl.URL(url, encoded=True), data=b"a,b", headers=headers) as got:
        seen = await got.json()

        assert (got.status, got.headers["Location"]) == (201, "/ingest/receipts/1")
        assert seen["path"] == "/ingest/x%2Fy?database=a%20b"
        assert seen["sha256"] == hashlib.sha256(b"a,b").hexdigest()
        assert values_of(seen["headers"], "authorization") == ["Bearer t"]
        assert values_of(seen["headers"], "content-length") == ["3"]


async def test_ingest_is_only_what_lies_below_it(edge: Edge) -> None:
    """A database whose name begins with `ingest` is Datasette's."""
    edge.primary.answer = edge.primary.echo

    assert (await edge.get("/ingestion"))[0] == 404
    assert (await edge.get("/ingest/"))[0] == 201


async def test_ingest_that_waits_to_be_asked_is_asked(edge: Edge) -> None:
    """A client that expects `100 Continue` gets it when the primary wants the body."""
    edge.primary.answer = edge.primary.echo
    url = edge.reader.url + "/ingest"
    async with edge.session.post(url, data=b"x" * 100_000, expect100=True) as response:
        assert (await response.json())["size"] == 100_000


async def test_ingest_refused_early_is_answered_early(edge: Edge) -> None:
    """An answer that the primary gives before the body ends reaches a client that still sends."""

    async def refuse(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"code": "unauthorized"}, status=401)

    edge.primary.answer = refuse
    stop = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while not stop.is_set():
            yield b"x" * 65536
            await asyncio.sleep(0)

    try:
        async with edge.session.post(edge.reader.url + "/ingest", data=endless()) as response:
            assert response.status == 401
            assert await response.json() == {"code": "unauthorized"}
            assert response.headers["Connection"] == "close"
    finally:
        stop.set()


async def test_ingest_that_nobody_reads_is_still_answered(tmp_path: Path) -> None:
    """An early answer counts also when the primary takes no more of the body."""
    held: list[asyncio.StreamWriter] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"POST" not in await reader.read(65536):
            return writer.close()  # it follows generations
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 6\r\n\r\nlarge\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        held.append(writer)
        return None

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    primary = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, reading(settings_for(tmp_path, primary=primary)) as client:
        body = io.BytesIO(b"x" * 30_000_000)
        async with client.session.post(client.reader.url + "/ingest", data=body) as response:
            assert (response.status, await response.text()) == (413, "large\n")
        held[0].transport.abort()
        await asyncio.gather(held[0].wait_closed(), return_exceptions=True)


async def test_ingest_that_hangs_up_reaches_the_primary(edge: Edge) -> None:
    """A client that leaves in the middle of its file is seen by the primary, as an error."""
    ends: list[str] = []
    begun = asyncio.Event()

    async def read_all(request: web.Request) -> web.StreamResponse:
        begun.set()
        try:
            await request.read()
            ends.append("whole")
        except BaseException as exc:
            ends.append(type(exc).__name__)
            raise
        return web.Response()

    edge.primary.answer = read_all
    url = yarl.URL(edge.reader.url)
    _, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(b"POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
    await asyncio.wait_for(begun.wait(), 20)
    writer.close()

    await eventually(lambda: ends)
    assert ends != ["whole"]


async def test_ingest_without_a_primary_is_refused(tmp_path: Path) -> None:
    """A primary that is away is named, and what is published is read on."""
    publisher = Publisher(tmp_path)
    await publisher.publish({"sales": publisher.write("sales", *ORDERS)})
    async with reading(settings_for(tmp_path, primary=NO_PRIMARY)) as client:
        await client.wait_generation(1)
        url = client.reader.url + "/ingest"
        async with client.session.post(url, data=io.BytesIO(b"x" * 3_000_000)) as response:
            assert response.status == 503
            assert (await response.json(content_type=None))["code"] == "primary-away"
            assert response.headers["Headrace-Generation"] == "1"
        assert await client.rows("/sales/orders") == []


async def test_ingest_of_a_primary_that_never_answers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has all of a request, and is silent: the client is told to send it again with its key."""
    monkeypatch.setattr("serve.service.PRIMARY_ANSWER_S", 0.2)
    publisher = Publisher(tmp_path)

    async def never(request: web.Request) -> web.Response:
        await request.read()
        await asyncio.Event().wait()
        raise AssertionError

    async with (
        primary_of(publisher, never) as url,
        reading(settings_for(tmp_path, primary=url)) as client,
        client.session.post(f"{client.reader.url}/ingest", data=b"x") as response,
    ):
        assert response.status == 503
        assert (await response.json(content_type=None))["code"] == "primary-lost"


async def test_ingest_of_50_mb_is_never_held_in_memory(tmp_path: Path) -> None:
    """A large file passes byte for byte while the reader's memory stays where it was."""
    publisher, primary = Publisher(tmp_path), Primary()
    block = bytes(range(256)) * 4096  # 1 MiB
    digest = hashlib.sha256(block * 50).hexdigest()

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield block

    async with (
        primary_of(publisher, primary.ingest) as url,
        spawned_reader(tmp_path, primary=url) as spawned,
        aiohttp.ClientSession() as session,
    ):
        await session.post(f"{spawned.url}/ingest", data=b"warm")
        before_kb = spawned.peak_kb()
        async with session.post(f"{spawned.url}/ingest", data=chunks()) as response:
            seen = await response.json()
        grown_kb = spawned.peak_kb() - before_kb

    assert (seen["size"], seen["sha256"]) == (50 * 1024**2, digest)
    assert grown_kb < 10_000
