"""What runs in a worker: Datasette on the slots of one generation, behind a Unix socket.

This module is imported by the nursery, which forks workers: so all that is slow to import is
imported here, at module level, and paid once.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import uvicorn
from datasette.app import Datasette
from datasette.database import Database
from datasette.plugins import pm
from datasette.utils import parse_metadata

from headrace.generation import Cut, format_txid
from headrace.names import quote_identifier
from serve.metadata import build_metadata

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serve.worker_spec import WorkerSpec

# Where rich happens to be installed, Datasette logs the local variables of a failed request:
# rows, cookies and secrets. The plain traceback is logged all the same.
pm.get_plugin("datasette.handle_exception").rich = None

METADATA_FILES = ("metadata.json", "metadata.yaml", "metadata.yml")  # as Datasette orders them
KEEP_ALIVE_S = 120  # longer than the edge keeps a connection: the edge closes, never the worker
MAX_HEADERS_BYTES = 256 * 1024  # the edge has its own, smaller limit
COUNT_AT_MOST = 10_000  # rows of a table that the generation does not count


def run_worker(spec: WorkerSpec, on_ready: Callable[[], None]) -> None:
    """Serve until SIGTERM; requests that are being answered are finished.

    Args:
        spec: What to serve.
        on_ready: Called when requests are taken.

    Raises:
        WorkerError: Datasette or a plugin of the user did not start.
    """
    asyncio.run(_serve(spec, on_ready))


async def _serve(spec: WorkerSpec, on_ready: Callable[[], None]) -> None:
    datasette = build_datasette(spec)
    await datasette.invoke_startup()
    server = _Server(
        uvicorn.Config(
            datasette.app(),
            uds=str(spec.socket),
            lifespan="on",
            proxy_headers=True,
            forwarded_allow_ips="*",  # the socket lies in a private folder: only the edge is there
            access_log=False,
            server_header=False,
            log_config=None,
            timeout_keep_alive=KEEP_ALIVE_S,
            h11_max_incomplete_event_size=MAX_HEADERS_BYTES,
        ),
        on_ready,
    )
    await server.serve()


class _Server(uvicorn.Server):
    """Says when it takes requests."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


def build_datasette(spec: WorkerSpec) -> Datasette:
    """Make a Datasette that serves the slots, and whatever the user's directory adds.

    Databases in the user's directory are served as Datasette would; one that has the name of a
    published database gives way to it.
    """
    datasette = Datasette(
        files=[],
        config_dir=spec.datasette_dir,
        metadata=build_metadata(spec.state, read_user_metadata(spec.datasette_dir)),
        secret=spec.secret,
    )
    counts = {
        name: describe_slot(cut, spec.slots[name]) for name, cut in spec.state.databases.items()
    }
    datasette.inspect_data = {**(datasette.inspect_data or {}), **counts}
    for name in ("_memory", *spec.state.databases):
        if name in datasette.databases:
            datasette.remove_database(name)
    for name in spec.state.databases:
        slot = Database(datasette, path=str(spec.slots[name]), is_mutable=False)
        datasette.add_database(slot, name=name)
    return datasette


def read_user_metadata(folder: Path | None) -> Any:
    """Read the metadata of a configuration directory, ``{}`` without one."""
    for name in METADATA_FILES:
        if folder is not None and (folder / name).exists():
            return parse_metadata((folder / name).read_text())
    return {}


def describe_slot(cut: Cut, slot: Path) -> dict[str, Any]:
    """Give what Datasette would else find by reading the whole file: its hash, size and counts.

    Its hash stands for the content and decides about ETags; lineage and TXID do so as well.
    """
    content = f"{cut.lineage}/{format_txid(cut.txid)}"
    return {
        "hash": hashlib.sha256(content.encode()).hexdigest(),
        "size": cut.pages * cut.page_size,
        "file": slot.name,
        "tables": {name: {"count": rows} for name, rows in _count_tables(cut, slot).items()},
    }


def _count_tables(cut: Cut, slot: Path) -> dict[str, int]:
    """Give the rows of each table in the order of the schema, as Datasette does.

    Tables that the generation does not count (internal ones, those behind a full-text index) are
    hidden ones. Datasette shows no counts at all if one is missing, so they are counted, up to a
    limit.
    """
    with closing(sqlite3.connect(f"file:{slot}?immutable=1", uri=True)) as db:
        names = [
            name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        return {
            name: cut.tables[name] if name in cut.tables else _count(db, name) for name in names
        }


def _count(db: sqlite3.Connection, table: str) -> int:
    sql = f"SELECT count(*) FROM (SELECT 1 FROM {quote_identifier(table)} LIMIT {COUNT_AT_MOST})"  # noqa: S608
    try:
        return int(db.execute(sql).fetchone()[0])
    except sqlite3.Error:  # a virtual table whose module is not here
        return 0
