"""verify: does a live database file hold what was replicated? (invariant I4).

Runs in a process of its own (``python -m ingest.verify [--at-rest] FILE…``): the files are read
past SQLite, and closing any descriptor of one would drop the POSIX locks of SQLite's connections in
the same process.
"""

from __future__ import annotations

import json
import mmap
import sqlite3
import struct
import sys
import time
from contextlib import closing
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
    from collections.abc import Iterator

TRIES = 5
PAUSE_S = 1.5  # between tries; Litestream follows the WAL every second
BUSY_TIMEOUT_S = 30.0

# Source: sqlite.org/walformat.html, 2 and 4: the WAL's header and frame headers are big-endian, the
# index's is in the machine's order.
_INDEX = struct.Struct("=16xII")  # mxFrame, nPage
_PAGE_NUMBER = struct.Struct(">I")


def verify_databases(root: Path) -> Iterator[tuple[Path, str | None]]:
    """Verify every live database of a primary's folder; give each with its fault, or None."""
    for database in sorted(PrimaryPaths(root).dbs.glob("*/" + "?" * 16)):
        if database.parent.name == JOURNAL_DATABASE:  # nobody reads it, so it has no checksum
            continue
        yield database, verify_database(database)


def verify_database(database: Path) -> str | None:
    """Compare a live database with what Litestream has replicated of it.

    Its write lock is held meanwhile, so nothing is committed. What Litestream has not followed yet
    looks like a difference: so a difference is looked at again after a moment.

    Args:
        database: ``dbs/<database>/<lineage>``.

    Returns:
        What differs; None if all is well.
    """
    found = ""
    for number in range(TRIES):
        if number:
            time.sleep(PAUSE_S)
        try:
            with closing(sqlite3.connect(database, timeout=BUSY_TIMEOUT_S)) as db:
                db.isolation_level = None
                db.execute("BEGIN IMMEDIATE")
                replicated = _follow_local(database)
                if not replicated.pages:
                    return "nothing of it was replicated"
                live = _sum_live(database, replicated.page_size)
                db.execute("ROLLBACK")
        except (LtxError, ProofError, sqlite3.Error) as exc:
            found = str(exc)
            continue
        if (live.pages, live.value) == (replicated.pages, replicated.value):
            return None
        found = (
            f"{live.pages} pages with the checksum {live.value:016x} in the file, "
            f"{replicated.pages} with {replicated.value:016x} replicated"
        )
    return found


def verify_at_rest(database: Path) -> str | None:
    """Compare a database file with what Litestream has replicated of it, while nothing has it open.

    Pages that are in the WAL are left out: they may not be replicated yet, or not be in the file.

    Args:
        database: ``dbs/<database>/<lineage>``.

    Returns:
        What differs; None if all is well.
    """
    try:
        replicated = _follow_local(database)
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
        return {number for number, _page in _read_frames(file.fileno(), frames, page_size)}


def _follow_local(database: Path) -> Sums:
    """Follow Litestream's own files from the last published checksum on; nothing is written."""
    sums = Sums.read(sums_beside(database))
    while (file := level0_beside(database, sums.txid + 1)).exists():
        body = file.read_bytes()
        sums.follow(decode_header(body), decode_pages(body))
    return sums


def _sum_live(database: Path, page_size: int) -> Sums:
    """Sum up the committed state: the file's pages, and those of the WAL in front of them."""
    sums = Sums(database, page_size)
    wal, pages = _read_wal_index(database, page_size)
    with database.open("rb") as file:
        for number in range(1, pages + 1):
            if number == lock_page(page_size):
                sums.extend(number)
                continue
            if number in wal:
                page = wal[number]
            else:
                file.seek((number - 1) * page_size)
                page = file.read(page_size).ljust(page_size, b"\0")
            sums.set_page(number, page)
    return sums


def _read_wal_index(database: Path, page_size: int) -> tuple[dict[int, bytes], int]:
    """Give the newest committed pages that are in the WAL, and the database's size in pages."""
    frames, pages = 0, 0
    index = database.with_name(f"{database.name}-shm")
    if index.exists():
        frames, pages = _INDEX.unpack_from(index.read_bytes())
    if frames == 0:
        return {}, database.stat().st_size // page_size
    with database.with_name(f"{database.name}-wal").open("rb") as file:
        return dict(_read_frames(file.fileno(), frames, page_size)), pages


def _read_frames(descriptor: int, frames: int, page_size: int) -> Iterator[tuple[int, bytes]]:
    with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as wal:
        for frame in range(frames):
            at = WAL_HEADER_BYTES + frame * (WAL_FRAME_HEADER_BYTES + page_size)
            (number,) = _PAGE_NUMBER.unpack_from(wal, at)
            yield number, wal[at + WAL_FRAME_HEADER_BYTES : at + WAL_FRAME_HEADER_BYTES + page_size]


if __name__ == "__main__":
    at_rest = sys.argv[1] == "--at-rest"
    look = verify_at_rest if at_rest else verify_database
    for name in sys.argv[1 + at_rest :]:
        sys.stdout.write(json.dumps({"differs": look(Path(name))}) + "\n")
