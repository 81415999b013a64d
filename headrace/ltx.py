"""LTX, Litestream's transaction file, format 3: decoded, checked, and encoded. Pure.

Source: README.md of superfly/ltx: a header of 100 bytes; page frames in ascending order; an index;
a trailer of 16 bytes whose CRC-64/ISO covers the *decompressed* pages. All integers are big-endian.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import lz4.block
import lz4.frame
from fastcrc.crc64 import go_iso as crc64

from headrace.errors import LtxError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HEADER_BYTES = 100
TRAILER_BYTES = 16
_FRAME_BYTES = 6  # page number, flags
_SIZE_BYTES = 4
# Of SQLite's WAL (sqlite.org/walformat.html, 2), which an LTX file's header refers to.
WAL_HEADER_BYTES = 32
WAL_FRAME_HEADER_BYTES = 24

_HEADER = struct.Struct(">4sIIIQQQQQQIIQ")
_FRAME = struct.Struct(">IH")
_SIZED_FRAME = struct.Struct(">IHI")
_UINT32 = struct.Struct(">I")
_UINT64 = struct.Struct(">Q")

_MAGIC = b"LTX1"
_NO_CHECKSUM = 0x2  # header: no database checksums; the file's own is there all the same
_HAS_SIZE = 0x1  # frame: a compressed size follows, and an LZ4 block; else an LZ4 frame
_CHECKSUM_FLAG = 1 << 63  # set in every checksum that LTX writes down

# SQLite never uses the page that holds this byte (sqlite.org/fileformat2.html, 1.5).
_PENDING_BYTE = 0x40000000

MIN_PAGE_SIZE = 512
MAX_PAGE_SIZE = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What an LTX file says of itself.

    Attributes:
        page_size: Bytes a page: a power of two, 512 to 65536.
        commit: Pages of the database after the file is applied.
        min_txid: First transaction in it, from 1.
        max_txid: Last transaction in it.
        timestamp_ms: When it was written, milliseconds since 1970.
    """

    page_size: int
    commit: int
    min_txid: int
    max_txid: int
    timestamp_ms: int

    @property
    def is_snapshot(self) -> bool:
        """Whether it holds the whole database."""
        return self.min_txid == 1


def lock_page(page_size: int) -> int:
    """Give the number of the page that SQLite locks by, and never writes."""
    return _PENDING_BYTE // page_size + 1


def page_checksum(number: int, page: bytes | memoryview) -> int:
    """Give one page's share of a database checksum: CRC-64/ISO of its number and its bytes."""
    return crc64(page, crc64(_UINT32.pack(number)))


def decode_header(body: bytes | memoryview) -> Header:
    """Read the header.

    Raises:
        LtxError: It is none.
    """
    if len(body) < HEADER_BYTES + TRAILER_BYTES:
        raise LtxError(f"an LTX file of {len(body)} bytes is cut short")
    (magic, flags, page_size, commit, min_txid, max_txid, timestamp_ms, *_rest) = (
        _HEADER.unpack_from(body)
    )
    if magic != _MAGIC:
        raise LtxError(f"not an LTX file: it begins with {bytes(magic)!r}")
    if flags & ~_NO_CHECKSUM:
        raise LtxError(f"LTX header flags {flags:#x} are not known")
    if page_size & (page_size - 1) or not MIN_PAGE_SIZE <= page_size <= MAX_PAGE_SIZE:
        raise LtxError(f"an LTX page size of {page_size} bytes is not SQLite's")
    if not 1 <= min_txid <= max_txid:
        raise LtxError(f"LTX transactions {min_txid} to {max_txid} are no range")
    return Header(
        page_size=page_size,
        commit=commit,
        min_txid=min_txid,
        max_txid=max_txid,
        timestamp_ms=timestamp_ms,
    )


def decode_pages(body: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
    """Give every page of a file with its number, in ascending order.

    The file is proven only when the last page has been given: whoever writes pages as they come
    must not use them before this ends without an error.

    Raises:
        LtxError: The file is cut short, damaged, or is not what it says.
    """
    header = decode_header(body)
    view = memoryview(body)
    end = len(view) - TRAILER_BYTES
    crc = crc64(view[:HEADER_BYTES])
    at = HEADER_BYTES
    last = 0
    locked = lock_page(header.page_size)
    while True:
        if at + _FRAME_BYTES > end:
            raise LtxError("the page block is cut short")
        number, flags = _FRAME.unpack_from(view, at)
        if number == 0:
            break
        if not last < number <= header.commit or number == locked:
            raise LtxError(f"page {number} after {last} does not fit {header.commit} pages")
        head_bytes, at, page = _decode_frame(view, at, end, flags, header.page_size)
        crc = crc64(page, crc64(head_bytes, crc))
        yield number, page
        last = number
    _check_tail(view, at, end, crc)


def encode_file(
    pages: Iterable[tuple[int, bytes | memoryview]],
    *,
    txid: int,
    page_size: int,
    commit: int,
    wal_salts: tuple[int, int],
    wal_bytes: int,
) -> Iterator[bytes]:
    """Give, piece by piece, the file of one transaction, as Litestream writes it.

    Args:
        pages: What it changed, in ascending order. The first of a lineage has every page of the
            database but the one that SQLite locks by.
        txid: Its number.
        page_size: Bytes a page.
        commit: Pages of the database.
        wal_salts: Those of the WAL's header: Litestream goes on after this transaction if the WAL
            still has them, and else ships the whole database once more.
        wal_bytes: What of the WAL is in the pages, after its header.

    Source: superfly/ltx 0.5.2, ``encoder.go``; Litestream 0.5.17, ``db.go``, ``sync``.
    """
    timestamp_ms = time.time_ns() // 1_000_000
    sizes = (_NO_CHECKSUM, page_size, commit)
    wal = (WAL_HEADER_BYTES, wal_bytes, *wal_salts)
    head = _HEADER.pack(_MAGIC, *sizes, txid, txid, timestamp_ms, 0, *wal, 0).ljust(
        HEADER_BYTES, b"\0"
    )
    yield head
    crc = crc64(head)
    index = bytearray()
    at = HEADER_BYTES
    for number, page in pages:
        block = lz4.block.compress(page, store_size=False)
        frame = _SIZED_FRAME.pack(number, _HAS_SIZE, len(block))
        crc = crc64(page, crc64(frame, crc))
        yield frame
        yield block
        size = len(frame) + len(block)
        for value in (number, at, size):
            _append_varint(index, value)
        at += size
    index.append(0)
    tail = bytes(_FRAME_BYTES) + index + _UINT64.pack(len(index)) + _UINT64.pack(0)
    yield tail
    yield _UINT64.pack(crc64(tail, crc) | _CHECKSUM_FLAG)


def _append_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:  # noqa: PLR2004 - seven bits a byte, the lowest first
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _decode_frame(
    view: memoryview, at: int, end: int, flags: int, page_size: int
) -> tuple[memoryview, int, bytes]:
    """Give a frame's head as it is stored, where the next frame begins, and the page."""
    data_at = at + _FRAME_BYTES
    try:
        if flags == _HAS_SIZE:
            data_at += _SIZE_BYTES
            (size,) = _UINT32.unpack_from(view, at + _FRAME_BYTES)
            next_at = data_at + size
            if next_at > end:
                raise LtxError("a page is cut short")
            page = lz4.block.decompress(view[data_at:next_at], uncompressed_size=page_size)
        elif flags == 0:
            page, used = lz4.frame.decompress(view[data_at:end], return_bytes_read=True)
            next_at = data_at + used
        else:
            raise LtxError(f"LTX page flags {flags:#x} are not known")
    except (lz4.block.LZ4BlockError, RuntimeError, struct.error) as exc:
        raise LtxError(f"a page cannot be decompressed: {exc}") from exc
    if len(page) != page_size:
        raise LtxError(f"a page has {len(page)} bytes instead of {page_size}")
    return view[at:data_at], next_at, page


def _check_tail(view: memoryview, at: int, end: int, crc: int) -> None:
    """Check what follows the pages: the index's size, and the file's checksum."""
    index_at = at + _FRAME_BYTES
    if index_at + _UINT64.size > end:
        raise LtxError("the page index is cut short")
    (index_bytes,) = _UINT64.unpack_from(view, end - _UINT64.size)
    if index_at + index_bytes + _UINT64.size != end:
        raise LtxError("the page index is not where it should be")
    # The zero frame, the index with its size, and the database's checksum after it.
    crc = crc64(view[at : end + _UINT64.size], crc)
    (stored,) = _UINT64.unpack_from(view, end + _UINT64.size)
    if stored != crc | _CHECKSUM_FLAG:
        raise LtxError(f"the checksum is {crc | _CHECKSUM_FLAG:016x}, the file says {stored:016x}")
