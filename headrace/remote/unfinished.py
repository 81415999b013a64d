"""Uploads that were begun and are not done: what a command that was killed goes on with.

A row is written before the first byte is sent, with the key by which the upload counts once, and is
deleted when its end is known.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.remote.folders import state_database, state_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KEPT_S = 7 * 24 * 3600.0  # longer than any server keeps what did not arrive whole

_SCHEMA = """
CREATE TABLE IF NOT EXISTS unfinished (
    mark TEXT PRIMARY KEY,
    path TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    upload TEXT,
    begun_s REAL NOT NULL
) STRICT
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """One upload that was begun.

    Attributes:
        key: Its ``Idempotency-Key``.
        upload: Its id below ``/ingest/tus``; None: nothing was sent yet, or not by tus.
    """

    key: str
    upload: str | None


def mark_of(url: str, path: Path, size: int, mtime_ns: int, fields: Mapping[str, str]) -> str:
    """Give what tells one upload from another: another file, or other options, is another one."""
    said = [url, str(path.resolve()), size, mtime_ns, sorted(fields.items())]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


class UnfinishedUploads:
    """Those of one person on one machine; several commands may use it at once.

    Args:
        folder: Where they are kept; None: that of the person.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._path = (folder or state_folder()) / "uploads.db"
        with state_database(self._path) as database:
            database.execute(_SCHEMA)
            before_s = time.time() - KEPT_S
            database.execute("DELETE FROM unfinished WHERE begun_s < ?", (before_s,))

    def begin(self, mark: str, path: str) -> Unfinished:
        """Find an upload that was begun, or begin it."""
        readable = os.fsencode(path).decode(errors="replace")  # a name of bytes that are no UTF-8
        with state_database(self._path) as database:
            database.execute(
                "INSERT OR IGNORE INTO unfinished VALUES (?, ?, ?, NULL, ?)",
                (mark, readable, secrets.token_hex(16), time.time()),
            )
            row = database.execute(
                "SELECT idempotency_key, upload FROM unfinished WHERE mark = ?", (mark,)
            ).fetchone()
        return Unfinished(key=row[0], upload=row[1])

    def note(self, mark: str, upload: str | None) -> None:
        """Write down where an upload is; None: nowhere any more."""
        with state_database(self._path) as database:
            database.execute("UPDATE unfinished SET upload = ? WHERE mark = ?", (upload, mark))

    def end(self, mark: str) -> None:
        """Forget an upload: its end is known."""
        with state_database(self._path) as database:
            database.execute("DELETE FROM unfinished WHERE mark = ?", (mark,))
