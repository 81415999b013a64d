"""The user's configuration directory, and the copies that workers read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from headrace.errors import ConfigError
from serve.configuration import ConfigurationWatch, read_fingerprint

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give an empty configuration directory."""
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


def test_fingerprint_changes_with_every_file(folder: Path) -> None:
    """A new template, a changed one and a removed one are all seen."""
    seen = [read_fingerprint(folder)]
    template = folder / "templates" / "index.html"
    template.parent.mkdir()
    for text in ("one", "two!"):
        template.write_text(text)
        seen.append(read_fingerprint(folder))
    os.utime(template, (1, 1))
    seen.append(read_fingerprint(folder))
    template.unlink()

    assert len(set(seen)) == len(seen)
    assert read_fingerprint(folder) == seen[0]


def test_copy_stays_when_the_directory_changes(folder: Path, tmp_path: Path) -> None:
    """A worker that is forked later reads what the others of its set have read."""
    plugin = folder / "plugins" / "mine.py"
    plugin.parent.mkdir()
    plugin.write_text("sound = True")
    watch = ConfigurationWatch(folder, tmp_path / "copies")
    copy = watch.copy()
    plugin.write_text("raise RuntimeError")

    assert copy.folder
    assert (copy.folder / "plugins" / "mine.py").read_text() == "sound = True"
    assert copy.fingerprint == watch.fingerprint


def test_copy_links_to_databases_of_the_user(folder: Path, tmp_path: Path) -> None:
    """They are read and written where they are; what lies beside them is SQLite's."""
    for name in ("own.db", "own.db-wal", "settings.json"):
        (folder / name).write_text('{"base_url": "/x/"}')
    copy = ConfigurationWatch(folder, tmp_path / "copies").copy()

    assert copy.folder
    assert sorted(path.name for path in copy.folder.iterdir()) == ["own.db", "settings.json"]
    assert (copy.folder / "own.db").resolve() == (folder / "own.db").resolve()
    assert (copy.base_url, copy.live) == ("/x/", frozenset({"own"}))


def test_link_to_a_folder_above_ends(folder: Path, tmp_path: Path) -> None:
    """A directory that contains itself is copied once."""
    (folder / "again").symlink_to(folder)
    (folder / "metadata.yaml").write_text("title: Ours")
    copy = ConfigurationWatch(folder, tmp_path / "copies").copy()

    assert copy.folder
    assert [path.name for path in copy.folder.rglob("*")] == ["metadata.yaml"]


async def test_forgotten_copy_is_removed(folder: Path, tmp_path: Path) -> None:
    """Copies do not pile up, also not those that a killed reader left."""
    first = ConfigurationWatch(folder, tmp_path / "copies")
    first.copy()
    second = ConfigurationWatch(folder, tmp_path / "copies")
    copy = second.copy()
    assert len(list((tmp_path / "copies").iterdir())) == 1

    await second.forget(copy)

    assert list((tmp_path / "copies").iterdir()) == []


def test_copy_without_a_directory_is_plain_datasette(tmp_path: Path) -> None:
    """Nothing is written for who has no configuration."""
    assert ConfigurationWatch(None, tmp_path / "copies").copy().folder is None
    assert not (tmp_path / "copies").exists()


def test_file_that_cannot_be_copied_is_told(folder: Path, tmp_path: Path) -> None:
    """A configuration that cannot be read whole is not used in part."""
    (folder / "metadata.yaml").write_text("title: Ours")
    (tmp_path / "copies").write_text("a file is in the way")

    with pytest.raises(ConfigError, match="cannot read the configuration directory"):
        ConfigurationWatch(folder, tmp_path / "copies").copy()
