"""What the tests of the edge stand on: a reader with a plugin, in service, and raw connections."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import yarl

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

    from aiohttp import web

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
    others: dict[str, str] | None = None,
    **values: Any,
) -> AsyncIterator[Kind]:
    """Run a reader of `sales` in generation 1 while the block runs.

    Args:
        root: Where everything lies; the Datasette configuration is at ``config``.
        kind: What to give.
        plugin: The text of a Datasette plugin.
        ingest: Answers `/ingest`, as the primary.
        others: More databases, each with a statement that makes it.
        values: Settings.
    """
    plugins = root / "config" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "test.py").write_text(plugin)
    publisher = Publisher(root)
    cuts = {name: publisher.write(name, statement) for name, statement in (others or {}).items()}
    await publisher.publish({"sales": publisher.write("sales", *ORDERS), **cuts})
    async with primary_of(publisher, ingest) as url:
        settings = settings_for(root, primary=url, datasette_dir=root / "config", **values)
        async with reading(settings) as client:
            await client.wait_generation(1)
            edge = kind(client.reader, client.session)
            edge.publisher = publisher
            yield edge
