from __future__ import annotations

import json
import mailbox
from email.message import EmailMessage
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.converters import mbox_messages
from tests.unit.convert_kit import DATA, Loaded, refuse

if TYPE_CHECKING:
    from pathlib import Path

FROM = b"From ada@example.org Sun Dec 25 21:33:37 2011\n"
LINES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=60)


def _message(text: str = "Hello\n", **headers: str) -> EmailMessage:
    message = EmailMessage()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    message.set_content(text)
    return message


def _mbox(*messages: EmailMessage) -> bytes:
    return b"".join(FROM + message.as_bytes() + b"\n" for message in messages)


def test_mbox_message_is_a_row_with_its_headers_and_texts() -> None:
    """Headers are decoded, dates are ISO, and all headers are kept in their order."""
    message = _message(
        "Grüße\n",
        Message_ID="<1@example.org>",
        Date="Mon, 01 Jan 2024 10:00:00 +0100",
        From="André <a@example.org>",
        To="b@example.org",
        Subject="Schöne Grüße",
        In_Reply_To="<0@example.org>",
    )
    message.add_alternative("<p>Grüße</p>", subtype="html")
    (row,) = Loaded(_mbox(message), "mbox").records("messages")
    headers = json.loads(row.pop("headers"))
    assert headers[0] == ["Message-ID", "<1@example.org>"]
    assert ["Subject", "Schöne Grüße"] in headers
    assert row == {
        "message_id": "<1@example.org>",
        "date": "2024-01-01T10:00:00+01:00",
        "from": "André <a@example.org>",
        "to": "b@example.org",
        "subject": "Schöne Grüße",
        "in_reply_to": "<0@example.org>",
        "body_text": "Grüße\n",
        "body_html": "<p>Grüße</p>\n",
        "envelope": "ada@example.org Sun Dec 25 21:33:37 2011",
    }


def test_mbox_attachments_are_rows_with_their_bytes() -> None:
    """Every part that is not the text is kept, an attached message whole."""
    message = _message(Message_ID="<1>")
    message.add_attachment(b"\x00\xff", maintype="image", subtype="png", filename="é.png")
    message.add_attachment(_message("inner\n", Subject="in"))
    loaded = Loaded(_mbox(message), "mbox")
    image, inner = loaded.records("attachments")
    assert image == {
        "message_id": "<1>", "part": 2, "name": "é.png", "type": "image/png", "size": 2,
        "disposition": "attachment", "content": b"\x00\xff",
    }  # fmt: skip
    assert inner["type"] == "message/rfc822"
    assert b"Subject: in" in inner["content"]


def test_mbox_attachment_over_the_limit_is_listed_without_content(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is left out is said."""
    monkeypatch.setattr(mbox_messages, "MAX_CONTENT_BYTES", 10)
    message = _message(Message_ID="<1>")
    message.add_attachment(b"x" * 11, maintype="image", subtype="png")
    loaded = Loaded(_mbox(message), "mbox")
    assert loaded.records("attachments")[0]["size"] == 11
    assert "content" not in loaded.records("attachments")[0]
    assert "without content" in loaded.converted.warnings[0]


def test_mbox_message_begins_only_after_a_blank_line() -> None:
    """A sentence that begins with From is no message."""
    body = "a\nFrom here to 2024 on\n\nFrom now on\n\n>From x 2024\n"
    data = FROM + b"Message-ID: <1>\n\n" + body.encode() + b"\n" + FROM + b"Message-ID: <2>\n\nb\n"
    rows = Loaded(data, "mbox").records("messages")
    assert [(row["message_id"], row["body_text"]) for row in rows] == [
        ("<1>", body),
        ("<2>", "b\n"),
    ]


def test_mbox_message_without_an_id_gets_its_sum() -> None:
    """Attachments find their message, also one that has no Message-ID."""
    loaded = Loaded(_mbox(_message()), "mbox")
    assert loaded.records("messages")[0]["message_id"].startswith("sha256:")
    assert len(loaded.converted.warnings) == 1


def test_mbox_single_message_is_read() -> None:
    """A file with one message and no mailbox around it is a mailbox of one."""
    data = _message(Subject="x", Message_ID="<1>").as_bytes()
    assert Loaded(data, "mbox", filename="x.eml").records("messages")[0]["subject"] == "x"


@pytest.mark.parametrize(
    ("header", "body", "text"),
    [
        ("text/plain; charset=iso-8859-2", b"\xb1", "ą"),
        ("text/plain; charset=utf-8", "é".encode(), "é"),
        ("text/plain; charset=koi8-r", b"\xc1", "а"),  # noqa: RUF001 - a Cyrillic letter
        ("text/plain", "é".encode(), "é"),
        ("text/plain", b"\x80", "€"),
        ("text/plain; charset=x-unknown", b"abc", "abc"),
    ],
)
def test_mbox_text_is_decoded_as_it_says(header: str, body: bytes, text: str) -> None:
    """Each text has its own encoding."""
    data = FROM + f"Message-ID: <1>\nContent-Type: {header}\n\n".encode() + body + b"\n"
    assert Loaded(data, "mbox").records("messages")[0]["body_text"] == f"{text}\n"


def test_mbox_text_that_does_not_fit_is_kept_as_bytes() -> None:
    """A byte that the encoding does not have is no question mark."""
    data = FROM + b"Message-ID: <1>\nContent-Type: text/plain; charset=utf-8\n\ncaf\xe9\n"
    loaded = Loaded(data, "mbox")
    assert "body_text" not in loaded.records("messages")[0]
    assert loaded.records("attachments")[0]["content"] == b"caf\xe9\n"
    assert "kept as attachments" in loaded.converted.warnings[0]


@pytest.mark.parametrize(
    "value",
    [
        "=?x-unknown?q?abc?=", "=?utf-8?b?!!?=", "=?utf-8?q?=FF?=", "=?", "<" * 1000, "\udce9",
    ],
)  # fmt: skip
def test_mbox_header_that_cannot_be_decoded_stays_as_it_is(value: str) -> None:
    """A header is never lost, and never stops the file."""
    raw = value.encode("latin-1", "surrogateescape")
    loaded = Loaded(FROM + b"Message-ID: <1>\nSubject: " + raw + b"\n\nx\n", "mbox")
    assert loaded.records("messages")[0]["subject"] == raw.decode("latin-1")


def test_mbox_attachment_with_bytes_in_its_name_is_kept() -> None:
    """A name or a type that is no ASCII is decoded like any header."""
    data = FROM + b'Message-ID: <1>\nContent-Type: image/\xe9; name="\xe9.png"\n\nx\n'
    (part,) = Loaded(data, "mbox").records("attachments")
    assert part["name"] == "é.png"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.lists(LINES, min_size=1, max_size=4), min_size=1, max_size=4))
def test_mbox_written_by_the_standard_library_is_read_back(
    tmp_path: Path, texts: list[list[str]]
) -> None:
    """What Python's mailbox module writes is what was meant."""
    path = tmp_path / "x.mbox"
    path.unlink(missing_ok=True)
    bodies = ["\n".join(lines) + "\n" for lines in texts]
    box = mailbox.mbox(path)
    for number, body in enumerate(bodies):
        message = EmailMessage()
        message["Message-ID"] = f"<{number}>"
        message.set_content(body, cte="base64")
        box.add(message)
    box.close()
    rows = Loaded(path.read_bytes(), "mbox").records("messages")
    assert [row["body_text"] for row in rows] == bodies


def _nested(depth: int) -> bytes:
    parts = (
        f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n".encode() for n in range(depth)
    )
    return FROM + b"".join(parts) + b"\nx\n"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (_nested(10_000), "limit-exceeded"),
        (_nested(150), "limit-exceeded"),
        (
            FROM + b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 10_000,
            "limit-exceeded",
        ),
        (b"hello\nyou\n", "invalid-file"),
        (b"\n\n", "no-rows"),
    ],
    ids=range(5),
)
def test_mbox_that_is_hostile_or_none_is_refused(data: bytes, code: str) -> None:
    """Depth and number of parts have their limits."""
    assert refuse(data, "mbox").code == code


def test_mbox_message_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One message cannot fill the memory."""
    monkeypatch.setattr(mbox_messages, "MAX_MESSAGE_BYTES", 1000)
    assert refuse(FROM + b"A: b\n\n" + b"x\n" * 1000, "mbox").extra == {"limit": "message"}


def test_mbox_file_of_others_is_read() -> None:
    """A file of node-mbox's tests."""
    rows = Loaded((DATA / "mbox" / "test-4-message.mbox").read_bytes(), "mbox").records("messages")
    assert [row["subject"] for row in rows] == ["mail 1", "mail 2", "mail 3", "mail 4"]
    assert rows[0]["date"] == "2011-12-25T21:33:37+08:00"
