"""The sums of a new lineage, followed while Litestream writes its first transaction (I4).

That file holds the whole database: reading it afterwards would add its time to the upload's. What
is read is Litestream's own file as it grows, with the same proof at its end, a piece at a time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from headrace.errors import LtxError
from headrace.ltx import HEADER_BYTES, TRAILER_BYTES, decode_growing, decode_header
from headrace.sums import Sums

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path
    from typing import BinaryIO


def follow_growing(written: Path, path: Path) -> Generator[Sums | None]:
    """Give the sums of the first transaction once its file is complete; None as long as it is not.

    Args:
        written: Where the file will lie. Until then it has ``.tmp`` after its name.
        path: The file of the sums.

    Raises:
        LtxError: It is damaged, or not that transaction.
        OSError: It cannot be read.

    Source: Litestream 0.5.17, ``db.go``, ``sync``.
    """
    while (file := _open(written)) is None:
        yield None
    with file:
        while len(head := os.pread(file.fileno(), HEADER_BYTES + TRAILER_BYTES, 0)) < (
            HEADER_BYTES + TRAILER_BYTES
        ):
            yield None
        header = decode_header(head)
        if header.max_txid != 1:
            raise LtxError(f"transaction 1 is {header.min_txid} to {header.max_txid}")
        sums = Sums(path, header.page_size)
        for found in decode_growing(file):
            if found is None:
                yield None
            else:
                sums.set_page(*found)
        sums.extend(header.commit)
        sums.txid = header.max_txid
        while not _is_at(file, written):
            yield None
        yield sums


def _open(written: Path) -> BinaryIO | None:
    for path in (written.with_name(f"{written.name}.tmp"), written):
        try:
            return path.open("rb", buffering=0)
        except FileNotFoundError:
            continue
    return None


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Say whether it is this file that has a name, not one that was written after it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
