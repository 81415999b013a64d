"""The beginning of a file, as a file of its own: cut where a record ends."""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING

from ingest.converters.encodings import find_utf16

if TYPE_CHECKING:
    from collections.abc import Callable

_QUOTE = '"'
_NEVER_CUT = "its rows are known only when all of it is there"
REASONS = {
    "gzip": "a compressed file is unpacked only when all of it is there",
    "bzip2": "a compressed file is unpacked only when all of it is there",
    "xz": "a compressed file is unpacked only when all of it is there",
    "zstd": "a compressed file is unpacked only when all of it is there",
    "zip": "the list of an archive's files stands at its end",
    "tar": "an archive is unpacked only when all of it is there",
    "sheets": "the parts of a workbook are found only when all of it is there",
    "parquet": "the columns of a Parquet file are named at its end",
    "arrow": "the columns of an Arrow file are named at its end",
    "sqlite": "a database is read only when all of it is there",
    "json": "an object, or one with rows in it, is read only when all of it is there",
    "geojson": "its features are read only when all of it is there",
}


def cut_head(head: bytes, found: str) -> bytes | None:
    """Cut the beginning of a file after its last whole record.

    Args:
        head: The first bytes.
        found: The format.

    Returns:
        What a converter can read as a file; None if that format, or this file, has no such part.
    """
    cut = _CUTS.get(found)
    return None if cut is None else cut(head)


def why_not(found: str) -> str:
    """Say why the beginning of a file of that format says nothing."""
    return REASONS.get(found, _NEVER_CUT)


def _cut_lines(head: bytes) -> bytes | None:
    """Cut after the last line that ends outside of quotes.

    Quotes are counted: one that stands within a field without being doubled, which is wrong in
    CSV, may cost rows here, and never adds any.
    """
    end, quote = _units(head)
    kept_bytes, quotes = len(head), head.count(quote)
    place = head.rfind(end)
    while place > 0:
        if place % len(end) == 0:  # else it is half of one character and another
            after = place + len(end)
            quotes -= head.count(quote, after, kept_bytes)  # each byte is looked at once
            kept_bytes = after
            if quotes % 2 == 0:
                return head[:kept_bytes]
        place = head.rfind(end, 0, place)
    return None


def _units(head: bytes) -> tuple[bytes, bytes]:
    """Give the end of a line, and a quote, in the width of a file's characters."""
    for mark, name in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if head.startswith(mark):
            return "\n".encode(name), _QUOTE.encode(name)
    wide = find_utf16(head[:4096])
    return (b"\n", b'"') if wide is None else ("\n".encode(wide), _QUOTE.encode(wide))


def _cut_plain_lines(head: bytes) -> bytes | None:
    """Cut after the last line."""
    place = head.rfind(b"\n")
    return head[: place + 1] if place > 0 else None


def _cut_array(head: bytes) -> bytes | None:
    """Cut an array of JSON after its last whole element, and close it."""
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        return None
    if not text.lstrip().startswith("["):
        return None
    decoder, place, end = json.JSONDecoder(), text.index("[") + 1, 0
    while True:
        while place < len(text) and text[place] in " \t\r\n,":
            place += 1
        try:
            _, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            break
        if place >= len(text):  # a number may go on
            break
        end = place
    return (text[:end] + "]").encode() if end else None


_CUTS: dict[str, Callable[[bytes], bytes | None]] = {
    "csv": _cut_lines,
    "ndjson": _cut_plain_lines,
    "json": _cut_array,
}
