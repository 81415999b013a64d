"""The first state of a new lineage, with its transactions as Litestream would have written them.

Litestream takes 1.5 s of CPU time for the first transaction of 100 MB, a third of that is needed
here, and the checksum comes with it. Litestream goes on from there: it finds the last transaction
where it keeps its own, and a WAL that still begins as that transaction says.

Litestream reads its last transaction whole when it opens a database, before it answers anything: a
second for 100 MB. So a second one follows, of the page that is in the WAL, which changes nothing.
"""

from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

from headrace.durable import fsync_folder
from headrace.errors import LitestreamError
from headrace.keys import level0_beside, sums_beside
from headrace.ltx import WAL_FRAME_HEADER_BYTES, WAL_HEADER_BYTES, encode_file, lock_page
from headrace.sums import Sums
from ingest.merge.database import connect, record, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Source: Litestream 0.5.17, db.go, init: it makes them where they are missing, in a transaction.
_LITESTREAM_TABLES = (
    "CREATE TABLE IF NOT EXISTS _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)",
    "CREATE TABLE IF NOT EXISTS _litestream_lock (id INTEGER)",
)
_COUNT = "INSERT INTO _litestream_seq VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET seq = seq + 1"
FIRST_TXIDS = (1, 2)  # of a new lineage
# Source: sqlite.org/walformat.html, 2.
_SALTS = struct.Struct(">16xII")
_PAGE_NUMBER = struct.Struct(">I")
_READ_BYTES = 1024 * 1024
_WRITE_BYTES = 1024 * 1024


def adopt(staging: Path, target: Path, receipt_id: str | None) -> None:
    """Make a staging database the first state of a new lineage; durable on return.

    The receipt's id is noted in it; None: what was noted in it before still holds.

    The file is moved, not copied. Beside it come its WAL, its transactions and its sums;
    the database is the last to get its name, since Litestream looks for that.

    Raises:
        Refusal: ``disk-full``.
        LitestreamError: The file cannot be had complete.
    """
    made = staging.with_name(f"{staging.name}.made") / target.name
    transactions = level0_beside(made, 1).parent
    transactions.mkdir(parents=True)
    wal = _wal_of(staging)
    with closing(connect(staging)) as db, ThreadPoolExecutor(1) as executor:
        db.execute("PRAGMA synchronous = OFF")  # nothing has its name yet
        db.execute("PRAGMA journal_mode = WAL")
        with transaction(db):
            if receipt_id is not None:
                record(db, receipt_id)
            for statement in _LITESTREAM_TABLES:
                db.execute(statement)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        # Once a second Litestream looks where it is in the WAL. After the first frame it sees that
        # at once; later, it decodes the last transaction to find the page there (db.go, verify).
        db.execute(_COUNT)
        # After that all is in the file, and the WAL stays as it is.
        busy, in_wal, in_file = db.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
        if busy or in_wal != in_file:
            raise LitestreamError(f"{in_wal - in_file} pages of a new database stayed in its WAL")
        (page_size,) = db.execute("PRAGMA page_size").fetchone()
        syncing = [executor.submit(fsync_folder, each) for each in (staging, wal)]
        _write_transactions(staging, page_size, wal, made)
        for each in syncing:
            each.result()
        # Of a file that was moved, SQLite leaves the WAL alone (pager.c, databaseIsUnmoved).
        wal.rename(_wal_of(made))
        staging.rename(made)
    staging.with_name(f"{staging.name}-shm").unlink(missing_ok=True)
    for folder in (transactions, transactions.parent, transactions.parents[1], made.parent):
        fsync_folder(folder)
    _move(made, target)


def _write_transactions(staging: Path, page_size: int, wal: Path, made: Path) -> None:
    """Write the transactions and the sums of a file that nothing is missing from."""
    frames = wal.read_bytes()
    sums = Sums(sums_beside(made), page_size)
    pages: dict[int, Iterator[tuple[int, bytes | memoryview]]]
    pages = {1: _read_pages(staging, sums), 2: _read_again(staging, page_size, frames)}
    for txid in FIRST_TXIDS:
        pieces = encode_file(
            pages[txid],
            txid=txid,
            page_size=page_size,
            commit=staging.stat().st_size // page_size,
            wal_salts=_SALTS.unpack_from(frames),
            wal_bytes=len(frames) - WAL_HEADER_BYTES,
        )
        written = level0_beside(made, txid)
        with written.open("xb", buffering=_WRITE_BYTES) as file:
            file.writelines(pieces)
        fsync_folder(written)
    sums.txid = FIRST_TXIDS[-1]
    sums.write()


def _read_pages(path: Path, sums: Sums) -> Iterator[tuple[int, memoryview]]:
    """Give every page but the one that SQLite locks by, and add it to the sums."""
    locked = lock_page(sums.page_size)
    with path.open("rb", buffering=0) as file:
        while block := memoryview(file.read(_READ_BYTES)):
            for start in range(0, len(block), sums.page_size):
                number = sums.pages + 1
                if number == locked:
                    sums.extend(number)
                    continue
                page = block[start : start + sums.page_size]
                sums.set_page(number, page)
                yield number, page


def _read_again(path: Path, page_size: int, wal: bytes) -> Iterator[tuple[int, bytes]]:
    """Give the pages that are in the WAL, as they are in the file too."""
    frames = range(WAL_HEADER_BYTES, len(wal), WAL_FRAME_HEADER_BYTES + page_size)
    with path.open("rb", buffering=0) as file:
        for (number,) in sorted({_PAGE_NUMBER.unpack_from(wal, at) for at in frames}):
            file.seek((number - 1) * page_size)
            yield number, file.read(page_size)


def _move(made: Path, target: Path) -> None:
    """Give a lineage its place; the first of a database brings the folder with it.

    Litestream looks into a new folder at once, and at a new file 0.25 s later (0.5.17,
    ``directory_watcher.go``).
    """
    if target.parent.exists():
        meta = level0_beside(made, 1).parents[2]
        for each in (meta, sums_beside(made), _wal_of(made), made):
            each.rename(target.with_name(each.name))
        made.parent.rmdir()
    else:
        target.parent.parent.mkdir(parents=True, exist_ok=True)
        made.parent.rename(target.parent)
    fsync_folder(target.parent)
    fsync_folder(target.parent.parent)


def _wal_of(database: Path) -> Path:
    return database.with_name(f"{database.name}-wal")
