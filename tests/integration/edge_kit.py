"""What the tests of the edge stand on: a reader in service, what is behind it, raw connections."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import yarl
from aiohttp import web

from tests.integration.reader_kit import (
    ORDERS,
    Client,
    Publisher,
    primary_of,
    reading,
    settings_for,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from serve.workers import WorkerSet


class EdgeClient(Client):
    """What a person does with a reader, who publishes for it, and what goes on inside."""

    publisher: Publisher

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Open a connection while the block runs."""
        url = yarl.URL(self.reader.url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def raw(self, request: bytes) -> bytes:
        """Send bytes on a connection of their own; give all that comes back until it is closed."""
        async with self.connected() as (reader, writer):
            writer.write(request)
            return await asyncio.wait_for(reader.read(), 30)

    @property
    def current(self) -> WorkerSet:
        """The set in service."""
        assert self.reader.supervisor.current
        return self.reader.supervisor.current

    @property
    def workers(self) -> int:
        """Workers in service."""
        return len(self.current.workers)

    @property
    def in_flight(self) -> int:
        """Requests that hold the set in service."""
        return self.current.in_flight

    def waiting(self, path: str) -> int:
        """Count those who wait for a page."""
        return self.reader.edge.pages.count_waiting(path)


Kind = TypeVar("Kind", bound=EdgeClient)


@asynccontextmanager
async def edge_of(
    root: Path,
    kind: type[Kind],
    plugin: str,
    *,
    ingest: Callable[[web.Request], Any] | None = None,
    readers: Callable[[web.Request], Any] | None = None,
    others: dict[str, str] | None = None,
    **values: Any,
) -> AsyncIterator[Kind]:
    """Run a reader of `sales` in generation 1 while the block runs.

    Args:
        root: Where everything lies; the Datasette configuration is at ``config``.
        kind: What to give.
        plugin: The text of a Datasette plugin.
        ingest: Answers `/ingest`, as the primary.
        readers: Answers `/-/readers`, as the primary.
        others: More databases, each with a statement that makes it.
        values: Settings.
    """
    plugins = root / "config" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "test.py").write_text(plugin)
    publisher = Publisher(root)
    cuts = {name: publisher.write(name, statement) for name, statement in (others or {}).items()}
    await publisher.publish({"sales": publisher.write("sales", *ORDERS), **cuts})
    async with primary_of(publisher, ingest, readers=readers) as url:
        settings = settings_for(root, primary=url, datasette_dir=root / "config", **values)
        async with reading(settings) as client:
            await client.wait_generation(1)
            edge = kind(client.reader, client.session)
            edge.publisher = publisher
            yield edge


class Primary:
    """A stand-in whose answer to /ingest each test decides."""

    def __init__(self) -> None:
        self.answer: Callable[[web.Request], Any] = self.echo

    async def ingest(self, request: web.Request) -> web.StreamResponse:
        """Answer as the test wants."""
        response: web.StreamResponse = await self.answer(request)
        return response

    async def echo(self, request: web.Request) -> web.StreamResponse:
        """Say what arrived."""
        digest, size = hashlib.sha256(), 0
        async for chunk in request.content.iter_any():
            digest.update(chunk)
            size += len(chunk)
        headers = [[name, value] for name, value in request.headers.items()]
        return web.json_response(
            {
                "path": request.raw_path,
                "size": size,
                "sha256": digest.hexdigest(),
                "headers": headers,
            },
            status=201,
            headers={"Location": "/ingest/receipts/1"},
        )


def values_of(headers: list[list[str]], name: str) -> list[str]:
    """Give all values of a header."""
    return [value for key, value in headers if key.lower() == name]
