"""What `headrace watch` has pushed: so that it pushes only what is new when it starts again."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.errors import HeadraceError
from headrace.remote.folders import state_database, state_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS pushed (
    watch TEXT NOT NULL,
    path TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    database TEXT NOT NULL,
    tables TEXT NOT NULL,
    PRIMARY KEY (watch, path)
) STRICT, WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """One file as it was when it was pushed.

    Attributes:
        size: Bytes.
        mtime_ns: When it had been changed last.
        sha256: Of its bytes.
        database: Where it went.
        tables: Those that it made.
    """

    size: int
    mtime_ns: int
    sha256: str
    database: str
    tables: tuple[str, ...]


def watch_of(url: str, folder: Path, fields: Mapping[str, str]) -> str:
    """Give what tells one watch from another: other options push all files anew."""
    said = [url, str(folder.resolve()), sorted(fields.items())]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


class Remembered:
    """The files of one watch, by their paths in its folder.

    Args:
        watch: Which.
        folder: Where it is kept; None: that of the person.
    """

    def __init__(self, watch: str, folder: Path | None = None) -> None:
        self._watch = watch
        self._folder = folder or state_folder()
        self._path = self._folder / "watch.db"
        with state_database(self._path) as database:
            database.execute(_SCHEMA)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second command from the same watch while the block runs.

        Raises:
            HeadraceError: There is one.
        """
        path = self._folder / f"watch-{self._watch[:16]}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as exc:
            raise HeadraceError("another `headrace watch` does this already") from exc
        finally:
            os.close(descriptor)

    def read(self) -> dict[str, Pushed]:
        """Read all of them."""
        query = "SELECT path, size, mtime_ns, sha256, database, tables FROM pushed WHERE watch = ?"
        with state_database(self._path) as database:
            rows = database.execute(query, (self._watch,)).fetchall()
        return {
            path: Pushed(
                size=size,
                mtime_ns=mtime_ns,
                sha256=sha256,
                database=name,
                tables=tuple(json.loads(tables)),
            )
            for path, size, mtime_ns, sha256, name, tables in rows
        }

    def note(self, path: str, pushed: Pushed) -> None:
        """Write down that a file was pushed."""
        row = (
            *(self._watch, path, pushed.size, pushed.mtime_ns, pushed.sha256, pushed.database),
            json.dumps(pushed.tables),
        )
        with state_database(self._path) as database:
            database.execute("INSERT OR REPLACE INTO pushed VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def forget(self, path: str) -> None:
        """Forget a file."""
        with state_database(self._path) as database:
            database.execute("DELETE FROM pushed WHERE watch = ? AND path = ?", (self._watch, path))
