"""What is read of a place where anybody may drop files."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

import pytest

from headrace.config import IngestSettings
from headrace.errors import ConfigError, ObjectChangedError, ObjectMissingError, StoreError
from headrace.store import Store
from ingest.buckets.folder import FolderPlace
from ingest.buckets.place import ObjectPlace
from ingest.buckets.places import make_watched

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.buckets.place import Found, Place


async def read(place: Place, found: Found) -> bytes:
    """Read an object that was found."""
    return b"".join([chunk async for chunk in place.stream(found)])


async def only(place: Place) -> Found:
    """Give the only object of a place."""
    (found,) = (await place.look()).found
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with one file."""
    made = tmp_path / "shared"
    (made / "sales").mkdir(parents=True)
    (made / "sales" / "a.csv").write_bytes(b"n\n1\n")
    return made


async def test_object_that_is_written_again_is_not_taken_for_the_one_found(store: str) -> None:
    """What is read is what was found, on every kind of store; else nothing is read or deleted."""
    objects = Store(store)
    await objects.replace("incoming/sales/a.csv", b"n\n1\n")
    place: Place = ObjectPlace(objects, "incoming")
    if objects.folder is not None:
        place = FolderPlace(objects.folder / "incoming", moves=True)
    found = await only(place)
    assert await place.find("sales/a.csv") == found
    assert await read(place, found) == b"n\n1\n"

    await objects.replace("incoming/sales/a.csv", b"n\n2\n")
    with pytest.raises(ObjectChangedError):
        await read(place, found)
    assert not await place.delete(found)
    assert await objects.read("incoming/sales/a.csv") == b"n\n2\n"
    assert await place.delete(await only(place))
    with pytest.raises(ObjectMissingError):
        await read(place, found)
    assert await place.find("sales/a.csv") is None
    assert not await place.set_aside(found)


async def test_file_that_is_written_to_while_it_is_read_is_not_taken(folder: Path) -> None:
    """A file that goes on growing is noticed at its end, however long it is."""
    (folder / "sales" / "a.csv").write_bytes(b"n\n" * 1_000_000)
    place = FolderPlace(folder, moves=False)
    chunks = place.stream(await only(place))
    await anext(chunks)
    with (folder / "sales" / "a.csv").open("ab") as file:
        file.write(b"1\n")
    with pytest.raises(ObjectChangedError, match="being written"):
        async for _chunk in chunks:
            pass


async def test_links_pipes_and_names_without_text_are_left_alone(folder: Path) -> None:
    """Nobody gets a file published that he cannot read, or keeps the primary waiting."""
    secret = folder.parent / "token"
    secret.write_text("secret")
    (folder / "link.csv").symlink_to(secret)
    (folder / "folder").symlink_to(folder.parent)
    os.mkfifo(folder / "pipe.csv")
    (folder / os.fsdecode(b"\xff.csv")).write_text("n\n1\n")
    place = FolderPlace(folder, moves=False)
    found = await only(place)
    assert found.name == "sales/a.csv"

    (folder / "sales" / "a.csv").unlink()
    (folder / "sales" / "a.csv").symlink_to(secret)
    with pytest.raises(StoreError):
        await read(place, found)
    (folder / "sales" / "a.csv").unlink()
    (folder / "sales").rmdir()
    moved = folder.parent / "elsewhere"
    moved.mkdir()
    (moved / "a.csv").write_text("n\n1\n")
    (folder / "sales").symlink_to(moved)
    assert await place.find("sales/a.csv") is None
    with pytest.raises(StoreError):
        await read(place, found)


async def test_file_that_cannot_be_looked_at_is_not_taken_for_absent(folder: Path) -> None:
    """Else a file would be taken without the options that lie beside it."""
    place = FolderPlace(folder, moves=False)
    for absent in ("none.csv", "none/a.csv", "sales/a.csv/b", "../a", "a\0", "a" * 300):
        assert await place.find(absent) is None
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, most))
    try:
        with pytest.raises(StoreError, match="Too many open files"):
            await place.find("sales/a.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))


async def test_file_is_not_set_aside_through_a_link(folder: Path) -> None:
    """Nobody gets a file written where he may not write himself."""
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (folder / "_failed").symlink_to(elsewhere)
    place = FolderPlace(folder, moves=True)
    found = await only(place)
    with pytest.raises(StoreError):
        await place.set_aside(found)
    with pytest.raises(StoreError):
        await place.write("_failed/sales/a.csv.error.json", b"{}")
    assert list(elsewhere.iterdir()) == []
    (folder / "_failed").unlink()
    await place.write("_failed/sales/a.csv.error.json", b"{}")
    assert await place.set_aside(found)
    assert (folder / "_failed" / "sales" / "a.csv").read_bytes() == b"n\n1\n"


async def test_key_that_cannot_be_read_hides_only_its_own_database(folder: Path) -> None:
    """One key of a hostile form, and all other databases are still looked at."""
    (folder / "evil").mkdir()
    (folder / "evil" / "a\n.csv").write_text("n\n1\n")
    place = ObjectPlace(Store(str(folder)))
    sight = await place.look()
    assert [each.name for each in sight.found] == ["sales/a.csv"]
    assert not sight.complete
    assert await place.find("evil//a.csv") is None
    assert len((await FolderPlace(folder, moves=False).look()).found) == 2


def test_file_that_is_moved_back_is_another_only_where_files_are_moved(folder: Path) -> None:
    """A kept file whose rights change is the same."""
    path = folder / "sales" / "a.csv"
    marks = [
        FolderPlace(folder, moves=moves)._found("sales/a.csv", path.lstat())  # noqa: SLF001
        for moves in (True, False)
    ]
    path.chmod(0o600)
    again = [
        FolderPlace(folder, moves=moves)._found("sales/a.csv", path.lstat())  # noqa: SLF001
        for moves in (True, False)
    ]
    assert [one == other for one, other in zip(marks, again, strict=True)] == [False, True]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"watch": ("store",)}, "its own files there"),
        ({"watch": ("store/incoming",)}, "its own files there"),
        ({"watch": (".",)}, "its own files there"),
        ({"watch": ("shared", "shared/sales")}, "twice"),
        ({"watch": ("shared",), "after_taking": "burn"}, "keep and move"),
        ({"mirror_deletes": True}, "mirror-deletes"),
        ({"watch": ("shared",), "mirror_deletes": True, "after_taking": "move"}, "mirror-deletes"),
    ],
)
def test_places_that_cannot_be_watched_are_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], said: str
) -> None:
    """Headrace's own objects are never taken for dropped files."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said):
        make_watched(IngestSettings(**settings), Store(str(tmp_path / "store")))  # type: ignore[arg-type]
