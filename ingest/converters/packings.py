"""What files are packed in: compressions, which hold one file, and archives, which hold many.

The service asks this module what a file is; unpacking is left to the converter's process.
"""

from __future__ import annotations

import tarfile

# Name of a packing: the ending that files in it have.
COMPRESSIONS = {"gzip": "gz", "bzip2": "bz2", "xz": "xz", "zstd": "zst"}
ARCHIVES = {"zip": "zip", "tar": "tar"}
PACKINGS = {**COMPRESSIONS, **ARCHIVES}

_SKIPPABLE = tuple(bytes([low]) + b"\x2a\x4d\x18" for low in range(0x50, 0x60))
_OFFICE = (b"[Content_Types].xml", b"xl/workbook.", b"mimetypeapplication/")
_TAR_BLOCK = 512  # bytes


def recognise_gzip(head: bytes, _text: str | None) -> bool:
    """Say whether a file is gzip. Source: RFC 1952, 2.3.1; 8 is deflate, the only method."""
    return head.startswith(b"\x1f\x8b\x08")


def recognise_bzip2(head: bytes, _text: str | None) -> bool:
    """Say whether a file is bzip2: its mark, a block size from 1 to 9, and a block or the end."""
    marks = (b"1AY&SY", b"\x17rE8P\x90")
    return head[:3] == b"BZh" and head[3:4].isdigit() and head[4:10] in marks


def recognise_xz(head: bytes, _text: str | None) -> bool:
    """Say whether a file is xz. Source: the .xz file format, 2.1.1.1."""
    return head.startswith(b"\xfd7zXZ\x00")


def recognise_zstd(head: bytes, _text: str | None) -> bool:
    """Say whether a file is zstd. Source: RFC 8878, 3.1.1 and 3.1.2."""
    return head.startswith((b"\x28\xb5\x2f\xfd", *_SKIPPABLE))


def recognise_zip(head: bytes, _text: str | None) -> bool:
    """Say whether a file is a zip archive, and not a document that is one inside."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06")) and not any(
        mark in head for mark in _OFFICE
    )


def recognise_tar(head: bytes, _text: str | None) -> bool:
    """Say whether a file is a tar archive: its first header has the checksum that it says."""
    try:
        tarfile.TarInfo.frombuf(head[:_TAR_BLOCK], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True
