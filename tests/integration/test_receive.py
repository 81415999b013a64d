"""Streaming bodies to the spool."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from headrace.arriving import check_announced_size
from headrace.errors import Refusal
from ingest.receive import receive

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


async def pieces(*chunks: bytes, ends_with: Exception | None = None) -> AsyncIterator[bytes]:
    """Give a body in pieces, and then perhaps an error."""
    for chunk in chunks:
        yield chunk
    if ends_with is not None:
        raise ends_with


async def test_receive_writes_and_hashes_all(tmp_path: Path) -> None:
    """What arrives is on disk, byte for byte, with its SHA-256."""
    chunks = [bytes([n]) * 300_000 for n in range(20)]
    spooled = await receive(
        pieces(*chunks),
        tmp_path / "x",
        limit_bytes=10_000_000,
        piece_bytes=lambda: 1_000_000,
        require_room=lambda: None,
    )
    body = b"".join(chunks)
    assert (tmp_path / "x").read_bytes() == body
    assert spooled.bytes == len(body)
    assert spooled.sha256 == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize(
    ("body", "code", "arrived"),
    [
        (pieces, "empty-file", 0),
        (lambda: pieces(b"x" * 60, b"y" * 60), "too-large", 120),
        (
            lambda: pieces(b"abc", ends_with=Refusal("incomplete-body", "cut")),
            "incomplete-body",
            3,
        ),
        (lambda: pieces(b"abc", ends_with=OSError(28, "no space")), "disk-full", 3),
    ],
)
async def test_receive_refused_leaves_no_file(
    tmp_path: Path, body: object, code: str, arrived: int
) -> None:
    """Whatever goes wrong, the spool is clean and the bytes that came are counted."""
    with pytest.raises(Refusal) as refused:
        await receive(
            body(),  # type: ignore[operator]
            tmp_path / "x",
            limit_bytes=100,
            piece_bytes=lambda: 100,
            require_room=lambda: None,
        )
    assert refused.value.code == code
    assert refused.value.extra["bytes"] == arrived
    assert list(tmp_path.iterdir()) == []


def test_announced_size_over_the_limit_is_refused_early() -> None:
    """A client that says how much will come need not send it."""
    check_announced_size(None, 10)
    check_announced_size(10, 10)
    with pytest.raises(Refusal):
        check_announced_size(11, 10)
