"""What a command was told to send, looked at before anything is sent."""

from __future__ import annotations

import glob
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace.errors import RemoteError
from headrace.remote.wording import is_utf8

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STDIN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing to send.

    Attributes:
        shown: As the person named it.
        path: The file; None: standard input.
        filename: What the server is told.
        size: Bytes; None: nobody knows.
        mtime_ns: When it was changed last; 0 for standard input.
        fields: The options.
    """

    shown: str
    path: Path | None
    filename: str
    size: int | None
    mtime_ns: int
    fields: Mapping[str, str]

    @property
    def said(self) -> str:
        """What people read: standard input is called as it is at the server."""
        return self.shown if self.path is not None else self.filename or self.shown


def find_items(names: Sequence[str], filename: str | None, fields: Mapping[str, str]) -> list[Item]:
    """Find what is to be sent: patterns that the shell left are expanded.

    Args:
        names: Files, patterns, and ``-``.
        filename: What the server is told, for one file.
        fields: The options.

    Raises:
        click.UsageError: One of them cannot be sent; nothing was.
    """
    shown = list(dict.fromkeys(each for name in names for each in _expand(name)))
    if filename is not None and len(shown) > 1:
        raise click.UsageError("--filename is for one file")
    items = [_look(each, filename, fields) for each in shown]
    _check_table(items, fields)
    return items


def item_of(path: Path, *, shown: str, filename: str, fields: Mapping[str, str]) -> Item:
    """Look at a file.

    Raises:
        OSError: It is not there, or cannot be read.
    """
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
    return Item(
        shown=shown,
        path=path,
        filename=filename,
        size=found.st_size,
        mtime_ns=found.st_mtime_ns,
        fields=fields,
    )


def check_name(name: str) -> None:
    """Check that a request can hold the name of a file.

    Raises:
        RemoteError: It is not UTF-8.
    """
    if not is_utf8(name):
        raise RemoteError(
            "its name is not UTF-8",
            hint="rename it, or push it alone with --filename",
            code="bad-name",
        )


def _expand(name: str) -> list[str]:
    if name == STDIN or Path(name).exists() or not glob.has_magic(name):
        return [name]
    matching = glob.glob(name, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute ones
    found = sorted(each for each in matching if not Path(each).is_dir())
    if not found:
        raise click.UsageError(f"no file is named like {name!r}")
    return found


def _look(shown: str, filename: str | None, fields: Mapping[str, str]) -> Item:
    if shown == STDIN:
        return _stdin(filename, fields)
    path = Path(shown)
    try:
        found = path.stat()
    except OSError as exc:
        raise click.UsageError(f"cannot read {shown}: {exc.strerror}") from exc
    if stat.S_ISDIR(found.st_mode):
        raise click.UsageError(
            f"{shown} is a folder: name its files, or have them pushed by `headrace watch {shown}`"
        )
    if not stat.S_ISREG(found.st_mode):
        raise click.UsageError(f"{shown} is no file: send it by `headrace push - < {shown}`")
    try:
        return item_of(path, shown=shown, filename=filename or path.name, fields=fields)
    except OSError as exc:
        raise click.UsageError(f"cannot read {shown}: {exc.strerror}") from exc


def _stdin(filename: str | None, fields: Mapping[str, str]) -> Item:
    if filename is None and "database" not in fields:
        raise click.UsageError("standard input has no name: give --filename, or --database")
    if sys.stdin.buffer.isatty():
        raise click.UsageError("standard input is a terminal: send something into it by a pipe")
    name = filename or ""
    return Item(shown=STDIN, path=None, filename=name, size=None, mtime_ns=0, fields=fields)


def _check_table(items: Sequence[Item], fields: Mapping[str, str]) -> None:
    """Refuse several files that would take each other's place."""
    table, mode = fields.get("table"), fields.get("mode", "replace")
    if len(items) > 1 and table and "{name}" not in table and mode in {"replace", "create"}:
        raise click.UsageError(
            f"{len(items)} files would take each other's place in the table {table!r}: "
            "say --mode append or upsert, or leave --table away"
        )
