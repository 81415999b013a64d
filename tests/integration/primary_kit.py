"""A primary in the process of the test, with its real parts: so a test can stand between two."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

from headrace.config import IngestSettings, load_settings
from headrace.keys import PrimaryPaths
from headrace.lease import LeaseLog
from headrace.log import GenerationLog
from headrace.stopping import Stop
from headrace.store import Store
from ingest.background import background
from ingest.leading import lead
from ingest.lease import LeaseHolder
from ingest.lease_note import LeaseNote
from ingest.metrics import IngestMetrics
from ingest.volume import make_folders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from headrace.generation import Entry
    from ingest.api import Node

TOKEN = "of-tests"  # noqa: S105 - of these tests
AUTH = {"Authorization": f"Bearer {TOKEN}"}


class LeadingPrimary:
    """A primary that holds the lease.

    Args:
        node: Its parts.
        url: Where it listens.
        session: Asks it.
    """

    def __init__(self, node: Node, url: str, session: aiohttp.ClientSession) -> None:
        self.node = node
        self._url = url
        self._session = session

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
        """Send a request; give the status and what was answered."""
        async with self._session.request(
            method, f"{self._url}{path}", headers=AUTH, **options
        ) as answer:
            return answer.status, await answer.json(content_type=None)

    async def upload(self, body: bytes, **fields: str) -> dict[str, Any]:
        """POST a file that is published within the request; give its receipt."""
        status, receipt = await self.ask("POST", "/ingest", data=body, params=fields)
        assert status == 201, receipt
        return receipt

    async def entries(self, after: int) -> list[Entry]:
        """Read the log after a generation."""
        numbers = range(after + 1, self.node.primary.state.number + 1)
        found = [await self.node.generations.find_entry(number) for number in numbers]
        return [each for each in found if each is not None]


@asynccontextmanager
async def leading(root: Path) -> AsyncIterator[LeadingPrimary]:
    """Run a primary while the block runs; its volume and its store stay."""
    flags: dict[str, Any] = {"data": root / "volume", "store": str(root / "store"), "token": TOKEN}
    flags |= {"port": 0, "metrics_port": 0, "write_window": 0.0}
    settings = load_settings(IngestSettings, flags)
    paths = PrimaryPaths(settings.data)
    make_folders(paths)
    paths.lock.touch()
    store = Store(settings.store or "")
    metrics = IngestMetrics()
    failed: list[BaseException] = []
    lease = LeaseHolder(
        LeaseLog(store),
        "this volume",
        LeaseNote(paths.lease, paths.lock),
        duration_s=settings.lease_duration,
        renew_every_s=settings.lease_renewal,
        metrics=metrics,
    )
    async with AsyncExitStack() as stack:
        taken = await lease.take(standby=False, least_epoch=0)
        await stack.enter_async_context(background(lease.run(), failed.append))
        node, listener = await lead(
            stack,
            settings,
            paths=paths,
            store=store,
            watched=[],
            generations=GenerationLog(store),
            lease=lease,
            taken=taken,
            metrics=metrics,
            stop=Stop(60),
            give_up=failed.append,
        )
        session = await stack.enter_async_context(aiohttp.ClientSession())
        await node.litestream.up.wait()
        yield LeadingPrimary(node, f"http://127.0.0.1:{listener.port}", session)
    assert not failed
