"""A folder that is watched, by the real inotify."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headrace.errors import HeadraceError
from headrace.remote.folder import ANYTHING, Change, Folder

LIMIT = Path("/proc/sys/fs/inotify/max_queued_events")


async def next_of(folder: Folder) -> Change:
    """Wait for the next change that is somebody's business."""
    async with asyncio.timeout(10):
        while (change := await folder.next_change()) is None:
            pass
    return change


async def test_more_events_than_the_kernel_holds_mean_a_look_at_everything(tmp_path: Path) -> None:
    """Nothing is missed because too much happened at once."""
    with Folder(tmp_path) as folder:
        assert folder.list_files() == set()
        one, other = tmp_path / "a.csv", tmp_path / "b.csv"
        one.write_bytes(b"1")
        for _ in range(int(LIMIT.read_text()) // 4 + 1):  # each is two events, and not the last's
            one.rename(other)
            other.rename(one)
        async with asyncio.timeout(20):
            while await folder.next_change() is not ANYTHING:
                pass
        assert folder.list_files() == {"a.csv"}


async def test_folder_that_is_renamed_is_watched_under_its_new_name(tmp_path: Path) -> None:
    """What is written in it afterwards is found where it is."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a.csv").write_bytes(b"1")
    with Folder(tmp_path) as folder:
        assert folder.list_files() == {"old/a.csv"}
        (tmp_path / "old").rename(tmp_path / "new")
        assert await next_of(folder) is ANYTHING
        assert folder.list_files() == {"new/a.csv"}
        (tmp_path / "new" / "b.csv").write_bytes(b"1")
        while (change := await next_of(folder)) is ANYTHING:
            pass
        assert change == Change(name="new/b.csv")


async def test_links_and_temporary_files_are_not_followed(tmp_path: Path) -> None:
    """Who may put a link into the folder publishes nothing that he may not read."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"1")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link.csv").symlink_to(secret)
    (root / "folder").symlink_to(tmp_path)
    (root / ".hidden.csv").write_bytes(b"1")
    with Folder(root) as folder:
        assert folder.list_files() == set()
        assert folder.find("link.csv") is None


async def test_folder_that_is_gone_ends_the_watch(tmp_path: Path) -> None:
    """Nobody believes that a folder is watched which is not there."""
    root = tmp_path / "root"
    root.mkdir()
    with Folder(root) as folder:
        folder.list_files()
        root.rmdir()
        with pytest.raises(HeadraceError, match="is gone"):
            await next_of(folder)
