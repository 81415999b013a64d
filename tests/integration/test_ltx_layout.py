"""Litestream's layout of a replica is the one that keys are built for, in each kind of store."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING

from aiohttp import web

from headrace.keys import lineage_key, ltx_key
from headrace.litestream_binary import find_litestream, litestream_environment
from headrace.store import Store
from headrace.web import listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest

LINEAGE = "0123456789abcdef"
NOTHING = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"


@asynccontextmanager
async def bucket() -> AsyncIterator[tuple[str, list[str]]]:
    """Run an S3 bucket that forgets everything; gives its store's URL, and the paths written."""
    written: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        if request.method == "PUT":
            written.append(request.path)
            return web.Response(headers={"ETag": '"tag"'})
        return web.Response(text=NOTHING, content_type="application/xml")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with listening(app, "127.0.0.1", 0) as port:
        endpoint = f"endpoint=http://127.0.0.1:{port}&force-path-style=true&region=us-east-1"
        yield f"s3://bucket/prefix?{endpoint}", written


async def test_key_of_a_transaction_is_the_one_that_litestream_writes_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers ask for a transaction by its name, without a listing: so the name must be right."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with closing(sqlite3.connect(tmp_path / LINEAGE)) as db:
        db.execute("PRAGMA journal_mode = wal")
        db.execute("CREATE TABLE t (x)")
    folder = Store(str(tmp_path / "store"))
    url = folder.litestream_url(lineage_key("sales", LINEAGE))
    await asyncio.to_thread(_replicate, tmp_path / LINEAGE, url)
    key = ltx_key("sales", LINEAGE, 0, 1, 1, levels=folder.ltx_levels)
    assert (tmp_path / "store" / key).exists()

    (tmp_path / LINEAGE).rename(tmp_path / "again")
    async with bucket() as (s3_url, written):
        s3 = Store(s3_url)
        url = s3.litestream_url(lineage_key("sales", LINEAGE))
        await asyncio.to_thread(_replicate, tmp_path / "again", url)
    key = ltx_key("sales", LINEAGE, 0, 1, 1, levels=s3.ltx_levels)
    assert written == [f"/bucket/prefix/{key}"]


def _replicate(database: Path, url: str) -> None:
    subprocess.run(
        [find_litestream(), "replicate", "-once", "-log-level", "error", database, url],
        env=litestream_environment(),
        check=True,
        capture_output=True,
        timeout=60,
    )
