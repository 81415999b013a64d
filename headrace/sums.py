"""The checksum of a database, kept page by page in a file beside it (invariant I4).

It is the XOR over all pages of CRC-64/ISO of (page number, page), so a page is replaced by taking
its old share out and its new share in. The shares are kept, and read and written by blocks, so that
following a change costs what it touches. A page that was never written is zeros, as it is in the
file; the page that SQLite locks by has no share.

Source: superfly/ltx, ``checksum.go``; there each share has its highest bit set, here none has.
"""

from __future__ import annotations

import os
import struct
from array import array
from functools import reduce
from operator import xor
from typing import TYPE_CHECKING

from fastcrc.crc64 import go_iso as crc64

from headrace.errors import LtxError, ProofError
from headrace.ltx import lock_page, page_checksum

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from headrace.ltx import Header

_MAGIC = b"HRSUMS1\n"
_HEADER = struct.Struct("=8sIIQQ")  # magic, page size, pages, TXID, checksum: native byte order
_CHECK = struct.Struct("=Q")  # CRC-64 of the header
_HEADER_BYTES = 64
_BLOCK = 1024  # shares
_SHARE_BYTES = 8
_READ_BYTES = 4 * 1024 * 1024


class Sums:
    """The checksum of one database at one TXID.

    Attributes:
        path: The file.
        page_size: Bytes a page.
        pages: Size of the database in pages.
        txid: The transaction that it is at; 0 before the first.
        value: The checksum, 64 bits.
    """

    def __init__(self, path: Path, page_size: int) -> None:
        self.path = path
        self.page_size = page_size
        self.pages = 0
        self.txid = 0
        self.value = 0
        self._kept_pages = 0  # as many shares of the file still hold
        self._blocks: dict[int, array[int]] = {}
        self._zeros = bytes(page_size)
        self._lock_page = lock_page(page_size)

    @classmethod
    def read(cls, path: Path) -> Sums:
        """Read what was written last.

        Raises:
            ProofError: There is none, or it is damaged.
        """
        try:
            with path.open("rb") as file:
                head = file.read(_HEADER_BYTES)
                size_bytes = os.fstat(file.fileno()).st_size
            magic, page_size, pages, txid, value = _HEADER.unpack_from(head)
            (check,) = _CHECK.unpack_from(head, _HEADER.size)
        except (OSError, struct.error) as exc:
            raise ProofError(f"cannot read {path.name}: {exc}") from exc
        if magic != _MAGIC or check != crc64(head[: _HEADER.size]):
            raise ProofError(f"cannot read {path.name}: its header is damaged")
        if size_bytes != _HEADER_BYTES + pages * _SHARE_BYTES:
            raise ProofError(f"cannot read {path.name}: it has {size_bytes} bytes")
        found = cls(path, page_size)
        found.pages = found._kept_pages = pages
        found.txid, found.value = txid, value
        return found

    def load(self) -> None:
        """Read all shares at once, and prove them: whoever writes them may just be doing so.

        Raises:
            ProofError: They do not make the checksum.
            OSError: They cannot be read.
        """
        value = 0
        for index in range(-(-self.pages // _BLOCK)):
            value = reduce(xor, self._load(index), value)
        if value != self.value:
            raise ProofError(f"{self.path.name} does not hold what its header says")

    def set_page(self, number: int, page: bytes | memoryview) -> None:
        """Replace a page; one past the end makes the database larger, by zeros up to there."""
        if number > self.pages:
            self.extend(number - 1)
            self.pages = number
        index, at = divmod(number - 1, _BLOCK)
        block = self._blocks.get(index)
        if block is None:
            block = self._load(index)
        share = page_checksum(number, page)
        self.value ^= block[at] ^ share
        block[at] = share

    def share(self, number: int) -> int:
        """Give a page's share of the checksum; numbers begin at 1."""
        index, at = divmod(number - 1, _BLOCK)
        block = self._blocks.get(index)
        return (self._load(index) if block is None else block)[at]

    def extend(self, pages: int) -> None:
        """Make the database so large, by pages of zeros."""
        for number in range(self.pages + 1, pages + 1):
            if number == self._lock_page:
                self.pages = number
            else:
                self.set_page(number, self._zeros)

    def truncate(self, pages: int) -> None:
        """Drop the pages past a size."""
        for index in range(pages // _BLOCK, -(-self.pages // _BLOCK)):
            block = self._load(index) if index not in self._blocks else self._blocks[index]
            for at in range(max(0, pages - index * _BLOCK), _BLOCK):
                self.value ^= block[at]
                block[at] = 0
        self.pages = min(self.pages, pages)
        self._kept_pages = min(self._kept_pages, pages)

    def follow(self, header: Header, pages: Iterable[tuple[int, bytes]]) -> None:
        """Follow one LTX file.

        Raises:
            LtxError: It is of another page size.
        """
        if header.page_size != self.page_size:
            raise LtxError(f"find pages of {header.page_size} bytes, not {self.page_size}")
        self.truncate(header.commit)
        for number, page in pages:
            self.set_page(number, page)
        self.extend(header.commit)
        self.txid = header.max_txid

    def write(self) -> None:
        """Write what changed, then the header, and fsync.

        Raises:
            OSError: It cannot be written.
        """
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            for index, block in self._blocks.items():
                count = min(_BLOCK, self.pages - index * _BLOCK)
                if count > 0:
                    at_bytes = _HEADER_BYTES + index * _BLOCK * _SHARE_BYTES
                    _write_at(descriptor, block[:count].tobytes(), at_bytes)
            head = _HEADER.pack(_MAGIC, self.page_size, self.pages, self.txid, self.value)
            head += _CHECK.pack(crc64(head))
            _write_at(descriptor, head.ljust(_HEADER_BYTES, b"\0"), 0)
            os.ftruncate(descriptor, _HEADER_BYTES + self.pages * _SHARE_BYTES)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._kept_pages = self.pages
        self._blocks.clear()

    def _load(self, index: int) -> array[int]:
        """Read a block; what was never in the file is zeros."""
        block = array("Q")
        count = min(_BLOCK, self._kept_pages - index * _BLOCK)
        if count > 0:
            with self.path.open("rb", buffering=0) as file:
                file.seek(_HEADER_BYTES + index * _BLOCK * _SHARE_BYTES)
                block.frombytes(file.read(count * _SHARE_BYTES))
        block.frombytes(bytes((_BLOCK - len(block)) * _SHARE_BYTES))
        self._blocks[index] = block
        return block


def sums_path(slot: Path) -> Path:
    """Path of the sums of a slot."""
    return slot.with_name(f"{slot.name}.sums")


def sum_file(slot: Path, page_size: int) -> Sums:
    """Read a slot whole and give its sums, which are not written yet; their TXID is not known.

    Raises:
        ProofError: It is not made of such pages.
    """
    found = Sums(sums_path(slot), page_size)
    if slot.stat().st_size % page_size:
        raise ProofError(f"{slot.name} is not made of pages of {page_size} bytes")
    with slot.open("rb", buffering=0) as file:
        while add_pages(found, file.read(_READ_BYTES)):
            pass
    return found


def add_pages(sums: Sums, pages: bytes) -> bool:
    """Add the pages that follow in the file; False if there are none."""
    view = memoryview(pages)
    locked = lock_page(sums.page_size)
    for start in range(0, len(view), sums.page_size):
        if sums.pages + 1 == locked:
            sums.extend(locked)
        else:
            sums.set_page(sums.pages + 1, view[start : start + sums.page_size])
    return bool(pages)


def _write_at(descriptor: int, body: bytes, at_bytes: int) -> None:
    view = memoryview(body)
    while view:
        written = os.pwrite(descriptor, view, at_bytes)
        view, at_bytes = view[written:], at_bytes + written
