"""Compressed files and archives: unpacked in the cage, and each file converted as if sent alone.

A file may lie in one archive, which may be compressed, and be compressed within it; what is packed
deeper is refused. Each file makes its own tables; where the uploader named the table, rows of all
files go into that one.
"""

from __future__ import annotations

import resource
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from headrace.errors import Refusal
from headrace.metadata import refuse
from headrace.metadata_text import (
    FILE_NAME,
    MAX_TEXT_BYTES,
    is_list,
    is_metadata,
    load_metadata_text,
)
from headrace.names import MAX_TABLE_NAME, file_stem, free_name, safe_table_name
from ingest.converters import (
    Conversion,
    Converted,
    TableRows,
    find_ignored,
    refuse_ignored,
    run_converter,
)
from ingest.converters.combine import Staged, combine, find_joined_texts
from ingest.converters.packings import ARCHIVES, COMPRESSIONS, PACKINGS
from ingest.converters.progress import reporting
from ingest.converters.unpack import Room, decompress, read_archive, strip_ending
from ingest.detect import detect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME_PATTERN = "{name}"  # in a table's name: stands for the name of the file in an archive
MAX_WARNINGS = 100  # the rest is counted
_METADATA_PARTS = 2  # it lies at the top, or at that of a folder that all lies in
_MAX_LISTED = 10  # names in one warning
_UNPACKING_SHARE = 0.2  # of the work, as progress shows it
_WATCHED_BYTES = 1024 * 1024  # smaller files are done before one looks
# Refusals that say that there is nothing to convert, not that something is broken.
_NOTHING = frozenset({"unknown-format", "empty-file", "no-rows"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packed:
    """A file on its way out.

    Attributes:
        path: Where it lies.
        name: Its name, in the archive if it was in one.
        found: Its format, or packing.
        around: The packings around it, the outermost first.
        start: Where it begins in the bytes that were sent, as progress shows it.
        end: Where it ends there.
    """

    path: Path
    name: str
    found: str
    around: tuple[str, ...]
    start: float
    end: float


@dataclass(slots=True, kw_only=True)
class _Left:
    """What was not converted: names of hidden files, and why others hold nothing."""

    hidden: list[str] = field(default_factory=list)
    others: list[tuple[str, Refusal]] = field(default_factory=list)


def convert(conversion: Conversion) -> Converted:
    """Convert what is packed in a file.

    Raises:
        Refusal: What a file in it is refused for, with its name in ``file``; ``unsafe-archive``,
            ``encrypted-file``, ``invalid-file``, ``limit-exceeded`` or ``no-rows``.
    """
    with tempfile.TemporaryDirectory() as folder:
        return _Unpacking(conversion, Path(folder)).convert()


class _Unpacking:
    """One file that is being unpacked and converted."""

    def __init__(self, conversion: Conversion, folder: Path) -> None:
        self._conversion = conversion
        self._folder = folder
        self._size_bytes = conversion.input.stat().st_size
        self._files = 0
        self._rows = 0
        self._left = _Left()
        self._formats: dict[str, None] = {}  # a set that keeps its order
        self._outer: tuple[str, ...] = ()
        self._encodings: set[str | None] = set()
        self._ignored = conversion.wishes.reading  # by all files so far
        self._warnings: list[str] = []
        self._converted: dict[Path, Conversion] = {}  # by what became of it
        self._names: set[str] = set()  # of the tables so far, lower case
        self._metadata: tuple[_Packed, dict[str, Any]] | None = None

    def convert(self) -> Converted:
        whole = _Packed(
            path=self._conversion.input,
            name=self._conversion.filename,
            found=self._conversion.format,
            around=(),
            start=0.0,
            end=float(self._size_bytes),
        )
        staged = []
        for packed in self._unpack(whole):
            made = self._convert_file(packed)
            if made is not None:
                staged.append(made)
            if made is None or not self._conversion.table_given:  # else it may be needed again
                packed.path.unlink()
        if not staged and self._metadata is not None:  # it is all there is: so it is a file of rows
            packed, _document = self._metadata
            self._metadata = None
            if (made := self._convert_file(packed)) is not None:
                staged.append(made)
        if not staged:
            raise self._nothing()
        if self._ignored:
            raise refuse_ignored(self._ignored, f"{' and '.join(self._formats)} files")
        self._warn_of_left()
        tables = self._bring_together(staged)
        if len(self._warnings) > MAX_WARNINGS:
            rest = len(self._warnings) - MAX_WARNINGS
            self._warnings[MAX_WARNINGS:] = [f"{rest:,} more warnings"]
        return Converted(
            tables=tables,
            warnings=tuple(self._warnings),
            format=self._name_format(),
            encoding=self._encodings.pop() if len(self._encodings) == 1 else None,
            metadata=self._metadata[1] if self._metadata else None,
        )

    def _unpack(self, packed: _Packed) -> Iterator[_Packed]:
        """Unpack until there is a file of a format that is not a packing."""
        if packed.found not in PACKINGS:
            yield packed
            return
        _check_nesting(packed)
        inner = self._decompress if packed.found in COMPRESSIONS else self._read_archive
        for each in inner(packed):
            yield from self._unpack(each)

    def _decompress(self, packed: _Packed) -> Iterator[_Packed]:
        size = packed.end - packed.start
        path = self._new_path()
        decompress(
            packed.path,
            packed.found,
            path,
            self._room(),
            lambda done: self._report(packed.start + done * size * _UNPACKING_SHARE),
        )
        if packed.path != self._conversion.input:
            packed.path.unlink()
        name = strip_ending(packed.name, packed.found)
        start = packed.start + size * _UNPACKING_SHARE
        yield from self._recognise(packed, path, name, start, packed.end)

    def _read_archive(self, packed: _Packed) -> Iterator[_Packed]:
        start, size = packed.start, packed.end - packed.start
        for entry in read_archive(packed.path, packed.found, self._room()):
            end = packed.start + entry.done * size
            if entry.hidden:
                self._left.hidden.append(entry.name)
                continue
            path = self._new_path()
            entry.save(path)
            yield from self._recognise(packed, path, entry.name, start, end)
            start = end
        if packed.path != self._conversion.input:
            packed.path.unlink()

    def _recognise(
        self, outer: _Packed, path: Path, name: str, start: float, end: float
    ) -> Iterator[_Packed]:
        """Find the format of a file that was unpacked; one that has none is left, and noted."""
        try:
            found = detect(
                path,
                filename=name,
                media_type=None,
                encoding=self._conversion.wishes.encoding,
                registry=self._conversion.registry,
            )
        except Refusal as refusal:
            self._leave((*outer.around, outer.found), name, refusal)
            path.unlink()
            return
        around = (*outer.around, outer.found)
        packed = _Packed(path=path, name=name, found=found, around=around, start=start, end=end)
        document = _read_metadata(packed) if _archive_of(around) else None
        if document is None:
            yield packed
        elif self._metadata is None:
            self._metadata = (packed, document)
        else:
            first = self._metadata[0].name
            raise refuse("", f"there are two files of it in the archive: {first} and {name}")

    def _convert_file(self, packed: _Packed) -> Staged | None:
        """Convert one file into a staging database of its own."""
        output = self._folder / f"{self._files}.db"
        report = self._report_of(packed)

        def begin(step: str) -> None:
            self._conversion.begin(step)
            report(0, 0)  # what was done of the files before stays done

        inner = replace(
            self._conversion,
            input=packed.path,
            output=output,
            format=packed.found,
            filename=PurePosixPath(packed.name).name,
            media_type=None,
            table=self._name_table(packed),
            report=report,
            begin=begin,
        )
        if not self._conversion.table_given:  # the live table is the one of the name that it gets
            name = free_name(inner.table, self._names).lower()
            known = inner.texts.get(name, frozenset())
            inner = replace(inner, texts={**inner.texts, inner.table.lower(): known})
        if _archive_of(packed.around):  # what is for other files in there is none of this one's
            ignored = find_ignored(inner)
            inner = replace(inner, wishes=inner.wishes.without(ignored))
        else:
            ignored = frozenset()
        try:
            begin("read")
            converted = _run(inner)
        except Refusal as refusal:
            self._leave(packed.around, packed.name, refusal)
            return None
        self._converted[output] = inner
        for table in converted.tables:
            self._names.add(free_name(table.name, self._names).lower())
        self._ignored &= ignored
        self._encodings.add(converted.encoding)
        self._rows += sum(table.rows for table in converted.tables)
        prefix = f"{packed.name}: " if _archive_of(packed.around) else ""
        self._warnings += (f"{prefix}{warning}" for warning in converted.warnings)
        self._formats[_chain(converted.format or packed.found, _within(packed.around))] = None
        self._outer = packed.around[: len(packed.around) - len(_within(packed.around))]
        return Staged(path=output, tables=converted.tables, origin=packed.name)

    def _bring_together(self, staged: list[Staged]) -> tuple[TableRows, ...]:
        if len(staged) == 1:
            shutil.move(staged[0].path, self._conversion.output)
            return staged[0].tables
        unite = self._conversion.table_given
        if unite:
            self._keep_texts(staged)
        self._conversion.begin("write")
        tables, warnings = combine(staged, self._conversion.output, unite=unite)
        self._warnings += warnings
        return tables

    def _keep_texts(self, staged: list[Staged]) -> None:
        """Convert those files again whose numbers go into columns that have texts of others."""
        for path, joined in find_joined_texts(staged).items():
            path.unlink()
            self._conversion.begin("read again")
            _run(replace(self._converted[path], joined=joined))
        for conversion in self._converted.values():  # room for what is made of all of them
            conversion.input.unlink()

    def _name_table(self, packed: _Packed) -> str:
        """Name the table that a file makes, where it makes one."""
        given = self._conversion.table
        if not _archive_of(packed.around):
            return given
        own = safe_table_name(file_stem(packed.name))
        if not self._conversion.table_given:
            return own
        return given.replace(NAME_PATTERN, own)[:MAX_TABLE_NAME]

    def _leave(self, around: tuple[str, ...], name: str, refusal: Refusal) -> None:
        """Note a file of an archive that holds nothing; refuse all for any other reason."""
        if not _archive_of(around):
            raise refusal
        if refusal.code not in _NOTHING:
            raise Refusal(
                refusal.code,
                f"{name}: {refusal.detail}",
                hint=refusal.hint,
                line=refusal.line,
                column=refusal.column,
                extra={**refusal.extra, "file": name},
            ) from refusal
        self._left.others.append((name, refusal))

    def _warn_of_left(self) -> None:
        if self._left.hidden:
            self._warnings.append(f"hidden files were left out: {_list(self._left.hidden)}")
        for name, refusal in self._left.others:
            self._warnings.append(f"{name} was left out: {refusal.detail}")

    def _nothing(self) -> Refusal:
        if len(self._left.others) == 1:
            return self._left.others[0][1]
        names = [name for name, _ in self._left.others]
        known = list(self._conversion.registry.names)
        if any(refusal.code == "unknown-format" for _, refusal in self._left.others):
            return Refusal(
                "unknown-format",
                f"no file in the archive is of a known format: {_list(names)}",
                extra={"known": known},
            )
        return Refusal("no-rows", "the archive holds no file with rows")

    def _name_format(self) -> str:
        return _chain("+".join(self._formats), self._outer)

    def _report(self, done_bytes: float) -> None:
        self._conversion.report(self._rows, max(1, int(done_bytes)))

    def _report_of(self, packed: _Packed) -> Callable[[int, int], None]:
        """Give what shows a file's progress as a part of all that was sent."""
        size = packed.path.stat().st_size
        before = self._rows

        def report(rows: int, size_bytes: int) -> None:
            share = min(1.0, size_bytes / size)
            done = packed.start + share * (packed.end - packed.start)
            self._conversion.report(before + rows, max(1, int(done)))

        return report

    def _new_path(self) -> Path:
        self._files += 1
        return self._folder / str(self._files)

    def _room(self) -> Room:
        """Give the room for one packing: what a conversion may write."""
        limit_bytes, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if limit_bytes == resource.RLIM_INFINITY:
            limit_bytes = 1 << 62
        return Room(self._size_bytes, limit_bytes)


def _run(conversion: Conversion) -> Converted:
    """Convert; watch how far a file is that is not small."""
    if conversion.input.stat().st_size < _WATCHED_BYTES:
        return run_converter(conversion)
    step = ""

    def show(now: str, rows: int, size_bytes: int) -> None:
        nonlocal step
        if now != step:
            step = now
            conversion.begin(now)
        conversion.report(rows, size_bytes)

    with reporting(conversion, show) as watched:
        return run_converter(watched)


def _read_metadata(packed: _Packed) -> dict[str, Any] | None:
    """Read a file of an archive that says something about its database; None if it is any other.

    Raises:
        Refusal: ``invalid-metadata``.
    """
    path = PurePosixPath(packed.name)
    if len(path.parts) > _METADATA_PARTS or not FILE_NAME.fullmatch(path.name):
        return None
    if packed.path.stat().st_size > MAX_TEXT_BYTES:
        return None
    text = packed.path.read_bytes().decode(errors="replace")
    if is_list(text):
        return None
    try:
        document = load_metadata_text(text)
    except Refusal as refusal:
        refusal.extra["file"] = packed.name
        raise
    return document if is_metadata(document) else None


def _check_nesting(packed: _Packed) -> None:
    """Refuse an archive in an archive, and what is compressed twice."""
    again = packed.found in ARCHIVES and _archive_of(packed.around)
    twice = (
        packed.found in COMPRESSIONS and packed.around[-1:] and packed.around[-1] in COMPRESSIONS
    )
    if again or twice:
        raise Refusal(
            "limit-exceeded",
            f"{packed.name!r} is packed in too many layers",
            hint="unpack it, and send what is inside",
            extra={"limit": "nesting", "file": packed.name},
        )


def _archive_of(around: tuple[str, ...]) -> str | None:
    """Give the archive among the packings around a file."""
    return next((packing for packing in around if packing in ARCHIVES), None)


def _within(around: tuple[str, ...]) -> tuple[str, ...]:
    """Give the packings around a file that lie within the archive; none if there is no archive."""
    archive = _archive_of(around)
    return () if archive is None else around[around.index(archive) + 1 :]


def _chain(found: str, around: tuple[str, ...]) -> str:
    """Write a format as the name of such a file ends: ``csv.tar.gz``."""
    return ".".join([found, *(PACKINGS[packing] for packing in reversed(around))])


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED:,} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more
