"""``headrace ingest`` with a journal that nothing waits for: what ``benchmarks.primary`` compares.

Receipts are kept in memory, and no answer waits for their replication. Nothing of it is safe.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING
from unittest.mock import patch

from headrace.cli import main
from ingest import journal

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.succession import JournalReplica


def _open_in_memory(_path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    db.executescript(journal._SCHEMA)  # noqa: SLF001 - this stands in for the module's own
    return db


async def _replicate_nothing(_replica: JournalReplica) -> None:
    """Go on without the journal's replication."""


if __name__ == "__main__":
    with (
        patch("ingest.journal._open", _open_in_memory),
        patch("ingest.succession.JournalReplica._sync", _replicate_nothing),
    ):
        main()
