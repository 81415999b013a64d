"""What a reader served last."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from headrace.generation import Cut, State
from serve.serving_file import ServingFile

if TYPE_CHECKING:
    from pathlib import Path

CUT = Cut(
    lineage="0" * 16,
    txid=1,
    page_size=4096,
    pages=3,
    tables={'a "b" <ü>': 5},
    updated_at=datetime(2026, 11, 22, tzinfo=UTC),
    source=None,
)
STATE = State(
    number=7,
    epoch=2,
    created_at=datetime(2026, 11, 22, tzinfo=UTC),
    databases={"sales": CUT, "weather": replace(CUT, txid=4)},
)


def keep(file: ServingFile, state: State) -> None:
    """Write a state down."""

    async def main() -> None:
        async with file.kept(state) as kept:
            await kept()

    asyncio.run(main())


def test_state_that_was_kept_is_read_again(tmp_path: Path) -> None:
    """I3: after a restart a reader knows what it served, one state after the other."""
    path = tmp_path / "serving.json"
    file = ServingFile(path)
    assert file.read() is None
    changed = {**STATE.databases, "sales": replace(CUT, txid=9), "people": CUT}
    for state in (STATE, replace(STATE, number=8, databases=changed), State()):
        keep(file, state)
        assert ServingFile(path).read() == state
    assert list(tmp_path.iterdir()) == [path]


def test_state_that_was_not_switched_to_is_not_kept(tmp_path: Path) -> None:
    """A set that fails on the way leaves what is in service written down."""
    file = ServingFile(tmp_path / "serving.json")
    keep(file, STATE)

    async def main() -> None:
        async with file.kept(replace(STATE, number=8)):
            pass

    asyncio.run(main())

    assert file.read() == STATE


def test_file_that_is_damaged_is_as_good_as_none(tmp_path: Path) -> None:
    """A reader starts anew from the log, whatever its disk has lost."""
    (tmp_path / "serving.json").write_bytes(b"{half")
    assert ServingFile(tmp_path / "serving.json").read() is None
