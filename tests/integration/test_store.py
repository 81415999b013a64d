"""Reading large objects, listing, creating and deleting, in a local folder and in other stores."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import obstore
import pytest
from aiohttp import web

from headrace.errors import ObjectExistsError, ObjectMissingError, StoreError
from headrace.store import Store
from headrace.store_client import open_client
from headrace.store_counts import Operation
from headrace.store_url import parse_store_url
from headrace.web import listening
from tests.integration.s3_requests import CountingProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.integration.s3_kit import S3

LARGE = secrets.token_bytes(9_000_000)


@pytest.fixture(params=["folder", "memory", "s3"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> Store:
    """Give an empty store."""
    s3.give_credentials(monkeypatch)
    urls = {"folder": str(tmp_path / "store"), "memory": "memory:///"}
    return Store(urls.get(request.param) or s3.url(s3.make_bucket()))


async def test_large_object_goes_through_a_file_and_a_small_one_does_not(
    store: Store, tmp_path: Path
) -> None:
    """What is larger than the limit is never held in memory whole."""
    await store.replace("ltx/large", LARGE)
    spill = tmp_path / "spill"

    found = await store.read_or_spill("ltx/large", spill, memory_bytes=1_000_000, stall_s=30)

    assert not isinstance(found, bytes)
    assert found.read_bytes() == LARGE
    assert found == (spill if store.folder is None else store.folder / "ltx" / "large")
    body = await store.read_or_spill("ltx/large", spill, memory_bytes=9_000_000, stall_s=30)
    assert body == LARGE
    assert store.counts.transferred_bytes[Operation.GET] == 2 * len(LARGE)


async def test_missing_object_is_told_from_other_errors(store: Store, tmp_path: Path) -> None:
    """Who waits for an object must know that it is only not there yet."""
    with pytest.raises(ObjectMissingError, match="cannot read ltx/none"):
        await store.read_or_spill("ltx/none", tmp_path / "spill", memory_bytes=1, stall_s=30)


async def test_list_gives_names_and_sizes(store: Store) -> None:
    """A list holds what lies under the prefix, and nothing is under one that is not there."""
    await store.replace("ltx/0/a", b"1")
    await store.replace("ltx/0/b", b"22")
    await store.replace("ltx/1/c", b"333")

    assert await store.list_sizes("ltx/0", stall_s=30) == {"a": 1, "b": 2}
    assert await store.list_sizes("ltx/7", stall_s=30) == {}


async def test_list_says_when_objects_were_written(store: Store) -> None:
    """Times are the store's own, and aware."""
    before = datetime.now(UTC) - timedelta(minutes=1)
    await store.replace("ltx/0/a", b"1")

    (listed,) = [each async for each in store.list_objects("ltx", stall_s=30)]

    assert (listed.key, listed.size_bytes) == ("ltx/0/a", 1)
    assert before < listed.modified_at < before + timedelta(minutes=2)


async def test_create_twice_is_refused(store: Store) -> None:
    """Put-if-absent: the second create of a key fails, and the first one's bytes stay."""
    await store.create("a/b", b"1")
    with pytest.raises(ObjectExistsError):
        await store.create("a/b", b"2")
    assert await store.read("a/b") == b"1"


async def test_delete_of_what_is_not_there_is_as_good(store: Store) -> None:
    """A delete that is repeated does no harm, and touches nothing else."""
    await store.replace("a/b", b"1")
    await store.replace("a/c", b"2")
    for _ in range(2):
        await store.delete("a/b")
    await store.delete("none/none")
    with pytest.raises(ObjectMissingError):
        await store.read("a/b")
    assert await store.read("a/c") == b"2"


async def test_delete_that_fails_is_told(tmp_path: Path) -> None:
    """A store that could not do it is told from one that had nothing to do."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    store = Store(str(tmp_path))
    with pytest.raises(StoreError, match="cannot delete a/b"):
        await store.delete("a/b")
    assert store.counts.errors == {Operation.DELETE: 1}


async def test_uploaded_file_is_there_with_all_its_bytes(store: Store, tmp_path: Path) -> None:
    """A file becomes an object without being read into memory, and may be sent again."""
    (tmp_path / "file").write_bytes(LARGE)
    for _ in range(2):
        await store.upload("ltx/file", tmp_path / "file")
    assert await store.read("ltx/file") == LARGE


async def test_requests_are_counted_as_the_store_sees_them(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is billed is what is counted, parts of large objects and refused creates included."""
    s3.give_credentials(monkeypatch)
    (tmp_path / "large").write_bytes(LARGE)
    (tmp_path / "small").write_bytes(b"small")
    proxy = CountingProxy(s3.port)
    async with proxy.listening() as port:
        store = Store(s3.url(s3.make_bucket(), port=port))
        await store.check_creates()
        for name in ("large", "small"):
            await store.upload(f"files/{name}", tmp_path / name)
        await store.put_stream("files/streamed", _pieces(LARGE))
        await store.put_stream("files/little", _pieces(b"little"))
        await store.replace("files/one", b"1")
        assert await store.read("files/one") == b"1"
        await store.look_at("files/one")
        await store.read_or_spill("files/large", tmp_path / "spill", memory_bytes=1, stall_s=30)
        assert [piece async for piece in store.stream("files/little", stall_s=30)] == [b"little"]
        with pytest.raises(ObjectMissingError):
            await store.read("files/none")
        assert len(await store.list_sizes("files", stall_s=30)) == 5
        assert "files" in await store.list_folders("", stall_s=30)
        await store.delete_all("files", stall_s=30)

    seen = Counter[str]()
    for asked, count in proxy.counts.items():
        seen[asked.operation] += count
    assert store.counts.requests == seen
    assert seen.keys() == set(Operation)
    assert store.counts.errors == {}
    assert store.counts.transferred_bytes == {
        Operation.CREATE: len(b"first"),
        Operation.PUT: len(b"small" + b"1"),
        Operation.MULTIPART: 2 * len(LARGE) + len(b"little"),
        Operation.GET: len(b"1" + LARGE + b"little"),
        Operation.HEAD: 0,
        Operation.LIST: 0,
        Operation.DELETE: 0,
    }


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 1_000_000):
        yield body[start : start + 1_000_000]


async def test_store_says_in_each_request_what_its_kind_has_to_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reads, creations and lists alike carry the header by which Tigris asks its leader."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    heard: list[tuple[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        heard.append((request.method, request.headers.get("X-Tigris-Consistent", "")))
        return web.Response(status=404)

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    async with listening(app, "127.0.0.1", 0) as listener:
        url = parse_store_url(f"s3://bucket?endpoint=http://127.0.0.1:{listener.port}")
        told = replace(url, headers=(("X-Tigris-Consistent", "true"),))
        client = open_client(told)
        asked = [
            obstore.put_async(client, "a", b"1", mode="create"),
            obstore.get_async(client, "a"),
            obstore.list_with_delimiter_async(client),
        ]
        await asyncio.gather(*asked, return_exceptions=True)  # nothing is there
    assert sorted(heard) == [("GET", "true"), ("GET", "true"), ("PUT", "true")]
