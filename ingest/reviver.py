"""Makes a database of a cut, and a new lineage of that, in a process of its own.

``python -m ingest.reviver`` takes requests as lines of JSON, one after the other, and answers each
with a line: why it failed, or null, and what it asked of the store. A core is busy all the while,
and the primary has uploads to take.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.errors import HeadraceError
from headrace.generation import Cut
from headrace.history import restore_by_pages
from headrace.logs import configure_logs
from headrace.privacy import forbid_inspection
from headrace.store import Store
from headrace.store_counts import StoreCounts
from ingest.merge import adopt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def restore_request(store: Store, database: str, cut: Cut, output: Path) -> dict[str, Any]:
    """Ask for the file of a cut, proven but not fsynced."""
    return {
        "do": "restore",
        "store": store.whole_url,
        "database": database,
        "cut": cut.encode(),
        "output": str(output),
    }


def adopt_request(restored: Path, target: Path) -> dict[str, Any]:
    """Ask for a lineage that begins with a file, which is moved there."""
    return {"do": "adopt", "restored": str(restored), "target": str(target)}


def answer(requests: Iterable[str]) -> Iterator[str]:
    """Do what is asked for, and give the answers."""
    for request in requests:
        failure: str | None = None
        asked = StoreCounts()
        try:
            _do(json.loads(request), asked)
        except (HeadraceError, OSError, sqlite3.Error) as exc:
            failure = str(exc)
        yield json.dumps({"failure": failure, "asked": asked.encode()}) + "\n"


def _do(request: dict[str, Any], asked: StoreCounts) -> None:
    if request["do"] == "restore":
        store, cut = Store(request["store"], asked), Cut.decode(request["cut"])
        asyncio.run(restore_by_pages(store, request["database"], cut, Path(request["output"])))
    else:
        restored = Path(request["restored"]).resolve(strict=True)  # SQLite would make an empty one
        # What its last upload was is noted in it already.
        adopt(restored, Path(request["target"]), None)


if __name__ == "__main__":
    configure_logs("ingest")
    forbid_inspection()  # the store's credentials are in its environment
    for line in answer(sys.stdin):
        sys.stdout.write(line)
        sys.stdout.flush()
