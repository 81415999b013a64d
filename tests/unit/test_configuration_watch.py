"""Watching the user's Datasette directory."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING

import pytest

from serve.configuration import LOOK_S, SETTLE_S, ConfigurationWatch, read_fingerprint
from tests.unit.loop_kit import now_s, run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a directory with a bit of everything."""
    folder = tmp_path / "config"
    for name in ("metadata.json", "mine.db", "plugins/one.py", "static/style.css"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("before")
    return folder


def watch(folder: Path, changes: Mapping[float, Callable[[], object]]) -> list[float]:
    """Watch for ten seconds while things change at some times; give when it was said."""

    async def main() -> list[float]:
        said_s: list[float] = []
        watching = ConfigurationWatch(folder, folder.parent / "copies")
        running = asyncio.create_task(watching.run(lambda: said_s.append(now_s())))
        for at_s, change in changes.items():
            await asyncio.sleep(at_s - now_s())
            change()
        await asyncio.sleep(10 - now_s())
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert watching.fingerprint == read_fingerprint(folder)
        return said_s

    return run(main())


def test_watch_says_each_change_once(folder: Path) -> None:
    """A change is told soon after it was made, and not again."""
    metadata = folder / "metadata.json"
    said_s = watch(folder, {0.5: lambda: metadata.write_text("a change"), 5.0: metadata.unlink})

    assert len(said_s) == 2
    assert 0.5 < said_s[0] <= 0.5 + LOOK_S + SETTLE_S
    assert 5.0 < said_s[1] <= 5.0 + LOOK_S + SETTLE_S


def test_watch_waits_until_a_change_is_complete(folder: Path) -> None:
    """While files are still being copied nothing is said: half a plugin would not start."""
    plugin = folder / "plugins" / "two.py"
    copying = {1 + n / 10: partial(plugin.write_bytes, bytes(n)) for n in range(30)}
    last_s = max(copying)

    (said_s,) = watch(folder, copying)

    assert last_s < said_s <= last_s + 2 * SETTLE_S


def test_watch_says_nothing_of_what_was_undone(folder: Path) -> None:
    """A file that an editor only keeps for a moment starts no new workers."""
    lock = folder / ".metadata.json.swp"

    assert watch(folder, {1.9: lock.touch, 2.1: lock.unlink}) == []


def test_watch_of_no_directory_ends_at_once(tmp_path: Path) -> None:
    """A reader without a directory of the user's looks nowhere."""
    watching = ConfigurationWatch(None, tmp_path / "copies")

    run(watching.run(pytest.fail))

    assert watching.fingerprint == ""


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file is larger": lambda folder: (folder / "metadata.json").write_text("afterwards"),
    "a file is written anew": lambda folder: os.utime(folder / "metadata.json", (1, 1)),
    "a file is gone": lambda folder: (folder / "static" / "style.css").unlink(),
    "a file is new": lambda folder: (folder / "plugins" / "two.py").touch(),
    "a file has another name": lambda folder: (folder / "plugins" / "one.py").rename(
        folder / "plugins" / "first.py"
    ),
    "a database is new": lambda folder: (folder / "more.sqlite3").touch(),
    "a linked folder is new": lambda folder: (folder / "linked").symlink_to(
        make_folder(folder.parent / "elsewhere")
    ),
}
NO_CHANGES: dict[str, Callable[[Path], object]] = {
    "a database is written": lambda folder: (folder / "mine.db").write_text("afterwards"),
    "a database has a WAL": lambda folder: (folder / "mine.db-wal").touch(),
    "Python keeps byte code": lambda folder: make_folder(folder / "plugins" / "__pycache__"),
    "git works": lambda folder: make_folder(folder / ".git"),
    "a link leads to nothing": lambda folder: (folder / "dead").symlink_to("nowhere"),
    "a link leads in a circle": lambda folder: (folder / "round").symlink_to(folder),
}


def make_folder(folder: Path) -> Path:
    """Make a folder with a file."""
    folder.mkdir()
    (folder / "file").touch()
    return folder


@pytest.mark.parametrize("change", CHANGES)
def test_fingerprint_changes_when_datasette_would_show_it(folder: Path, change: str) -> None:
    """Whatever workers read only when they start is seen."""
    before = read_fingerprint(folder)
    CHANGES[change](folder)

    assert read_fingerprint(folder) != before


@pytest.mark.parametrize("change", NO_CHANGES)
def test_fingerprint_stays_when_nothing_is_to_be_started_anew(folder: Path, change: str) -> None:
    """What Datasette sees by itself, or does not read, starts no workers."""
    before = read_fingerprint(folder)
    NO_CHANGES[change](folder)

    assert read_fingerprint(folder) == before
