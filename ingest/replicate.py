"""replicate: Litestream, supervised, and asked over its control socket.

Source: Litestream 0.5.17, ``server.go``: POST /unregister, /sync; GET /info.
"""

from __future__ import annotations

import asyncio
import socket
import time
import weakref
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp
import structlog

from headrace.child import GRACE_S, Child
from headrace.errors import LitestreamError
from headrace.keys import DBS_PREFIX
from headrace.litestream_binary import find_litestream, litestream_environment
from ingest.stopping import LITESTREAM

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from headrace.keys import PrimaryPaths
    from headrace.stopping import Stop
    from headrace.store import Store
    from ingest.metrics import IngestMetrics

log = structlog.get_logger()

SYNC_TIMEOUT_S = 60  # seconds that Litestream may take for one sync
UNSEEN_S = 10.0  # seconds until Litestream must have seen a new lineage
UNSEEN_POLL_S = 0.01
METRICS_TIMEOUT_S = 0.5  # whoever asks has a deadline too
CHECK_UP_S = 2.0  # seconds between looks at a Litestream that is up
CHECK_DOWN_S = 0.05  # the same while it is down or starting


class Litestream:
    """``litestream replicate`` on this volume.

    Args:
        config: Its configuration file.
        paths: The volume.
        store: Where it replicates to.
        socket_path: Where its control socket is made.
        metrics: Told whether it is up, and of restarts.
        stop: Bounds how long its end may take.
    """

    def __init__(
        self,
        *,
        config: Path,
        paths: PrimaryPaths,
        store: Store,
        socket_path: Path,
        metrics: IngestMetrics,
        stop: Stop,
    ) -> None:
        self.up = asyncio.Event()
        self._paths = paths
        self._socket_path = socket_path
        self._metrics = metrics
        self._metrics_port = _hold_port()
        weakref.finalize(self, self._metrics_port.close)
        address = f"127.0.0.1:{self._metrics_port.getsockname()[1]}"
        self._metrics_url = f"http://{address}/metrics"
        metrics.replication.watch(self.read_metrics)
        self._session: aiohttp.ClientSession | None = None  # while it is run
        self._child = Child(
            "litestream",
            [str(find_litestream()), "replicate", "-config", str(config)],
            env=litestream_environment(
                HEADRACE_DBS=str(paths.dbs),
                HEADRACE_REPLICA_URL=store.litestream_url(DBS_PREFIX),
                HEADRACE_LITESTREAM_SOCKET=str(socket_path),
                HEADRACE_LITESTREAM_ADDR=address,
            ),
            on_exit=self._note_exit,
            grace_s=lambda: min(GRACE_S, stop.left_s(LITESTREAM)),
        )

    async def run(self) -> None:
        """Keep Litestream running, and ``up`` true to what it is, until cancelled."""
        # It warns at each start, straight to standard error.
        log.info("litestream starts", its_warning_of_retention="as meant: Headrace deletes itself")
        async with self._asking(), asyncio.TaskGroup() as tasks:
            tasks.create_task(self._child.run())
            tasks.create_task(self._watch())

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """Keep one session, and its connections: batches of rows ask dozens of times a second."""
        # The socket has a deadline of its own: /sync was seen to outlast its timeout.
        timeout = aiohttp.ClientTimeout(total=SYNC_TIMEOUT_S + 5)
        connector = aiohttp.UnixConnector(str(self._socket_path))
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            self._session = session
            try:
                yield
            finally:
                self._session = None

    async def unregister(self, database: str, lineage: str) -> None:
        """End a lineage's replication, before its file is deleted.

        Raises:
            LitestreamError: Litestream is down, or refused.
        """
        await self._post_of(database, lineage, "/unregister")

    async def sync(self, database: str, lineage: str) -> int:
        """Have all that is committed replicated; give the TXID that is in the object store.

        Raises:
            LitestreamError: Litestream is down, failed, or took too long.
        """
        answer = await self._post_of(database, lineage, "/sync", wait=True, timeout=SYNC_TIMEOUT_S)
        txid = int(answer["replicated_txid"])
        if txid < 1 or txid < int(answer["txid"]):
            raise LitestreamError(f"sync of {database!r} ended at TXID {txid} of {answer['txid']}")
        return txid

    async def read_metrics(self) -> str:
        """Give its own metrics, in Prometheus's text format; nothing while it does not answer."""
        timeout = aiohttp.ClientTimeout(total=METRICS_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(self._metrics_url) as response,
            ):
                return await response.text() if response.ok else ""
        except (aiohttp.ClientError, OSError, TimeoutError):
            return ""

    async def _post_of(
        self, database: str, lineage: str, route: str, **body: Any
    ) -> dict[str, Any]:
        """Ask something of a lineage.

        A new one is seen by Litestream's watch of the folder after about 0.26 s, at once if the
        folder is new as well; until then it is waited for. (``POST /register`` would be faster, but
        the watch then opens and closes the file once more, and closing a descriptor drops the POSIX
        locks that Litestream holds on it: the next connection to close takes itself for the last
        one, and deletes the WAL.)
        """
        body["path"] = str(self._paths.database(database, lineage))
        deadline_s = time.monotonic() + UNSEEN_S
        while True:
            try:
                return await self._ask("POST", route, json=body)
            except _UnknownDatabaseError:
                if time.monotonic() > deadline_s:
                    raise
            await asyncio.sleep(UNSEEN_POLL_S)

    async def _ask(self, method: str, route: str, **options: Any) -> dict[str, Any]:
        if self._session is None:
            raise LitestreamError(f"cannot ask Litestream {route}: it is not run yet, or any more")
        try:
            async with self._session.request(
                method, f"http://litestream{route}", **options
            ) as response:
                answer: dict[str, Any] = await response.json()
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError) as exc:
            raise LitestreamError(f"cannot ask Litestream {route}: {exc!r}") from exc
        if response.status == HTTPStatus.NOT_FOUND:
            raise _UnknownDatabaseError(f"Litestream does not know {route}: {answer.get('error')}")
        if not response.ok:
            raise LitestreamError(f"Litestream refused {route}: {answer.get('error')}")
        return answer

    async def _watch(self) -> None:
        while True:
            try:
                await self._ask("GET", "/info")
            except LitestreamError:
                self._set_up(up=False)
            else:
                self._set_up(up=True)
            await asyncio.sleep(CHECK_UP_S if self.up.is_set() else CHECK_DOWN_S)

    def _set_up(self, *, up: bool) -> None:
        if up and not self.up.is_set():
            log.info("litestream is up", pid=self._child.pid)
        self._metrics.replication.up.set(up)
        if up:
            self.up.set()
        else:
            self.up.clear()

    def _note_exit(self, _code: int) -> None:
        self._set_up(up=False)
        self._metrics.replication.restarts.inc()


class _UnknownDatabaseError(LitestreamError):
    """Litestream has not seen a database (yet)."""


def _hold_port() -> socket.socket:
    """Let the kernel pick a port for Litestream's metrics, and keep it.

    While it is bound here, without listening, no connection that goes out takes it between two
    starts of Litestream. Go's listeners set SO_REUSEADDR, so that they may bind it as well.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder
