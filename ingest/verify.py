"""verify: does a live database file hold what was replicated? (invariant I4).

Runs in a process of its own (``python -m ingest.verify [--at-rest] FILE…``): the files are read
past SQLite, and closing any descriptor of one drops the POSIX locks of all of SQLite's connections
in the same process.
"""

from __future__ import annotations

import json
import os
import sqlite3
import struct
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.errors import LtxError, ProofError
from headrace.keys import JOURNAL_DATABASE, PrimaryPaths, level0_beside, sums_beside
from headrace.ltx import (
    WAL_FRAME_HEADER_BYTES,
    WAL_HEADER_BYTES,
    decode_header,
    decode_pages,
    lock_page,
    page_checksum,
)
from headrace.sums import Sums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import FileIO

TRIES = 3
PAUSE_S = 0.5  # between tries
FOLLOWED_S = 2.0  # until Litestream has replicated what was read; it follows the WAL every second
POLL_S = 0.05
SNAPSHOT_TRIES = 100
BUSY_TIMEOUT_S = 30.0

# Source: sqlite.org/walformat.html, 2 and 4: the WAL's header and frame headers are big-endian, the
# index's is in the machine's order. Its header is there twice, then comes how much is in the file.
_INDEX = struct.Struct("=16xII")  # mxFrame, nPage
_INDEX_HEADER_BYTES = 48
_BACKFILLED = struct.Struct("=I")  # nBackfill
_PAGE_NUMBER = struct.Struct(">I")
_FOLLOW_PAGES = 8192  # read between two looks for new transactions


def verify_databases(root: Path) -> Iterator[tuple[Path, str | None]]:
    """Verify every live database of a primary's folder; give each with its fault, or None."""
    for database in sorted(PrimaryPaths(root).dbs.glob("*/" + "?" * 16)):
        if database.parent.name == JOURNAL_DATABASE:  # nobody reads it, so it has no checksum
            continue
        yield database, verify_database(database)


def verify_database(database: Path) -> str | None:
    """Compare a live database with what Litestream has replicated of it.

    It is read as of one moment, as a reader of SQLite's: what is committed meanwhile waits for
    nothing, and checkpoints leave alone what is read. That moment is right if it is one that
    Litestream's files lead through. Where Litestream has replicated two transactions as one, the
    moment between them is not: so a difference is looked at again after a pause.

    Args:
        database: ``dbs/<database>/<lineage>``.

    Returns:
        What differs; None if all is well.
    """
    found: str | None = None
    for number in range(TRIES):
        if number:
            time.sleep(PAUSE_S)
        try:
            found = _compare(database)
        except (LtxError, ProofError, OSError, sqlite3.Error) as exc:
            found = str(exc)
        if found is None:
            break
    return found


def _compare(database: Path) -> str | None:
    sums = Sums.read(sums_beside(database))
    sums.load()
    _follow_local(database, sums)
    if not sums.pages:
        return "nothing of it was replicated"
    replicated = {(sums.pages, sums.value)}

    def follow() -> None:
        replicated.update(_follow_local(database, sums))

    live = _sum_live(database, sums.page_size, follow)
    deadline_s = time.monotonic() + FOLLOWED_S
    while live not in replicated:
        if time.monotonic() > deadline_s:
            return (
                f"{live[0]} pages with the checksum {live[1]:016x} in the file, "
                f"{sums.pages} with {sums.value:016x} replicated"
            )
        time.sleep(POLL_S)
        follow()
    return None


def verify_at_rest(database: Path) -> str | None:
    """Compare a database file with what Litestream has replicated of it, while nothing has it open.

    Pages that are in the WAL are left out: they may not be replicated yet, or not be in the file.

    Args:
        database: ``dbs/<database>/<lineage>``.

    Returns:
        What differs; None if all is well.
    """
    try:
        replicated = Sums.read(sums_beside(database))
        _follow_local(database, replicated)
    except (LtxError, ProofError) as exc:
        return str(exc)
    page_size = replicated.page_size
    size_bytes = database.stat().st_size
    in_wal = _pages_in_wal(database, page_size)
    if not in_wal and size_bytes != replicated.pages * page_size:
        return f"{size_bytes // page_size} pages in the file, {replicated.pages} replicated"
    unknown = {*in_wal, lock_page(page_size)}
    with database.open("rb") as file:
        for number in range(1, min(size_bytes // page_size, replicated.pages) + 1):
            page = file.read(page_size)
            if number not in unknown and page_checksum(number, page) != replicated.share(number):
                return f"page {number} is not what was replicated"
    return None


def _pages_in_wal(database: Path, page_size: int) -> set[int]:
    """List the pages of all frames of the WAL, also of those that are not valid any more."""
    wal = database.with_name(f"{database.name}-wal")
    if not wal.exists():
        return set()
    frames = (wal.stat().st_size - WAL_HEADER_BYTES) // (WAL_FRAME_HEADER_BYTES + page_size)
    if frames < 1:
        return set()
    with wal.open("rb") as file:
        return {number for number, _at in _read_frames(file.fileno(), frames, page_size)}


def _follow_local(database: Path, sums: Sums) -> set[tuple[int, int]]:
    """Follow Litestream's own files from where the sums are on; nothing is written.

    Returns:
        Pages and checksum after each.
    """
    states = set()
    while (file := level0_beside(database, sums.txid + 1)).exists():
        body = file.read_bytes()
        sums.follow(decode_header(body), decode_pages(body))
        states.add((sums.pages, sums.value))
    return states


def _sum_live(database: Path, page_size: int, follow: Callable[[], None]) -> tuple[int, int]:
    """Give pages and checksum of the committed state: the file's, and the WAL's in front of them.

    Args:
        database: The file.
        page_size: Bytes a page.
        follow: Called now and then, as Litestream keeps its files for a while only.

    Raises:
        ProofError: It was written to at each look for the end of its WAL.
    """
    value = 0
    locked = lock_page(page_size)
    # Files are closed after the connection: its locks end with the first that is closed.
    with ExitStack() as files, closing(_connect(database)) as db:

        def reading(end: str) -> int:
            path = database.with_name(f"{database.name}{end}")
            opened: FileIO = files.enter_context(path.open("rb", buffering=0))
            return opened.fileno()

        db.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # makes the WAL and its index
        file, wal, index = reading(""), reading("-wal"), reading("-shm")
        frames, pages = _begin_snapshot(db, index)
        if pages == 0:  # nothing was written since the WAL was made
            pages = os.fstat(file).st_size // page_size
        in_wal = dict(_read_frames(wal, frames, page_size))
        for number in range(1, pages + 1):
            if number % _FOLLOW_PAGES == 0:
                follow()
            if number == locked:
                continue
            if number in in_wal:
                page = os.pread(wal, page_size, in_wal[number])
            else:
                page = os.pread(file, page_size, (number - 1) * page_size)
            value ^= page_checksum(number, page.ljust(page_size, b"\0"))
    return pages, value


def _connect(database: Path) -> sqlite3.Connection:
    """Open a database so that nothing of it can change; its WAL stays when that is closed."""
    uri = f"{database.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)


def _begin_snapshot(db: sqlite3.Connection, index: int) -> tuple[int, int]:
    """Begin to read as of one moment.

    Returns:
        How many frames of the WAL are needed for it, and the database's size in pages.

    Raises:
        ProofError: It was written to at each try.
    """
    for _ in range(SNAPSHOT_TRIES):
        before = os.pread(index, 2 * _INDEX_HEADER_BYTES, 0)
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        (backfilled,) = _BACKFILLED.unpack(os.pread(index, _BACKFILLED.size, len(before)))
        if os.pread(index, len(before), 0) == before:
            frames, pages = _INDEX.unpack_from(before)
            # A WAL that is in the file as a whole is not held: it may be begun anew any time. That
            # file is not written while it is read; if not all is in it, the WAL stays as it is
            # (SQLite's wal.c, walTryBeginRead).
            return (0 if backfilled == frames else frames), pages
        db.execute("ROLLBACK")
    raise ProofError(f"it was written to at each of {SNAPSHOT_TRIES} tries to read it")


def _read_frames(wal: int, frames: int, page_size: int) -> Iterator[tuple[int, int]]:
    """Give the page number of each frame of a WAL, and where its page is."""
    for frame in range(frames):
        at = WAL_HEADER_BYTES + frame * (WAL_FRAME_HEADER_BYTES + page_size)
        (number,) = _PAGE_NUMBER.unpack(os.pread(wal, _PAGE_NUMBER.size, at))
        yield number, at + WAL_FRAME_HEADER_BYTES


if __name__ == "__main__":
    at_rest = sys.argv[1] == "--at-rest"
    look = verify_at_rest if at_rest else verify_database
    for name in sys.argv[1 + at_rest :]:
        sys.stdout.write(json.dumps({"differs": look(Path(name))}) + "\n")
