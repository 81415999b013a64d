"""What a reader does with an upload that the primary does not take, or not any more."""

from __future__ import annotations

import asyncio
import hashlib
import io
import time
from contextlib import AsyncExitStack, suppress
from itertools import product
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from headrace.arriving import receive_body
from headrace.errors import problem_document
from headrace.web import listening, problem_response
from serve.keeping import StoreKeeper
from tests.faults.links import Link
from tests.integration.reader_kit import (
    NO_PRIMARY,
    Client,
    Publisher,
    eventually,
    reading,
    settings_for,
    spawned_reader,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from headrace.store import Listed
    from tests.integration.s3_kit import S3

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN = "of-tests"  # noqa: S105 - of these tests
AUTH = {"Authorization": f"Bearer {TOKEN}"}
MIB = 1024**2


class Stage:
    """A reader, a stand-in for the primary, and the network between them."""

    def __init__(self, client: Client, publisher: Publisher, link: Link) -> None:
        self.client = client
        self.publisher = publisher
        self.link = link
        self.stopping = False
        self.told = 0
        self.uploads: list[bytes] = []

    @property
    def url(self) -> str:
        """Where to upload."""
        return f"{self.client.url}/ingest?filename=sales.csv"

    async def post(self, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
        """Upload a file; give the status and what was answered."""
        async with self.client.session.post(
            self.url, data=body, headers={**AUTH, **headers}
        ) as answer:
            return answer.status, await answer.json(content_type=None)

    async def stored(self, prefix: str) -> list[Listed]:
        """List what lies in the store under a prefix."""
        listed = self.publisher.store.list_objects(prefix, stall_s=10)
        return [each async for each in listed]

    async def expect(self, request: web.Request) -> web.StreamResponse | None:
        """Answer a request that asks whether to send its body."""
        if self.stopping:
            return problem_response(
                request, problem_document("stopping", "the primary is stopping")
            )
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
        return None

    async def ingest(self, request: web.Request) -> web.Response:
        """Take an upload."""
        self.uploads.append(await request.read())
        return web.json_response({"generation": 1}, status=201)

    async def tell(self, _request: web.Request) -> web.Response:
        """Hear from the reader that it has taken uploads."""
        self.told += 1
        return web.json_response({})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Give one reader for the tests of this module."""
    root = tmp_path_factory.mktemp("reader")
    publisher = Publisher(root)
    async with AsyncExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("serve.ingest_proxy.ANSWER_S", 0.5)
        patch.setattr("serve.incoming.MAX_BACKOFF_S", 0.1)
        ports: list[int] = []
        link = Link(lambda: ports[0])
        await stack.enter_async_context(link.listening())
        settings = settings_for(root, primary=f"http://127.0.0.1:{link.port}", token=TOKEN)
        client = await stack.enter_async_context(reading(settings))
        made = Stage(client, publisher, link)
        app = web.Application()
        app.router.add_get("/-/generations", publisher.push)
        app.router.add_post("/ingest", made.ingest, expect_handler=made.expect)
        app.router.add_post("/-/incoming", made.tell)
        listener = listening(app, "127.0.0.1", 0, shutdown_timeout=0.1)
        ports.append((await stack.enter_async_context(listener)).port)
        yield made


@pytest.mark.parametrize("fault", ["silent", "reset", "stopping"])
async def test_upload_that_the_primary_does_not_want_is_taken(stage: Stage, fault: str) -> None:
    """Whether the primary hangs, is gone or stops: nothing was sent to it, so the reader has it."""
    passed, told = len(stage.uploads), stage.told
    assert (await stage.post(b"n\n1\n"))[0] == 201
    if fault == "stopping":
        stage.stopping = True
    else:
        await stage.link.set_mode("silent" if fault == "silent" else "reset")
    try:
        status, receipt = await stage.post(b"n\n2\n")

        assert (status, receipt["state"]) == (202, "received")
        assert receipt["sha256"] == hashlib.sha256(b"n\n2\n").hexdigest()
        assert await stage.publisher.store.read(receipt["archive"]) == b"n\n2\n"
        if fault != "stopping":
            shown = await stage.client.json(f"/ingest/receipts/{receipt['id']}")
            assert shown == receipt
    finally:
        stage.stopping = False
        await stage.link.set_mode("pass")
    await eventually(lambda: stage.told > told)
    assert len(stage.uploads) == passed + 1


async def test_upload_that_the_primary_wants_at_the_last_moment_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wanted in the very moment in which the reader gives up waiting: one of the two has it all."""
    answer_s = 0.2
    monkeypatch.setattr("serve.ingest_proxy.ANSWER_S", answer_s)
    publisher = Publisher(tmp_path)
    taken: list[bytes] = []
    turns = 0

    async def expect(request: web.Request) -> None:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
        for _ in range(turns):
            await asyncio.sleep(0)
        time.sleep(answer_s)  # noqa: ASYNC251 - so that both happen in one turn of the reader's loop

    async def ingest(request: web.Request) -> web.Response:
        taken.append(await request.read())
        return web.json_response({"generation": 1}, status=201)

    app = web.Application(client_max_size=2 * MIB)
    app.router.add_get("/-/generations", publisher.push)
    app.router.add_post("/ingest", ingest, expect_handler=expect)
    async with listening(app, "127.0.0.1", 0, shutdown_timeout=0.1) as primary:
        url = f"http://127.0.0.1:{primary.port}"
        async with reading(settings_for(tmp_path, primary=url, token=TOKEN)) as client:
            sending = f"{client.url}/ingest?filename=a.csv"
            for turns, size_bytes in product(range(3), (4, MIB)):  # noqa: B007 - in expect()
                body = b"n\n" + b"1" * (size_bytes - 3) + b"\n"
                async with client.session.post(
                    sending, data=io.BytesIO(body), headers=AUTH
                ) as answer:
                    said = await answer.json(content_type=None)
                if answer.status == 202:
                    taken.append(await publisher.store.read(said["archive"]))
                assert answer.status in {201, 202}, said
                assert taken == [body]
                taken.clear()


async def test_upload_of_which_something_was_read_before_is_never_taken(tmp_path: Path) -> None:
    """What is left of a body is no file: neither a shorter one nor an empty one."""
    store = Publisher(tmp_path).store
    refused: list[str] = []

    async def ingest(request: web.Request) -> web.Response:
        await request.content.readexactly(int(request.headers["Read"]))
        arrived = await receive_body(request, StoreKeeper(store, MIB))
        refused.append(arrived.refusal.code if arrived.refusal else "")
        return web.Response()

    app = web.Application()
    app.router.add_post("/ingest", ingest)
    async with (
        listening(app, "127.0.0.1", 0, shutdown_timeout=0.1) as listener,
        aiohttp.ClientSession() as session,
    ):
        url = f"http://127.0.0.1:{listener.port}/ingest?filename=a.csv"
        for read in (0, 2, 4):
            headers = {"Read": str(read), "Content-Encoding": "identity"}
            await session.post(url, headers=headers, data=b"n\n1\n")
        await session.post(url, headers={"Read": "0"}, data=pieces(b"n\n1\n"))

    assert refused == ["", "incomplete-body", "incomplete-body", ""]
    assert len([each async for each in store.list_objects("uploads", stall_s=10)]) == 2


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    """Give a body whose size is not announced."""
    for chunk in chunks:
        yield chunk


async def test_upload_is_refused_while_the_store_is_away_too(stage: Stage) -> None:
    """Nobody is told that it was kept, and nothing half is left."""
    folder = stage.publisher.store.folder
    assert folder
    before = await stage.stored("incoming")
    await stage.link.set_mode("reset")
    for part in ("uploads", "incoming/_headrace/receipts", "incoming/_headrace/requests"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        away = (folder / part).rename(folder.parent / "away")
        (folder / part).write_text("in the way")
        try:
            async with stage.client.session.post(stage.url, data=b"n\n1\n", headers=AUTH) as answer:
                assert answer.status == 503
                assert (await answer.json(content_type=None))["code"] == "replication-down"
                assert answer.headers["Retry-After"]
        finally:
            (folder / part).unlink()
            away.rename(folder / part)
    await stage.link.set_mode("pass")
    # Of the last one nobody can tell whether it is there: so its bytes and its receipt stay.
    assert len(await stage.stored("incoming")) == len(before) + 1


async def test_upload_whose_client_hangs_up_leaves_nothing(stage: Stage) -> None:
    """What did not arrive whole is no upload."""
    before = await stage.stored("")
    await stage.link.set_mode("reset")
    begun = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * MIB
            begun.set()

    sending = asyncio.create_task(stage.post(endless(), **{"Idempotency-Key": "cut"}))
    await asyncio.wait_for(begun.wait(), 20)
    assert (await stage.post(b"n\n1\n", **{"Idempotency-Key": "cut"}))[1]["code"] == "in-flight"
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)

    async def is_taken() -> bool:
        with suppress(aiohttp.ClientError):
            return (await stage.post(b"n\n1\n", **{"Idempotency-Key": "cut"}))[0] == 202
        return False

    await eventually(is_taken)  # the key is free again
    await stage.link.set_mode("pass")
    assert len(await stage.stored("")) == len(before) + 3


async def test_upload_with_a_content_encoding_is_left_to_the_primary(stage: Stage) -> None:
    """A body that a reader would have to unpack is not kept as something else than it is."""
    await stage.link.set_mode("reset")
    status, problem = await stage.post(b"n\n1\n", **{"Content-Encoding": "gzip"})
    await stage.link.set_mode("pass")
    assert (status, problem["code"]) == (503, "primary-away")


async def test_upload_of_48_mb_is_never_held_in_memory(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large, a reader holds some parts of it, and writes none to its disk."""
    s3.give_credentials(monkeypatch)
    monkeypatch.setenv("HEADRACE_TOKEN", TOKEN)
    block = bytes(range(256)) * 4096  # 1 MiB

    async def chunks(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield block

    store = s3.url(s3.make_bucket())
    async with (
        spawned_reader(tmp_path, store=store, primary=NO_PRIMARY) as spawned,
        aiohttp.ClientSession(headers=AUTH) as session,
    ):
        url = f"{spawned.url}/ingest?filename=large.bin"
        async with session.post(url, data=chunks(12)) as answer:
            assert answer.status == 202
        before_kb = spawned.peak_kb()
        async with session.post(url, data=chunks(48)) as answer:
            assert (answer.status, (await answer.json())["bytes"]) == (202, 48 * MIB)
        assert spawned.peak_kb() - before_kb < 30 * 1024
        sizes = [each.stat().st_size for each in (tmp_path / "reader").rglob("*") if each.is_file()]
        assert sum(sizes) < MIB
