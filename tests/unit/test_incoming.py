"""What a reader writes down of an upload that it took, and the primary reads."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from headrace.errors import LogError
from headrace.incoming import IncomingFile, IncomingRequest
from headrace.receipt import UploadState

FILE = IncomingFile(
    receipt_id="0" * 31 + "1",
    filename="größen.csv",
    media_type="text/csv",
    bytes=12,
    sha256="ab" * 32,
    archive="uploads/1/file.csv",
)
REQUEST = IncomingRequest(
    key=None,
    fields={"mode": "append", "wait_for": "regions"},
    files=(FILE, replace(FILE, receipt_id="0" * 31 + "2", media_type=None)),
    arrived_at=datetime(2026, 11, 22, 1, 33, 39, 479_000, tzinfo=UTC),
    reader="0123456789abcdef",
    region="fra",
    address="192.0.2.1",
)


def test_incoming_request_comes_back_as_it_was_written() -> None:
    """Nothing of a request is lost on its way through the store."""
    for request in (REQUEST, replace(REQUEST, key="of a client")):
        assert IncomingRequest.decode(request.encode()) == request


def test_incoming_request_is_found_by_its_key() -> None:
    """Two readers that are sent the same key write to the same place; others never do."""
    first = replace(REQUEST, key="once")
    again = replace(first, files=(replace(FILE, receipt_id="f" * 32),), reader="f" * 16)

    assert first.id == again.id
    assert len({first.id, replace(first, key="twice").id, REQUEST.id}) == 3
    assert REQUEST.id == FILE.receipt_id
    assert all(len(each.id) == 32 for each in (first, REQUEST))


def test_receipts_of_an_incoming_request_say_what_was_asked_for() -> None:
    """Before the primary has it, a receipt shows what is known of it by then."""
    first, second = REQUEST.receipts()

    assert (first.id, first.state, first.database) == (
        FILE.receipt_id,
        UploadState.RECEIVED,
        "grossen",
    )
    assert (first.mode, first.sha256, first.archive) == ("append", FILE.sha256, FILE.archive)
    assert (second.id, second.created_at) == ("0" * 31 + "2", REQUEST.arrived_at)


def without(name: str) -> bytes:
    """Give a request that lacks something."""
    document: dict[str, Any] = json.loads(REQUEST.encode())
    del document[name]
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{half",
        b"\xff",
        b"[]",
        b"[" * 200_000,
        REQUEST.encode().replace(b'"files": [{', b'"files": [{"more": 1, '),
        replace(REQUEST, files=()).encode(),
        *map(without, ("key", "fields", "files", "arrived_at", "reader", "region")),
    ],
)
def test_incoming_request_that_is_none_is_told(body: bytes) -> None:
    """What cannot be read is left where it is, and the others do not wait for it."""
    with pytest.raises(LogError, match="cannot read an incoming request"):
        IncomingRequest.decode(body)
