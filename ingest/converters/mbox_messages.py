"""mbox: each message is a row of ``messages``, each of its other parts one of ``attachments``.

Read as a stream, one message in memory at a time. A single message (``.eml``) is read as well.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from email import message_from_bytes, policy
from email.errors import HeaderParseError
from email.header import decode_header
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from headrace.errors import Refusal
from ingest.converters import Conversion, Converted, TableRows
from ingest.converters.staging import Kind, create_table, insert_statement, open_staging

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message
    from pathlib import Path

MAX_MESSAGE_BYTES = 256 * 1024**2
MAX_CONTENT_BYTES = 16 * 1024**2  # of an attachment that is kept
MAX_PARTS = 5000  # of a message
MAX_DEPTH = 100  # parts within parts
_BATCH_BYTES = 8 * 1024**2

_MESSAGES = (
    "message_id", "date", "from", "to", "cc", "bcc", "reply_to", "subject", "in_reply_to",
    "references", "body_text", "body_html", "headers", "envelope",
)  # fmt: skip
_ATTACHMENT_COLUMNS = 8
_CREATE_ATTACHMENTS = """
CREATE TABLE attachments (
  message_id TEXT, part INTEGER, name TEXT, type TEXT, size INTEGER, disposition TEXT,
  content_id TEXT, content BLOB
)
"""
_ENVELOPE = re.compile(rb"From \S.*\d{4}.*")
_HEADER = re.compile(rb"[!-9;-~]+[ \t]*:")
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_ASCII = frozenset({"us-ascii", "ascii", ""})


def convert(conversion: Conversion) -> Converted:
    """Convert a mailbox.

    Headers and texts are decoded as they say. Texts that do not fit what they say are kept as
    attachments, byte for byte. ``headers`` holds all of them, in their order.

    Raises:
        Refusal: ``invalid-file``: no message; ``limit-exceeded``: a message is too large, or nested
            too deeply.
    """
    notes: Counter[str] = Counter()
    counts = {"messages": 0, "attachments": 0}
    waiting: dict[str, list[tuple[Any, ...]]] = {"messages": [], "attachments": []}
    waiting_bytes = 0
    with open_staging(conversion.output) as connection:
        connection.execute("BEGIN")
        create_table(connection, "messages", _MESSAGES, [Kind.TEXT] * len(_MESSAGES))
        inserts = {
            "messages": insert_statement("messages", len(_MESSAGES)),
            "attachments": insert_statement("attachments", _ATTACHMENT_COLUMNS),
        }

        def write() -> None:
            for table, rows in waiting.items():
                if not rows:
                    continue
                if table == "attachments" and not counts[table]:
                    connection.execute(_CREATE_ATTACHMENTS)
                connection.executemany(inserts[table], rows)
                counts[table] += len(rows)
                rows.clear()

        for number, (envelope, raw, end) in enumerate(_split(conversion.input), start=1):
            message, attachments = _read_message(raw, envelope, number, notes)
            waiting["messages"].append(message)
            waiting["attachments"] += attachments
            waiting_bytes += len(raw)
            if waiting_bytes >= _BATCH_BYTES:
                write()
                waiting_bytes = 0
            conversion.report(number, end)
        write()
        connection.execute("COMMIT")
    return Converted(
        tables=tuple(TableRows(name=name, rows=rows) for name, rows in counts.items() if rows),
        warnings=tuple(f"{what}: {count:,}" for what, count in notes.items()),
    )


def _split(path: Path) -> Iterator[tuple[str | None, bytes, int]]:
    """Give each message: its envelope line, its bytes, and the offset of its end.

    A message begins with a line ``From …`` with a year in it, at the start of the file or after a
    blank line. Lines of a text that begin with ``>From`` stay so: how many of the signs a mailer
    added is not written anywhere.
    """
    envelope: str | None = None
    lines: list[bytes] = []
    size_bytes = 0
    offset = 0
    blank = True
    with path.open("rb") as file:
        for line in file:
            offset += len(line)
            if blank and line.startswith(b"From ") and _ENVELOPE.match(line):
                if envelope is not None or lines:
                    yield envelope, b"".join(lines[:-1]), offset  # the blank line is the mailbox's
                envelope, lines, size_bytes = _decode_raw(line[5:].strip()), [], 0
                continue
            blank = not line.strip(b"\r\n")
            if envelope is None and not lines:
                if blank:
                    continue
                if not _HEADER.match(line):
                    raise Refusal("invalid-file", "the file does not begin with a message", line=1)
            lines.append(line)
            size_bytes += len(line)
            if size_bytes > MAX_MESSAGE_BYTES:
                raise Refusal(
                    "limit-exceeded",
                    f"a message is larger than {MAX_MESSAGE_BYTES // 1024**2} MiB",
                    extra={"limit": "message"},
                )
    if envelope is not None or lines:
        yield envelope, b"".join(lines), offset
    else:
        raise Refusal("no-rows", "the file holds no message")


def _read_message(
    raw: bytes, envelope: str | None, number: int, notes: Counter[str]
) -> tuple[tuple[Any, ...], list[tuple[Any, ...]]]:
    """Make a row of a message, and rows of its attachments."""
    try:
        message = message_from_bytes(raw, policy=policy.compat32)
        parts = list(_leaves(message))
    except RecursionError as exc:
        raise _too_deep(number) from exc
    if len(parts) > MAX_PARTS:
        raise Refusal(
            "limit-exceeded",
            f"message {number} has more than {MAX_PARTS:,} parts",
            extra={"limit": "parts"},
        )
    if any(depth > MAX_DEPTH for depth, _ in parts):
        raise _too_deep(number)
    headers = [(name, _decode_field(str(value))) for name, value in message.raw_items()]
    first: dict[str, str] = {}
    for name, value in headers:
        key = name.lower().replace("-", "_")
        first[key] = f"{first[key]}, {value}" if key in ("to", "cc") and key in first else (
            first.get(key, value)
        )  # fmt: skip
    row: dict[str, Any] = {column: first.get(column) for column in _MESSAGES}
    if not row["message_id"]:
        row["message_id"] = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        notes["messages without a Message-ID have their SHA-256 in its place"] += 1
    row["date"] = _iso(first.get("date"))
    row["headers"] = json.dumps(headers, ensure_ascii=False)
    row["envelope"] = envelope
    row["body_text"] = row["body_html"] = None
    attachments = []
    for position, (_, part) in enumerate(parts, start=1):
        content = _content(part)
        column = {"text/plain": "body_text", "text/html": "body_html"}.get(part.get_content_type())
        if column and row[column] is None and not _is_attached(part):
            row[column] = _decode_text(part, content, notes)
            if row[column] is not None:
                continue
        attachments.append(_attachment_row(row["message_id"], position, part, content, notes))
    return tuple(row[column] for column in _MESSAGES), attachments


def _leaves(message: Message) -> Iterator[tuple[int, Message]]:
    """Give the parts that hold something, each with how deep it lies; attached mails stay whole."""
    waiting = [(0, message)]
    while waiting:
        depth, part = waiting.pop()
        inner = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(inner, list):
            waiting += ((depth + 1, each) for each in reversed(inner))
        else:
            yield depth, part


def _content(part: Message) -> bytes:
    """Give a part's bytes, without the encoding that carried them."""
    inner = part.get_payload()
    if isinstance(inner, list):  # an attached message
        return b"\n".join(each.as_bytes() for each in inner if not isinstance(each, str))
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


def _is_attached(part: Message) -> bool:
    """Say whether a text is meant as a file."""
    return part.get_content_disposition() == "attachment" or bool(part.get_filename())


def _decode_text(part: Message, content: bytes, notes: Counter[str]) -> str | None:
    """Decode a text as its part says; None if it does not fit."""
    stated = (part.get_content_charset() or "").lower()
    for charset in ("utf-8",) if stated in _ASCII else (stated, "utf-8"):
        try:
            return content.decode(charset)
        except (LookupError, UnicodeError, ValueError):
            continue
    if stated in _ASCII:
        try:
            text = content.decode("cp1252")
        except UnicodeError:
            text = content.decode("latin-1")
        notes["texts that do not say their encoding were read as Windows-1252"] += 1
        return text
    notes["texts that do not fit the encoding they say are kept as attachments"] += 1
    return None


def _attachment_row(
    message_id: str, position: int, part: Message, content: bytes, notes: Counter[str]
) -> tuple[Any, ...]:
    """Make a row of a part that is not the text."""
    kept: bytes | None = content
    if len(content) > MAX_CONTENT_BYTES:
        notes[
            f"attachments over {MAX_CONTENT_BYTES // 1024**2} MiB are listed without content"
        ] += 1
        kept = None
    name = part.get_filename()
    content_id = part.get("Content-ID")
    return (
        message_id,
        position,
        None if name is None else _decode_field(name),
        part.get_content_type(),
        len(content),
        part.get_content_disposition(),
        None if content_id is None else _decode_field(str(content_id)).strip("<>"),
        kept,
    )


def _decode_field(value: str) -> str:
    """Give a header's value as text: on one line, with encoded words decoded where they can be."""
    plain = _FOLD.sub("", value).strip()
    if "=?" in plain:
        try:
            words = decode_header(plain)
            return "".join(
                word if isinstance(word, str) else word.decode(charset or "ascii")
                for word, charset in words
            )
        except (LookupError, ValueError, HeaderParseError):
            pass  # it stays as it is written
    return _decode_raw(plain.encode("utf-8", "surrogateescape"))


def _decode_raw(data: bytes) -> str:
    """Decode bytes that say no encoding: UTF-8 if they are that, else Latin-1, which any are."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _iso(date: str | None) -> str | None:
    """Write a date as ISO 8601 does; one that cannot be read stays as it is."""
    if date is None:
        return None
    try:
        return parsedate_to_datetime(date).isoformat()
    except (ValueError, TypeError, IndexError, OverflowError):
        return date


def _too_deep(number: int) -> Refusal:
    return Refusal(
        "limit-exceeded", f"message {number} is nested too deeply", extra={"limit": "depth"}
    )
