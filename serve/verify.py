"""The proof that a copy is what the generation says."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import quote

from headrace.errors import ProofError

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.generation import Cut


async def verify_copy(path: Path, cut: Cut, checksum: int | None = None) -> None:
    """Check a copy that nobody serves yet.

    Args:
        path: The copy.
        cut: What the generation says of it.
        checksum: The copy's own. If the generation knows one, the two must be equal; if not, SQLite
            is asked whether the copy is sound, which reads it whole.

    Raises:
        ProofError: It is not what the generation says.
    """
    await asyncio.to_thread(_verify_copy, path, cut, checksum)


def _verify_copy(path: Path, cut: Cut, checksum: int | None) -> None:
    size_bytes = path.stat().st_size
    if size_bytes != cut.pages * cut.page_size:
        raise ProofError(
            f"find {size_bytes} bytes in the copy, not {cut.pages} pages of {cut.page_size}"
        )
    proven = cut.checksum is not None and checksum is not None
    if proven and cut.checksum != checksum:
        raise ProofError(f"find checksum {checksum:016x} of the copy, not {cut.checksum:016x}")
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?immutable=1", uri=True)) as db:
            _verify_pages(db, cut)
            if not proven:
                _verify_soundness(db)
            _verify_tables(db, cut)
    except sqlite3.Error as exc:
        raise ProofError(f"cannot read the copy: {exc}") from exc


def _verify_pages(db: sqlite3.Connection, cut: Cut) -> None:
    page_size, pages = _one(db, "PRAGMA page_size"), _one(db, "PRAGMA page_count")
    if (page_size, pages) != (cut.page_size, cut.pages):
        raise ProofError(
            f"find {pages} pages of {page_size} in the copy, not {cut.pages} of {cut.page_size}"
        )


def _verify_soundness(db: sqlite3.Connection) -> None:
    fault = _one(db, "PRAGMA quick_check(1)")
    if fault != "ok":
        raise ProofError(f"find the copy broken: {fault}")


def _verify_tables(db: sqlite3.Connection, cut: Cut) -> None:
    found = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    missing = sorted(set(cut.tables) - found)
    if missing:
        raise ProofError(f"find no table {missing[0]!r} in the copy")


def _one(db: sqlite3.Connection, sql: str) -> int | str:
    value: int | str = db.execute(sql).fetchone()[0]
    return value
