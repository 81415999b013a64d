"""Unpack compressed files and archives: hostile until proven.

Nothing is ever written under a name that an archive gives: each file goes to a path of ours, and is
only shown under its name. Still, an archive with names that leave its folder, with links or with
devices is refused: whoever made it meant something else than to send tables.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING

from backports import zstd

from headrace.errors import Refusal
from ingest.converters.packings import COMPRESSIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedIOBase
    from pathlib import Path

MAX_FILES = 10_000  # in one archive, folders and hidden files too
MAX_RATIO = 500  # bytes that one packed byte may become, once they are many
FREE_BYTES = 256 * 1024**2  # that may be unpacked whatever the ratio
MAX_NAME = 1024  # characters
_CHUNK_BYTES = 1024 * 1024
_ENCRYPTED = 0x1  # bit of a zip entry's flags
_MAC_FOLDER = "__MACOSX"
_LITTER = frozenset({_MAC_FOLDER.lower(), "thumbs.db", "desktop.ini"})

_OPEN: dict[str, Callable[[IO[bytes]], BufferedIOBase]] = {
    "gzip": lambda file: gzip.GzipFile(fileobj=file),
    "bzip2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
    "zstd": zstd.ZstdFile,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file of an archive.

    Attributes:
        name: As it is shown: printable, folders with ``/`` between.
        hidden: Whether it is what an operating system leaves behind.
        done: Share of the archive that lies before its end, from 0 to 1.
        save: Writes it to a path.
    """

    name: str
    hidden: bool
    done: float
    save: Callable[[Path], None]


class Room:
    """How much may be unpacked out of one file.

    Args:
        packed_bytes: Size of what was sent.
        limit_bytes: What all that comes out of it may have.
    """

    def __init__(self, packed_bytes: int, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._likely_bytes = max(FREE_BYTES, MAX_RATIO * packed_bytes)
        self._taken_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Take room for some bytes.

        Raises:
            Refusal: ``limit-exceeded``: ``unpacked`` or ``ratio``.
        """
        self._taken_bytes += size_bytes
        if self._taken_bytes > self._limit_bytes:
            raise Refusal(
                "limit-exceeded",
                f"the file unpacks to more than {self._limit_bytes:,} bytes",
                extra={"limit": "unpacked"},
            )
        if self._taken_bytes > self._likely_bytes:
            raise Refusal(
                "limit-exceeded",
                f"the file unpacks to more than {MAX_RATIO} times its size",
                hint="send it unpacked, or in parts",
                extra={"limit": "ratio"},
            )


def decompress(
    source: Path, packing: str, target: Path, room: Room, report: Callable[[float], None]
) -> None:
    """Decompress a file.

    Args:
        source: The file.
        packing: One of ``COMPRESSIONS``.
        target: The file to write.
        room: What may be written.
        report: Called with the share of the source that is done, from 0 to 1.

    Raises:
        Refusal: ``invalid-file``: it is damaged or cut off; ``limit-exceeded``.
    """
    size_bytes = source.stat().st_size
    with (
        _reading(f"the {packing} data"),
        source.open("rb") as file,
        _OPEN[packing](file) as stream,
        target.open("wb") as out,
    ):
        while chunk := stream.read(_CHUNK_BYTES):
            room.take(len(chunk))
            out.write(chunk)
            report(file.tell() / size_bytes)


def read_archive(source: Path, packing: str, room: Room) -> Iterator[Entry]:
    """Read the files of an archive, in its order.

    Raises:
        Refusal: ``unsafe-archive``, ``encrypted-file``, ``invalid-file`` or ``limit-exceeded``;
            from ``Entry.save`` too.
    """
    return _read_zip(source, room) if packing == "zip" else _read_tar(source, room)


def strip_ending(name: str, packing: str) -> str:
    """Give the name that a file has when it is decompressed."""
    path = PurePosixPath(name)
    if path.suffix.lower() == ".tgz":
        return str(path.with_suffix(".tar"))
    return str(path.with_suffix("")) if path.suffix.lower() == f".{COMPRESSIONS[packing]}" else name


def _read_zip(source: Path, room: Room) -> Iterator[Entry]:
    with _reading("the zip archive"):
        archive = zipfile.ZipFile(source)
    with archive:
        entries = archive.infolist()
        _check_count(len(entries))
        total_bytes = sum(entry.compress_size for entry in entries) or 1
        done_bytes = 0
        for entry in entries:
            name = _check_name(entry.filename)
            done_bytes += entry.compress_size
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if entry.is_dir():
                continue
            if kind not in (0, stat.S_IFREG):
                raise _unsafe(name, "is a link or a device")
            if entry.flag_bits & _ENCRYPTED:
                raise Refusal(
                    "encrypted-file",
                    f"{name!r} in the archive is encrypted",
                    hint="pack it without a password",
                    extra={"file": name},
                )

            def save(path: Path, entry: zipfile.ZipInfo = entry) -> None:
                with _reading(f"{entry.filename!r} in the archive"), archive.open(entry) as stream:
                    _copy(stream, path, room)

            yield Entry(
                name=name, hidden=_is_hidden(name), done=done_bytes / total_bytes, save=save
            )


def _read_tar(source: Path, room: Room) -> Iterator[Entry]:
    size_bytes = source.stat().st_size
    with source.open("rb") as file, _reading("the tar archive"):
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for number, entry in enumerate(archive, start=1):
                _check_count(number)
                name = _check_name(entry.name)
                if entry.isdir():
                    continue
                if not entry.isreg():
                    raise _unsafe(name, "is a link or a device")

                def save(path: Path, entry: tarfile.TarInfo = entry) -> None:
                    with _reading(f"{entry.name!r} in the archive"):
                        stream = archive.extractfile(entry)
                        assert stream is not None  # noqa: S101 - it is a regular file
                        _copy(stream, path, room)

                end = entry.offset_data + entry.size
                yield Entry(
                    name=name,
                    hidden=_is_hidden(name),
                    done=min(1.0, end / size_bytes),
                    save=save,
                )
            ended_at = archive.offset
        # tarfile takes a damaged header after the first one for the archive's end.
        file.seek(ended_at)
        block = file.read(tarfile.BLOCKSIZE)
        if not block or block.strip(b"\0"):
            raise Refusal("invalid-file", "the tar archive is damaged, or was cut off")


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Turn what the libraries raise for damaged data into a refusal."""
    try:
        yield
    except NotImplementedError as exc:  # a method of compression, or a version of the format
        raise Refusal("invalid-file", f"{what} is packed in a way that is not known") from exc
    except OSError as exc:
        # Others are the machine's. EINVAL: a zip file's directory names a place before its start.
        if exc.errno not in {None, errno.EINVAL}:
            raise
        raise Refusal("invalid-file", f"{what} is damaged") from exc
    except EOFError as exc:
        raise Refusal("invalid-file", f"{what} ends too early: it was cut off") from exc
    except (
        zlib.error,
        lzma.LZMAError,
        zstd.ZstdError,
        zipfile.BadZipFile,
        tarfile.TarError,
        UnicodeDecodeError,
        ValueError,
        OverflowError,
    ) as exc:
        raise Refusal("invalid-file", f"{what} is damaged, or was cut off") from exc


def _copy(stream: IO[bytes], path: Path, room: Room) -> None:
    with path.open("wb") as out:
        while chunk := stream.read(_CHUNK_BYTES):
            room.take(len(chunk))
            out.write(chunk)


def _check_count(number: int) -> None:
    if number > MAX_FILES:
        raise Refusal(
            "limit-exceeded",
            f"the archive holds more than {MAX_FILES:,} files",
            extra={"limit": "files"},
        )


def _check_name(name: str) -> str:
    """Give a name as it may be shown; refuse one that leaves the folder it is unpacked in."""
    plain = name.replace("\\", "/")
    shown = "".join(each if each.isprintable() else "\ufffd" for each in plain[:MAX_NAME])
    drive = len(plain) > 1 and plain[1] == ":" and plain[0].isalpha()
    if plain.startswith("/") or drive or ".." in plain.split("/"):
        raise _unsafe(shown, "would be unpacked outside of its folder")
    return shown


def _is_hidden(name: str) -> bool:
    """Say whether a file is there for an operating system, and not for people."""
    parts = [part for part in name.lower().split("/") if part not in ("", ".")]
    return any(part.startswith(".") or part in _LITTER for part in parts)


def _unsafe(name: str, why: str) -> Refusal:
    return Refusal("unsafe-archive", f"{name!r} in the archive {why}", extra={"file": name})
