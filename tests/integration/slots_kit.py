"""What the tests of slots stand on: litestream's own restore as the oracle, and random changes."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import sqlite3
import subprocess
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headrace.generation import Cut, State, format_txid
from headrace.keys import (
    PrimaryPaths,
    ReaderPaths,
    level0_beside,
    lineage_key,
    ltx_key,
)
from headrace.litestream_binary import find_litestream, litestream_environment
from headrace.sockets import socket_folder
from headrace.stopping import Stop
from headrace.store import Store
from headrace.sums import sum_file
from ingest.merge import FIRST_TXIDS
from ingest.metrics import IngestMetrics
from ingest.replicate import Litestream
from serve.metrics import ReaderMetrics
from serve.restore import Restorer

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable

    from tests.integration.reader_kit import Publisher

PROJECT = Path(__file__).parents[2]

ROWS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 500) "
    "INSERT INTO orders (item) SELECT hex(randomblob(40)) FROM n"
)


class LivePublisher:
    """A primary's half: databases that a running litestream replicates transaction by transaction.

    Args:
        root: Where everything lies; the store is at ``store``, as the reader's kit has it.
        replicator: The running litestream.
    """

    def __init__(
        self, root: Path, paths: PrimaryPaths, store: Store, replicator: Litestream
    ) -> None:
        self.root = root
        self.store = store
        self._paths = paths
        self._replicator = replicator
        self._lineages: dict[str, str] = {}

    async def write(
        self, database: str, *statements: str, page_size: int = 4096, auto_vacuum: bool = False
    ) -> Cut:
        """Change a database in one transaction and replicate it; give its cut."""
        lineage = self._lineages.setdefault(database, secrets.token_hex(8))
        path = self.path(database)
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute(f"PRAGMA page_size = {page_size}")
            db.execute(f"PRAGMA auto_vacuum = {int(auto_vacuum)}")
            db.execute("PRAGMA journal_mode = wal")
            db.execute("BEGIN IMMEDIATE")
            for statement in statements:
                db.execute(statement)
            db.execute("COMMIT")
            txid = await self._replicator.sync(database, lineage)
            return self._cut(db, lineage, txid)

    async def vacuum(self, database: str) -> Cut:
        """Begin a lineage that is a vacuumed copy of the last, as the primary does."""
        old = self.path(database)
        with closing(sqlite3.connect(old)) as db:
            db.execute("VACUUM INTO ?", [str(self.root / "fresh.tmp")])
        return await self.adopt(database)

    async def adopt(
        self, database: str, fill: Callable[[sqlite3.Connection], None] = lambda _db: None
    ) -> Cut:
        """Begin a lineage with a file that was made elsewhere: filled here, or by a vacuum."""
        self._lineages[database] = secrets.token_hex(8)
        fresh, path = self.root / "fresh.tmp", self.path(database)
        with closing(sqlite3.connect(fresh)) as db:
            fill(db)
        with closing(sqlite3.connect(fresh)) as db:
            db.execute("PRAGMA journal_mode = wal")
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.rename(path)
        return await self.cut(database)

    def begin(self, database: str) -> Path:
        """Begin a lineage; give the path that its file is to have."""
        self._lineages[database] = secrets.token_hex(8)
        return self.path(database)

    async def ship(self, database: str) -> None:
        """Put what a lineage began with into object storage, as the primary does."""
        path = self.path(database)
        for txid in FIRST_TXIDS:
            key = ltx_key(database, path.name, 0, txid, txid, s3=self.store.is_s3)
            await self.store.upload(key, level0_beside(path, txid))

    def take_over(self, other: LivePublisher) -> None:
        """Go on with the lineages of a publisher that was stopped."""
        self._lineages = other._lineages

    async def cut(self, database: str) -> Cut:
        """Replicate a database; give its cut."""
        lineage = self._lineages[database]
        with closing(sqlite3.connect(self.path(database))) as db:
            db.execute("SELECT * FROM sqlite_master").fetchall()
            return self._cut(db, lineage, await self._replicator.sync(database, lineage))

    def path(self, database: str) -> Path:
        """Path of the live file."""
        return self._paths.database(database, self._lineages[database])

    def _cut(self, db: sqlite3.Connection, lineage: str, txid: int) -> Cut:
        names = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return Cut(
            lineage=lineage,
            txid=txid,
            page_size=db.execute("PRAGMA page_size").fetchone()[0],
            pages=db.execute("PRAGMA page_count").fetchone()[0],
            tables={
                name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for (name,) in names
            },
            updated_at=datetime(2026, 11, 22, 1, 33, 39, tzinfo=UTC),
            source=None,
        )


@asynccontextmanager
async def replicating(
    root: Path,
    *,
    levels: tuple[str, ...] = (),
    store_url: str | None = None,
    edit: Callable[[str], str] = str,
) -> AsyncIterator[LivePublisher]:
    """Run the real litestream, as the primary configures it, while the block runs.

    Args:
        root: Where everything lies.
        levels: Intervals of its compaction, if they are to be others.
        store_url: The store, if it is not a folder in ``root``.
        edit: Changes the configuration.
    """
    store = Store(store_url or str(root / "store"))
    paths = PrimaryPaths(root / "live")
    paths.dbs.mkdir(parents=True, exist_ok=True)
    config = root / "litestream.yml"
    text = edit((PROJECT / "litestream.yml").read_text())
    if levels:
        lines = "".join(f"  - interval: {interval}\n" for interval in levels)
        text, count = re.subn(r"(?<=\nlevels:\n)(  - .*\n)+", lines, text)
        assert count == 1
    config.write_text(text)
    folder = socket_folder(root)
    replicator = Litestream(
        config=config,
        paths=paths,
        store=store,
        socket_path=folder / "litestream.sock",
        metrics=IngestMetrics(),
        stop=Stop(60),
    )
    running = asyncio.create_task(replicator.run())
    try:
        async with asyncio.timeout(30):
            await replicator.up.wait()
        yield LivePublisher(root, paths, store, replicator)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        shutil.rmtree(folder)


@pytest.fixture(name="publisher")
async def live_publisher(tmp_path: Path) -> AsyncIterator[LivePublisher]:
    """Give a publisher with a running litestream, that compacts nothing while a test looks."""
    async with replicating(tmp_path, levels=("24h",)) as live:
        yield live


async def write(publisher: LivePublisher, *statements: str, page_size: int = 4096) -> Cut:
    """Change sales, and give its proven cut."""
    cut = await publisher.write("sales", *statements, page_size=page_size)
    return with_checksum(publisher, "sales", cut)


def litestream_restore(store: Store, database: str, cut: Cut, output: Path) -> Path:
    """Restore a cut by the real litestream."""
    output.unlink(missing_ok=True)
    url = store.litestream_url(lineage_key(database, cut.lineage))
    subprocess.run(
        [find_litestream(), "restore", "-txid", format_txid(cut.txid), "-o", output, url],
        env=litestream_environment(),
        check=True,
        capture_output=True,
    )
    return output


def with_checksum(publisher: Publisher | LivePublisher, database: str, cut: Cut) -> Cut:
    """Give a cut with the checksum of what litestream restores."""
    copy = litestream_restore(publisher.store, database, cut, publisher.root / "oracle.db")
    return replace(cut, checksum=sum_file(copy, cut.page_size).value)


def make_restorer(publisher: Publisher | LivePublisher, retry_for_s: float = 30.0) -> Restorer:
    """Give a restorer of a reader of its own."""
    paths = ReaderPaths(publisher.root / "reader")
    return Restorer(paths, publisher.store, ReaderMetrics("test"), retry_for_s=retry_for_s)


async def restore(restorer: Restorer, cut: Cut, *, superseded: asyncio.Event | None = None) -> Path:
    """Restore one database, called sales."""
    state = State(number=1, databases={"sales": cut})
    slots = await restorer.restore(state, superseded=superseded or asyncio.Event())
    return slots["sales"]


async def serve(restorer: Restorer, cut: Cut) -> Path:
    """Restore one database, and serve it as the only one."""
    slot = await restore(restorer, cut)
    await restorer.prune([slot])
    return slot


def ltx_files(
    publisher: Publisher | LivePublisher, database: str, cut: Cut, level: int = 0
) -> list[Path]:
    """List the LTX files of one level, oldest first."""
    assert publisher.store.folder
    folder = publisher.store.folder / lineage_key(database, cut.lineage) / "ltx" / str(level)
    return sorted(folder.glob("*.ltx"))


def cut_short(body: bytes) -> bytes:
    """Lose the last half."""
    return body[: len(body) // 2]


def cut_to_nothing(_body: bytes) -> bytes:
    """Lose all."""
    return b""


def flip(body: bytes, at: int, bit: int = 0) -> bytes:
    """Change one bit of the byte at a place, or at one from the end."""
    at %= len(body)
    return body[:at] + bytes([body[at] ^ 1 << bit]) + body[at + 1 :]


def counted(restorer: Restorer, name: str) -> float:
    """Read a counter."""
    value = restorer._metrics.registry.get_sample_value(f"headrace_reader_{name}_total")  # noqa: SLF001
    assert value is not None
    return value


def random_changes(rng: random.Random, tables: list[str]) -> list[str]:
    """Give the statements of one random change, and keep track of the tables."""
    statements: list[str] = []
    for _ in range(rng.randint(1, 4)):
        action = rng.choice(["create", "insert", "insert", "blob", "delete", "update", "drop"])
        if action == "create" or not tables:
            tables.append(f"t{rng.randrange(10**9)}")
            statements.append(f"CREATE TABLE {tables[-1]} (id INTEGER PRIMARY KEY, body)")
            continue
        table = rng.choice(tables)
        if action == "drop":
            tables.remove(table)
            statements.append(f"DROP TABLE {table}")
        elif action == "delete":
            statements.append(f"DELETE FROM {table} WHERE id % {rng.randint(1, 3)} = 0")
        elif action == "update":
            statements.append(f"UPDATE {table} SET body = hex(randomblob(20)) WHERE id % 5 = 1")
        elif action == "blob":
            size = rng.randint(1, 300_000)
            statements.append(f"INSERT INTO {table} (body) VALUES (randomblob({size}))")
        else:
            statements.append(
                f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT "
                f"{rng.randint(1, 800)}) INSERT INTO {table} (body) SELECT hex(randomblob(i % 99)) "
                "FROM n"
            )
    return statements
