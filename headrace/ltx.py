"""LTX, Litestream's transaction file, format 3: decoded, checked, nothing written. Pure.

Source: README.md of superfly/ltx: a header of 100 bytes; page frames in ascending order; an index;
a trailer of 16 bytes whose CRC-64/ISO covers the *decompressed* pages. All integers are big-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import lz4.block
import lz4.frame
from fastcrc.crc64 import go_iso as crc64

from headrace.errors import LtxError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

HEADER_BYTES = 100
TRAILER_BYTES = 16
_FRAME_BYTES = 6  # page number, flags
_SIZE_BYTES = 4
_LEAST_BYTES = _FRAME_BYTES + _SIZE_BYTES + TRAILER_BYTES  # of a frame's head and what follows
_READ_BYTES = 1024 * 1024

_HEADER = struct.Struct(">4sIIIQQQQQQIIQ")
_FRAME = struct.Struct(">IH")
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


def decode_growing(file: BinaryIO) -> Generator[tuple[int, bytes] | None]:
    """Give the pages of a file that may still be written; None where there are no more of it yet.

    It holds no more than a piece of the file. Whoever knows that the file is complete, and is given
    None after that, has one that is cut short. The file is proven only when this ends by itself.

    Raises:
        LtxError: The file is damaged, or its pages are in a form that Litestream 0.5.17 never
            writes: ``decode_pages`` may read it.
    """
    body = yield from _grow(file, b"", HEADER_BYTES + TRAILER_BYTES)
    header = decode_header(body)
    crc = crc64(body[:HEADER_BYTES])
    at = HEADER_BYTES
    last = 0
    locked = lock_page(header.page_size)
    while True:
        if len(body) - at < _LEAST_BYTES:
            body, at = (yield from _grow(file, body[at:], _LEAST_BYTES)), 0
        number, flags = _FRAME.unpack_from(body, at)
        if number == 0:
            break
        if not last < number <= header.commit or number == locked or flags != _HAS_SIZE:
            raise LtxError(f"page {number} after {last} does not fit {header.commit} pages")
        (size,) = _UINT32.unpack_from(body, at + _FRAME_BYTES)
        if len(body) - at < _LEAST_BYTES + size:
            body, at = (yield from _grow(file, body[at:], _LEAST_BYTES + size)), 0
        view = memoryview(body)
        head_bytes, at, page = _decode_frame(view, at, len(view), flags, header.page_size)
        crc = crc64(page, crc64(head_bytes, crc))
        yield number, page
        last = number
    yield from _prove_tail(file, body[at:], crc)


def _grow(file: BinaryIO, body: bytes, least_bytes: int) -> Generator[None, None, bytes]:
    """Read on until there are so many bytes; None while there are not."""
    while len(body) < least_bytes:
        if more := file.read(_READ_BYTES):
            body += more
        else:
            yield None
    return body


def _prove_tail(file: BinaryIO, body: bytes, crc: int) -> Generator[None]:
    """Check what follows the pages; None while that is not all there, or is damaged."""
    while True:
        while more := file.read(_READ_BYTES):
            body += more
        try:
            return _check_tail(memoryview(body), 0, len(body) - TRAILER_BYTES, crc)
        except LtxError:
            yield None


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
