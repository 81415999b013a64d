"""Reading large objects, and listing, in a local folder and in another kind of store."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from headrace.errors import ObjectMissingError
from headrace.store import Store

if TYPE_CHECKING:
    from pathlib import Path

LARGE = secrets.token_bytes(9_000_000)


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Give an empty store."""
    return Store(str(tmp_path / "store") if request.param == "folder" else "memory:///")


async def test_large_object_goes_through_a_file_and_a_small_one_does_not(
    store: Store, tmp_path: Path
) -> None:
    """What is larger than the limit is never held in memory whole."""
    await store.replace("ltx/large", LARGE)
    spill = tmp_path / "spill"

    found = await store.read_or_spill("ltx/large", spill, memory_bytes=1_000_000, stall_s=30)

    assert not isinstance(found, bytes)
    assert found.read_bytes() == LARGE
    assert found == (spill if store.folder is None else store.folder / "ltx" / "large")
    body = await store.read_or_spill("ltx/large", spill, memory_bytes=9_000_000, stall_s=30)
    assert body == LARGE


async def test_missing_object_is_told_from_other_errors(store: Store, tmp_path: Path) -> None:
    """Who waits for an object must know that it is only not there yet."""
    with pytest.raises(ObjectMissingError, match="cannot read ltx/none"):
        await store.read_or_spill("ltx/none", tmp_path / "spill", memory_bytes=1, stall_s=30)


async def test_list_gives_names_and_sizes(store: Store) -> None:
    """A list holds what lies under the prefix, and nothing is under one that is not there."""
    await store.replace("ltx/0/a", b"1")
    await store.replace("ltx/0/b", b"22")
    await store.replace("ltx/1/c", b"333")

    assert await store.list_sizes("ltx/0", stall_s=30) == {"a": 1, "b": 2}
    assert await store.list_sizes("ltx/7", stall_s=30) == {}
