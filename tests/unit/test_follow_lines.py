"""The lines of the primary's stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace.errors import LogError
from serve import follow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    """Give chunks as a connection would."""
    for part in parts:
        yield part


async def test_lines_split_anywhere_are_whole() -> None:
    """Where the network cuts does not matter, and an unfinished last line is not taken."""
    lines = [line async for line in follow.split_lines(chunks(b"a", b"b\n\nc", b"d\n", b"cut"))]

    assert lines == [b"ab", b"", b"cd"]


async def test_lines_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that never ends its line does not fill the memory."""
    monkeypatch.setattr(follow, "MAX_LINE_BYTES", 10)

    with pytest.raises(LogError, match="longer than 10 bytes"):
        _ = [line async for line in follow.split_lines(chunks(b"x" * 6, b"x" * 6))]
