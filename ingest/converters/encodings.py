"""In what encoding a text file is: by its mark, by what its bytes look like, or as one is told.

A file that is not UTF-8 is written anew as UTF-8, a chunk at a time, before a converter reads it. A
byte that does not fit is refused with its offset, and never replaced.
"""

from __future__ import annotations

import codecs
import tempfile
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from headrace.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.converters import Conversion, Converted

UTF8 = "utf-8"
_CHUNK_BYTES = 1024 * 1024
_SAMPLE_BYTES = 64 * 1024  # of lines that are not ASCII
SEARCH_BYTES = 4 * 1024 * 1024  # that they are looked for in
_MIN_NUL_SHARE = 0.02  # of UTF-16: a delimiter or a line end is half a NUL
_HINT = "say which encoding it is with ?encoding="
MARKS = (  # the longer one first: the mark of UTF-32 begins as that of UTF-16 does
    (codecs.BOM_UTF8, UTF8),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What people's files are in, the likelier first: that decides where the bytes do not.
_LEGACY = (
    "cp1252", "cp1251", "cp932", "gb18030", "big5", "cp949", "cp1250", "euc_jp", "cp1254", "cp1253",
    "cp1256", "cp1255", "cp1257", "cp1258", "cp874", "koi8_r", "mac_roman",
)  # fmt: skip
_NAMES = {f"cp{number}": f"windows-{number}" for number in (874, *range(1250, 1259))}


def reads_text(
    convert: Callable[[Conversion], Converted],
) -> Callable[[Conversion], Converted]:
    """Give a converter its file as UTF-8, and have it say in what encoding the file was."""

    @wraps(convert)
    def convert_text(conversion: Conversion) -> Converted:
        conversion.begin("look")
        encoding, guessed = find_encoding(conversion.input, conversion.wishes.encoding)
        if encoding == UTF8:
            conversion.begin("read")
            return replace(convert(conversion), encoding=UTF8)
        with tempfile.NamedTemporaryFile() as file:
            transcode(conversion.input, encoding, file)
            share = conversion.input.stat().st_size / max(1, file.tell())
            file.flush()
            conversion.begin("read")
            converted = convert(
                replace(
                    conversion,
                    input=Path(file.name),
                    report=lambda rows, done: conversion.report(rows, int(done * share)),
                )
            )
        name = receipt_name(encoding)
        warnings = converted.warnings
        if guessed:
            warnings = (f"read as {name}, by what its bytes look like", *warnings)
        return replace(converted, encoding=name, warnings=warnings)

    return convert_text


def find_encoding(path: Path, wanted: str | None = None) -> tuple[str, bool]:
    """Find a text file's encoding, a name that Python knows; a mark may stand at its start.

    Args:
        path: The file; only its first bytes are looked at, and the first that are not ASCII.
        wanted: What the uploader says it is; that is believed.

    Returns:
        The encoding, and whether it was guessed.

    Raises:
        Refusal: ``invalid-file``: the bytes fit none that is known.
    """
    with path.open("rb") as file:
        head = file.read(_SAMPLE_BYTES)
        if wanted is not None:
            return normalise(wanted, head), False
        marked = next((name for mark, name in MARKS if head.startswith(mark)), None)
        if marked is not None:
            return marked, False
        if wide := find_utf16(head):
            return wide, True
        file.seek(0)
        sample, offset, complete = _sample(file)
    if _is_utf8(sample, complete=complete):
        return UTF8, False
    import charset_normalizer  # noqa: PLC0415 - 0.05 s that most files do not need

    found = [
        (round(match.chaos, 2), -match.coherence, _LEGACY.index(name), name)
        for match in charset_normalizer.from_bytes(sample, cp_isolation=list(_LEGACY))
        for name in match.could_be_from_charset
        if name in _LEGACY
    ]
    if not found:
        raise Refusal(
            "invalid-file",
            f"byte {offset} is not UTF-8, and the file looks like no other encoding",
            hint=_HINT,
            extra={"offset": offset},
        )
    return min(found)[-1], True


def find_utf16(head: bytes) -> str | None:
    """Say whether bytes without a mark are UTF-16, and which; every second byte of ASCII is NUL."""
    head = head[: len(head) // 2 * 2]
    for name, nul in (("utf-16-le", 1), ("utf-16-be", 0)):
        nuls = head[nul::2].count(0)
        if nuls < max(1, _MIN_NUL_SHARE * len(head)) or 0 in head[1 - nul :: 2]:
            continue
        text = codecs.getincrementaldecoder(name)("replace").decode(head)
        if "\n" in text or "\r" in text:
            return name
    return None


def receipt_name(encoding: str) -> str:
    """Give the name that receipts have for a codec."""
    name = codecs.lookup(encoding).name
    return UTF8 if name == "utf-8-sig" else _NAMES.get(name, name)


def transcode(path: Path, encoding: str, output: IO[bytes]) -> None:
    """Write a file anew as UTF-8 without a mark.

    Raises:
        Refusal: ``invalid-file``: a byte does not fit the encoding; its offset is named.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    done_bytes = 0
    begun = False
    line = 1
    with path.open("rb") as file:
        while True:
            chunk = file.read(_CHUNK_BYTES)
            try:
                text = decoder.decode(chunk, final=not chunk)
                if not begun and text:
                    text, begun = text.removeprefix("\ufeff"), True
                data = text.encode()
            except UnicodeError as exc:
                raise _refuse(exc, encoding, chunk, done_bytes, line) from exc
            output.write(data)
            if not chunk:
                return
            done_bytes += len(chunk)
            line += data.count(b"\n")


def _refuse(exc: UnicodeError, encoding: str, chunk: bytes, done_bytes: int, line: int) -> Refusal:
    """Give the refusal for bytes that do not fit, with their offset in the file."""
    name = receipt_name(encoding)
    if not isinstance(exc, UnicodeDecodeError):  # half of a pair, out of UTF-7 and its like
        return Refusal("invalid-file", f"the file is not {name}", hint=_HINT)
    # The object begins with what was left over from the chunk before.
    offset = done_bytes + len(chunk) - len(exc.object) + exc.start
    before = exc.object[: exc.start].decode(encoding, "replace")
    return Refusal(
        "invalid-file",
        f"byte {offset} is not {name}",
        hint=_HINT,
        line=line + before.count("\n"),
        extra={"offset": offset},
    )


def normalise(wanted: str, head: bytes) -> str:
    """Give the codec for what the uploader says; a mark at the start says which UTF-16 it is."""
    name = codecs.lookup(wanted).name
    if name in ("utf-8", "utf-8-sig"):
        return UTF8
    if name in ("utf-16", "utf-32"):
        marked = next((each for mark, each in MARKS if head.startswith(mark)), "")
        return marked if marked.startswith(name) else find_utf16(head) or f"{name}-le"
    return name


def _sample(file: BinaryIO) -> tuple[bytes, int, bool]:
    """Give the first lines that are not ASCII.

    Returns:
        The lines, the offset of the first such byte, and whether the last line is whole.
    """
    offset = 0
    while (chunk := file.read(_CHUNK_BYTES)) and chunk.isascii():
        offset += len(chunk)
    first = next((place for place, byte in enumerate(chunk) if byte > 0x7F), 0)  # noqa: PLR2004
    offset += first
    begin = max(chunk.rfind(b"\n", 0, first) + 1, first - _SAMPLE_BYTES // 2)
    chunk = chunk[begin:] + file.read(SEARCH_BYTES)
    complete = not file.read(1)
    lines: list[bytes] = []
    size = 0
    for line in chunk.splitlines(keepends=True):
        if not line.isascii():
            lines.append(line[:_SAMPLE_BYTES])
            size += len(line)
            if size >= _SAMPLE_BYTES:
                complete = len(line) < _SAMPLE_BYTES
                break
    return b"".join(lines), offset, complete


def _is_utf8(sample: bytes, *, complete: bool) -> bool:
    """Say whether a sample is UTF-8, also where a few of its bytes are wrong: those are refused."""
    text = codecs.getincrementaldecoder(UTF8)("replace").decode(sample, final=complete)
    bad = text.count("\ufffd") - sample.count("\ufffd".encode())
    good = sum(not character.isascii() for character in text) - bad
    return good >= bad
