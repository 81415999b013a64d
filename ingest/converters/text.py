"""Text files: UTF-8, with or without a byte order mark; a byte that does not fit is refused."""

from __future__ import annotations

import codecs
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TYPE_CHECKING, TextIO

from headrace.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK_BYTES = 1024 * 1024
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_HINT = "say its encoding with ?encoding=, or save the file as UTF-8"


@contextmanager
def open_text(path: Path, at: int = 0) -> Iterator[TextIO]:
    """Open a text file; line ends stay as they are written, a byte order mark is skipped.

    Args:
        path: The file.
        at: The byte after the mark from which on it is read.

    Raises:
        Refusal: ``invalid-file``, from within the context, when a byte read there is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            marked = file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
            file.seek(at + marked * len(codecs.BOM_UTF8))
            yield TextIOWrapper(file, encoding="utf-8", newline="")
    except UnicodeDecodeError as exc:
        raise bad_byte(path) from exc


def read_text(path: Path) -> str:
    """Read a whole text file.

    Raises:
        Refusal: ``invalid-file``: a byte is not UTF-8.
    """
    with open_text(path) as file:
        return file.read()


def bad_byte(path: Path) -> Refusal:
    """Find the first byte that is not UTF-8, and give the refusal that names its place."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0  # of the bytes that the decoder has not given back yet
    line = 1
    line_text = ""  # what the line in hand has so far
    with path.open("rb") as file:
        if file.read(2) in _UTF16_MARKS:
            return Refusal("invalid-file", "the file is UTF-16, not UTF-8", hint=_HINT, line=1)
        file.seek(0)
        while chunk := file.read(_CHUNK_BYTES):
            pending = len(decoder.getstate()[0])
            try:
                text = decoder.decode(chunk)
            except UnicodeDecodeError as exc:
                offset += exc.start - pending
                text = exc.object[: exc.start].decode()
                line += text.count("\n")
                line_text = text.rpartition("\n")[2] if "\n" in text else line_text + text
                return Refusal(
                    "invalid-file",
                    f"byte {offset} is not UTF-8",
                    hint=_HINT,
                    line=line,
                    column=len(line_text) + 1,
                    extra={"offset": offset},
                )
            line += text.count("\n")
            line_text = text.rpartition("\n")[2] if "\n" in text else line_text + text
            offset += len(chunk)
    return Refusal(
        "invalid-file",
        "the file ends in the middle of a character",
        hint=_HINT,
        line=line,
        column=len(line_text) + 1,
        extra={"offset": offset - len(decoder.getstate()[0])},
    )
