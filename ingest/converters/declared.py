"""Texts that say their own encoding (XML, HTML): decoded as they say, or refused with the byte."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from headrace.errors import Refusal
from ingest.converters.encodings import MARKS, normalise, receipt_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HEAD_BYTES = 4096
CHUNK_BYTES = 64 * 1024
_HINT = "say the encoding by ?encoding=…, or save the file as UTF-8"


def read_declared(
    path: Path,
    *,
    wished: str | None,
    declared: Callable[[bytes], str | None],
    on_bytes: Callable[[int], None] = lambda _bytes: None,
) -> Iterator[str]:
    """Read a text file piece by piece; a byte order mark is skipped.

    Args:
        path: The file.
        wished: The encoding that the uploader says, which counts more than all others.
        declared: Finds the encoding that a file's head declares; without one it is UTF-8.
        on_bytes: Called with the bytes read so far.

    Raises:
        Refusal: ``invalid-file``: an encoding that is not known, or a byte that does not fit it.
    """
    with path.open("rb") as file:
        mark, encoding = _find(file.read(HEAD_BYTES), wished, declared)
        decoder = codecs.getincrementaldecoder(encoding)()
        done = len(mark)
        file.seek(done)
        while chunk := file.read(CHUNK_BYTES):
            yield _decode(decoder, chunk, encoding, done, final=False)
            done += len(chunk)
            on_bytes(done)
        yield _decode(decoder, b"", encoding, done, final=True)


def find_declared(
    path: Path, *, wished: str | None, declared: Callable[[bytes], str | None]
) -> str:
    """Give the encoding that ``read_declared`` reads a file in, as receipts call it."""
    with path.open("rb") as file:
        return receipt_name(_find(file.read(HEAD_BYTES), wished, declared)[1])


def _find(
    head: bytes, wished: str | None, declared: Callable[[bytes], str | None]
) -> tuple[bytes, str]:
    """Find the mark at a file's start, and its encoding."""
    mark, marked = next(
        ((mark, name) for mark, name in MARKS if head.startswith(mark)), (b"", None)
    )
    if wished is not None:
        return mark, normalise(wished, head)
    encoding = marked or declared(head) or "utf-8"
    try:
        "a".encode(encoding)  # refuses codecs that are no texts' as well
    except (LookupError, UnicodeError):
        raise Refusal(
            "invalid-file",
            f"the file says that its encoding is {encoding[:40]!r}, which is not known",
            hint=_HINT,
        ) from None
    return mark, encoding


def _decode(
    decoder: codecs.IncrementalDecoder, chunk: bytes, encoding: str, offset: int, *, final: bool
) -> str:
    """Decode a piece of a file that begins at an offset."""
    pending = len(decoder.getstate()[0])
    try:
        return decoder.decode(chunk, final)
    except UnicodeError as exc:
        at = offset - pending + getattr(exc, "start", 0)
        raise Refusal(
            "invalid-file", f"byte {at} is not {encoding}", hint=_HINT, extra={"offset": at}
        ) from exc
