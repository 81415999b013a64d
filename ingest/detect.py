"""Find the format of a file: by its content first, then by its name and its media type."""

from __future__ import annotations

import codecs
import importlib
import json
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NoReturn

from headrace.errors import Refusal
from ingest.converters import FORMATS, KNOWN_FORMATS
from ingest.converters.sniff import sniff

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD_BYTES = 256 * 1024

_SQLITE_MAGIC = b"SQLite format 3\x00"
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Formats that nobody should guess at, whatever their name says.
_FOREIGN_MAGIC = (
    b"\x89PNG", b"GIF8", b"\xff\xd8\xff", b"%PDF-", b"{\\rtf", b"PK\x03\x04", b"PK\x05\x06",
    b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"Rar!",
    b"PAR1", b"ARROW1", b"\x7fELF", b"\xd0\xcf\x11\xe0", b"RIFF", b"OggS",
)  # fmt: skip
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_MAX_CONTROL_SHARE = 0.01
_CUT_TOKEN = 16  # characters: longer than any JSON literal or escape

_TEXT_FORMATS = ("csv", "yaml", "markdown")
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n.*?^---[ \t]*\r?$(?P<rest>.*)", re.DOTALL | re.MULTILINE)
_YAML_LINE = re.compile(r"(- )?(\"[^\"]+\"|'[^']+'|[\w][\w .-]*):([ \t]|$)|- \S")
_JSON_START = re.compile(r"\{\s*[\"}]|\[\s*[\[{\"\]]")


def detect(path: Path, *, filename: str, media_type: str | None) -> str:
    """Find the format of a file; only its head is read.

    Args:
        path: The file.
        filename: Its name as its sender had it; may be empty.
        media_type: What the sender says; ``application/octet-stream`` and curl's
            ``application/x-www-form-urlencoded`` say nothing.

    Returns:
        One of ``KNOWN_FORMATS``.

    Raises:
        Refusal: ``empty-file``, or ``unknown-format`` with the list of what is known.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        complete = not file.read(1)
    if complete and not head.strip(b" \t\r\n"):
        raise Refusal("empty-file", "the file has no bytes" if not head else "the file is blank")
    if head.startswith(_SQLITE_MAGIC):
        return "sqlite"
    hint = _hint(filename, media_type)
    text = _decode(head, complete=complete)
    for known in FORMATS:
        if known.recognise and _load(known.recognise)(head, text):
            return known.name
    if head.startswith(_FOREIGN_MAGIC):
        _refuse(filename)
    if text is None:
        if hint == "sqlite":  # its header is damaged, or encrypted: the converter says which
            return "sqlite"
        _refuse(filename)
    found = _detect_text(text, hint, complete=complete)
    return found or _refuse(filename)


def _load(recognise: str) -> Callable[[bytes, str | None], bool]:
    """Import what tells a format by its content."""
    module, _, function = recognise.partition(":")
    found: Callable[[bytes, str | None], bool] = getattr(
        importlib.import_module(f"ingest.converters.{module}"), function
    )
    return found


def _hint(filename: str, media_type: str | None) -> str | None:
    """Give the format that the name promises, else the one that the media type does."""
    suffix = PurePosixPath(filename.replace("\\", "/")).suffix.lower()
    stated = (media_type or "").partition(";")[0].strip().lower()
    by_name = (known.name for known in FORMATS if suffix in known.suffixes)
    by_type = (known.name for known in FORMATS if stated in known.media_types)
    return next(by_name, None) or next(by_type, None)


def _refuse(filename: str) -> NoReturn:
    """Refuse a file whose format is not known."""
    raise Refusal(
        "unknown-format",
        f"the format of {PurePosixPath(filename).name or 'the file'!r} is not known",
        hint=f"send one of: {', '.join(KNOWN_FORMATS)}",
        extra={"known": list(KNOWN_FORMATS)},
    )


def _decode(head: bytes, *, complete: bool) -> str | None:
    """Decode the head well enough to look at it; None if it is no text."""
    if head.startswith(_UTF16_MARKS):
        return head.decode("utf-16", errors="replace")
    if len(_CONTROL.findall(head)) > _MAX_CONTROL_SHARE * len(head):
        return None
    try:
        # Not final: the end of the head may cut a character.
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head, final=complete)
    except UnicodeDecodeError:
        text = head.decode("latin-1")
    return text


def _detect_text(text: str, hint: str | None, *, complete: bool) -> str | None:
    """Find the format of a text, or None."""
    stripped = text.lstrip()
    if stripped.startswith(("{", "[")) and (found := _detect_json(stripped, hint, complete)):
        return found
    if hint in _TEXT_FORMATS:
        return hint
    if hint in ("json", "ndjson") and stripped.startswith(("{", "[")):
        return hint  # broken: the converter says where
    return _guess(text, stripped, complete=complete) or (
        hint if hint in ("json", "ndjson") else None
    )


def _detect_json(text: str, hint: str | None, complete: bool) -> str | None:
    """Say whether a text that begins with a bracket is JSON or NDJSON; None if it cannot be."""
    single = "ndjson" if hint == "ndjson" else "json"
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except RecursionError:
        return single
    except json.JSONDecodeError as exc:
        cut = exc.pos >= len(text) - _CUT_TOKEN or exc.msg.startswith("Unterminated string")
        return single if cut and not complete else None
    except ValueError:  # an integer of thousands of digits
        return single
    rest = text[end:].lstrip()
    if not rest:
        return single
    return "ndjson" if rest.startswith(("{", "[")) and "\n" in text[end:] else None


def _guess(text: str, stripped: str, *, complete: bool) -> str | None:
    """Guess the format of a text by how it looks alone."""
    if match := _FRONT_MATTER.match(stripped):
        return "yaml" if _looks_like_yaml(match["rest"]) else "markdown"
    if stripped.startswith("<"):  # HTML, XML
        return None
    if _JSON_START.match(stripped):
        return "json"
    sniffed = None if stripped.startswith("---") else sniff(text, complete=complete)
    if sniffed is not None and sniffed.even:
        return "csv"
    if _looks_like_yaml(stripped):
        return "yaml"
    return "markdown" if re.match(r"#{1,6} \S", stripped) else None


def _looks_like_yaml(text: str) -> bool:
    """Say whether the first line that is no comment is a key or an item of YAML."""
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            return bool(_YAML_LINE.match(line)) or line.startswith("---")
    return False
