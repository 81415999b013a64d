"""Find the format of a file: by its content first, then by its name and its media type.

Converters that were added are asked before the built-in ones. One that has a function for the
content gets what that recognises; one that has none, what the name or the media type promise.
"""

from __future__ import annotations

import codecs
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NoReturn

from headrace.errors import Refusal
from ingest.converters import BUILT_IN
from ingest.converters.encodings import find_utf16, normalise
from ingest.converters.registry import Converter, Registry, find_promised, load_function
from ingest.converters.sniff import sniff

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    # Called with an added converter that failed at looking at a file, and with its error.
    Failure = Callable[[Converter, Exception], None]
    # Asks converters whether a file is theirs, by its head and the same as text; gives a name.
    Asking = Callable[[Sequence[Converter], bytes, str | None, Failure], str | None]

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

_TEXT_FORMATS = ("csv", "yaml", "markdown", "mbox", "sql")
_MARKED_FORMATS = ("html", "xml")
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n.*?^---[ \t]*\r?$(?P<rest>.*)", re.DOTALL | re.MULTILINE)
_YAML_LINE = re.compile(r"(- )?(\"[^\"]+\"|'[^']+'|[\w][\w .-]*):([ \t]|$)|- \S")
_JSON_START = re.compile(r"\{\s*[\"}]|\[\s*[\[{\"\]]")


def ask_here(
    converters: Sequence[Converter], head: bytes, text: str | None, on_failure: Failure
) -> str | None:
    """Ask converters one after the other in this process; one that fails is passed over."""
    for converter in converters:
        try:
            if load_function(str(converter.recognise))(head, text):
                return converter.name
        except Exception as exc:  # noqa: BLE001 - somebody else's code, on somebody else's file
            on_failure(converter, exc)
    return None


def detect(
    path: Path,
    *,
    filename: str,
    media_type: str | None,
    encoding: str | None = None,
    registry: Registry = BUILT_IN,
    on_failure: Failure = lambda _converter, _exc: None,
    asking: Asking = ask_here,
) -> str:
    """Find the format of a file; only its head is read.

    Args:
        path: The file.
        filename: Its name as its sender had it; may be empty.
        media_type: What the sender says; ``application/octet-stream`` and curl's
            ``application/x-www-form-urlencoded`` say nothing.
        encoding: What the sender says that a text is in.
        registry: The converters that there are.
        on_failure: Called with each added converter that failed at looking at the head, and with
            its error; it is passed over.
        asking: Asks the added converters that look at the content; the service does that in a
            process of its own.

    Returns:
        The name of a converter of the registry.

    Raises:
        Refusal: ``empty-file``, or ``unknown-format`` with the list of what is known.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        complete = not file.read(1)
    if complete and not head.strip(b" \t\r\n"):
        raise Refusal("empty-file", "the file has no bytes" if not head else "the file is blank")
    sent = _Sent(
        head=head,
        text=decode_head(head, encoding, complete=complete),
        complete=complete,
        filename=filename,
        media_type=media_type,
    )
    found = _detect_added(sent, registry.added, on_failure, asking) or _detect_built_in(
        sent, registry
    )
    if found is None:
        _refuse(filename, registry)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sent:
    """What is known of a file: its beginning, whether that is all of it, what its sender says."""

    head: bytes
    text: str | None
    complete: bool
    filename: str
    media_type: str | None

    def promised(self, converters: Iterable[Converter]) -> str | None:
        """Give the format that the name promises, else the one that the media type does."""
        found = find_promised(converters, self.filename, self.media_type)
        return None if found is None else found.name


def _detect_added(
    sent: _Sent, added: Iterable[Converter], on_failure: Failure, asking: Asking
) -> str | None:
    """Ask the converters that were added: by the content, else by what they promise."""
    known = tuple(added)
    looking = [converter for converter in known if converter.recognise is not None]
    found = asking(looking, sent.head, sent.text, on_failure) if looking else None
    return found or sent.promised(each for each in known if each.recognise is None)


def _detect_built_in(sent: _Sent, registry: Registry) -> str | None:
    """Find the format among those that are built in."""
    if sent.head.startswith(_SQLITE_MAGIC):
        return "sqlite"
    for converter in registry.built_in:
        if _recognises(converter, sent):
            return converter.name
    # Added ones that did not recognise what they promise by its name: they say what is wrong.
    if added := sent.promised(registry.added):
        return added
    hint = sent.promised(registry.built_in)
    if sent.head.startswith(_FOREIGN_MAGIC):
        return None
    if sent.text is None:  # damaged, or encrypted: the converter says which
        return hint if hint in ("sqlite", "sheets") else None
    return _detect_text(sent.text, hint, complete=sent.complete)


def _recognises(converter: Converter, sent: _Sent) -> bool:
    """Say whether a converter knows a file by its content."""
    if converter.recognise is None:
        return False
    return bool(load_function(converter.recognise)(sent.head, sent.text))


def _refuse(filename: str, registry: Registry) -> NoReturn:
    """Refuse a file whose format is not known."""
    raise Refusal(
        "unknown-format",
        f"the format of {PurePosixPath(filename).name or 'the file'!r} is not known",
        hint=f"send one of: {', '.join(registry.endings)}",
        extra={"known": list(registry.names)},
    )


def decode_head(head: bytes, encoding: str | None, *, complete: bool) -> str | None:
    """Decode the head well enough to look at it; None if it is no text."""
    if encoding is not None:
        with suppress(UnicodeError):  # of the few codecs that replace nothing
            decoder = codecs.getincrementaldecoder(normalise(encoding, head))("replace")
            return decoder.decode(head, final=complete).removeprefix("\ufeff")
    if head.startswith(_UTF16_MARKS):
        return head.decode("utf-16", errors="replace")
    if (wide := find_utf16(head)) is not None:
        return head.decode(wide, errors="replace")
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
    if hint in _TEXT_FORMATS or (hint in _MARKED_FORMATS and stripped.startswith("<")):
        return hint
    if hint in ("json", "ndjson") and stripped.startswith(("{", "[")):
        return hint  # broken: the converter says where
    return _guess(text, stripped, complete=complete) or (
        hint if hint in ("json", "ndjson", "icalendar", *_MARKED_FORMATS) else None
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
