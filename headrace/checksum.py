"""The checksum of a database, kept page by page: a change costs what it touches (invariant I4).

It is the XOR over all pages of CRC-64/ISO of (page number, page), so a page is replaced by taking
its old share out and its new share in. The shares are kept: eight bytes a page. A page that was
never written is zeros, as it is in the file. The page that SQLite locks by has no share.

Source: superfly/ltx, ``checksum.go``; there each share has its highest bit set, here none has.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from headrace.errors import LtxError
from headrace.ltx import Header, lock_page, page_checksum

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_READ_BYTES = 4 * 1024 * 1024


class DatabaseChecksum:
    """The checksum of one database at one moment.

    Attributes:
        page_size: Bytes a page.
        lock_page: The page that has no share.
        value: The checksum, 64 bits.
    """

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size
        self.value = 0
        self._shares = array("Q")  # of page n at n - 1
        self._zeros = bytes(page_size)
        self.lock_page = lock_page(page_size)

    @property
    def pages(self) -> int:
        """Size of the database in pages."""
        return len(self._shares)

    def resize(self, pages: int) -> None:
        """Set the number of pages: those past the end are gone, new ones are zeros."""
        for _number in range(self.pages, pages, -1):
            self.value ^= self._shares.pop()
        for number in range(self.pages + 1, pages + 1):
            share = 0 if number == self.lock_page else page_checksum(number, self._zeros)
            self._shares.append(share)
            self.value ^= share

    def set_page(self, number: int, page: bytes | memoryview) -> None:
        """Replace a page, which must be within the size."""
        share = page_checksum(number, page)
        self.value ^= self._shares[number - 1] ^ share
        self._shares[number - 1] = share

    def apply(self, header: Header, pages: Iterable[tuple[int, bytes]]) -> None:
        """Follow one LTX file.

        Raises:
            LtxError: It is of another page size.
        """
        if header.page_size != self.page_size:
            raise LtxError(f"an LTX file has pages of {header.page_size}, not {self.page_size}")
        self.resize(header.commit)
        for number, page in pages:
            self.set_page(number, page)

    def copy(self) -> DatabaseChecksum:
        """Give one that can go its own way."""
        twin = DatabaseChecksum(self.page_size)
        twin.value = self.value
        twin._shares = array("Q", self._shares)
        return twin


def checksum_file(path: Path, page_size: int) -> DatabaseChecksum:
    """Read a database file whole and give its checksum; its WAL, if it has one, is not looked at.

    Raises:
        LtxError: Its size is no multiple of the page size.
    """
    found = DatabaseChecksum(page_size)
    pages = path.stat().st_size // page_size
    if path.stat().st_size != pages * page_size:
        raise LtxError(f"{path.name} is not made of pages of {page_size} bytes")
    found.resize(pages)
    batch_bytes = max(1, _READ_BYTES // page_size) * page_size
    number = 0
    with path.open("rb") as file:
        while batch := memoryview(file.read(batch_bytes)):
            for start in range(0, len(batch), page_size):
                number += 1
                if number != found.lock_page:
                    found.set_page(number, batch[start : start + page_size])
    return found
