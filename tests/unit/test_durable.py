"""Files that are complete under their name, or not there at all."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from headrace.durable import create_file, link_file, replace_file

if TYPE_CHECKING:
    from pathlib import Path


def test_file_is_created_once(tmp_path: Path) -> None:
    """The second who creates a file learns that it is taken, and changes nothing."""
    path = tmp_path / "log" / "1.json"
    create_file(path, b"first")

    with pytest.raises(FileExistsError):
        create_file(path, b"second")

    assert path.read_bytes() == b"first"
    assert [each.name for each in path.parent.iterdir()] == ["1.json"]


def test_file_is_replaced_whole(tmp_path: Path) -> None:
    """A reader finds the old bytes or the new ones."""
    path = tmp_path / "hint"
    for body in (b"a long first body", b"short"):
        replace_file(path, body)
        assert path.read_bytes() == body
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [create_file, replace_file])
def test_file_has_its_name_only_when_its_bytes_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: object
) -> None:
    """I1: a power cut leaves no empty log entry, which nobody could read or replace."""
    path = tmp_path / "1.json"
    seen: list[tuple[bool, int]] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        seen.append((path.exists(), os.fstat(descriptor).st_size))
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", watched)
    write(path, b"body")  # type: ignore[operator] # one of two functions

    (named_before, size), *_, (named_after, _) = seen
    assert (named_before, size) == (False, 4)
    assert named_after


@pytest.mark.parametrize("apart", [False, True])
def test_file_gets_a_second_name_or_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, apart: bool
) -> None:
    """What had the name is replaced whole, also across file systems, and again."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    source, target = tmp_path / "spool", tmp_path / "store" / "object"
    source.write_bytes(b"new")
    create_file(target, b"old")
    if apart:
        monkeypatch.setattr("os.link", refuse)
    for _ in range(2):
        link_file(source, target)
        assert target.read_bytes() == b"new"
        assert target.samefile(source) != apart
    assert [each.name for each in target.parent.iterdir()] == ["object"]
