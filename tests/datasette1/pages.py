"""Runs in a process that has Datasette 1.0: writes down the pages that our plugin makes in it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from datasette.app import Datasette
from datasette.plugins import pm
from datasette.version import __version__

from headrace.generation import Cut, Source
from serve import status_page
from serve.page_header import PAGE_HEADER
from serve.provenance import Provenance

AT = datetime(2026, 11, 27, 12, tzinfo=UTC)
PATHS = ("/", "/sales", "/sales/orders", "/secret", "/none")


def make_database(path: Path) -> Path:
    """Make a database with an empty table."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    return path


def make_cut(name: str) -> Cut:
    """Make a cut that came in generation 7."""
    return Cut(
        lineage="aa" * 8,
        txid=1,
        page_size=4096,
        pages=2,
        tables={"orders": 0},
        updated_at=AT,
        source=Source(filename=f"{name}.csv", sha256="00" * 32),
        generation=7,
    )


async def read_pages(folder: Path, said: str) -> dict[str, str]:
    """Give pages by their paths."""
    names = ("sales", "secret")
    files = [str(make_database(folder / f"{name}.db")) for name in names]
    datasette = Datasette(files, config={"databases": {"secret": {"allow": {"id": "root"}}}})
    datasette.provenance = Provenance(
        read_in="Frankfurt",
        generation=9,
        published_at=AT,
        cuts={name: make_cut(name) for name in names},
    )
    await datasette.invoke_startup()
    pages = {path: (await datasette.client.get(path)).text for path in PATHS}
    answer = await datasette.client.post(
        status_page.STATUS,
        content=said,
        headers={PAGE_HEADER: "1", "Content-Type": "application/json"},
    )
    script = f"{status_page.ASSETS.url(datasette)}/ago.js"
    return {
        **pages,
        status_page.STATUS: answer.text,
        "script": (await datasette.client.get(script)).text,
        "version": __version__,
    }


def main() -> None:
    """Write the pages as JSON."""
    folder = Path(sys.argv[1])
    pm.register(status_page, status_page.__name__)
    pages = asyncio.run(read_pages(folder, sys.stdin.read()))
    (folder / "pages.json").write_text(json.dumps(pages))


if __name__ == "__main__":
    main()
