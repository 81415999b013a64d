"""Any ``*-to-sqlite`` tool, as the configuration names it: no shell, and nothing believed of it.

The tool runs within the converter's process's limits and in its group. It reads the file under the
file's own name, and what it makes is checked and rewritten as an uploaded database is.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.errors import Refusal
from ingest.converters import sqlite_file

if TYPE_CHECKING:
    from ingest.converters import Conversion, Converted

MAX_LINES = 10  # of what the tool says
MAX_LINE = 300  # characters
_TAIL_BYTES = 8192
_MAX_NAME_BYTES = 200  # file systems take 255
_SHORT_NAME = 50  # characters
_OUT_OF_MEMORY = ("MemoryError", "bad_alloc", "out of memory", "Cannot allocate memory")
_DISK_FULL = ("No space left on device", "database or disk is full")
_PAGE_BYTES = 65536  # SQLite's largest: a file that is nearer to its limit than that has met it
_LIMIT_SIGNALS = {int(signal.SIGXCPU): "cpu", int(signal.SIGXFSZ): "output"}


def convert(conversion: Conversion) -> Converted:
    """Run the command of the conversion's settings, and take the tables that it made.

    Raises:
        Refusal: ``converter-failed`` with the tool's last words, ``no-rows``, ``limit-exceeded``,
            or ``invalid-name`` (a table's name that the tool would take for an option).
    """
    with tempfile.TemporaryDirectory() as folder:
        source = _place(conversion, Path(folder))
        made = Path(folder, "made", "converted.db")
        made.parent.mkdir()
        words = {"input": str(source), "output": str(made), "table": conversion.table}
        arguments = [_fill(each, words) for each in conversion.settings["command"]]
        _run(arguments, Path(folder), made)
        if made.is_symlink() or not made.is_file():
            raise _failure(arguments, "made no database")
        return _check(conversion, made, arguments)


def _place(conversion: Conversion, folder: Path) -> Path:
    """Put the file into the folder under its own name: many a tool looks at its ending."""
    plain = conversion.filename.encode(errors="replace").decode()
    name = plain.replace("/", "_").replace("\0", "_")
    if len(name.encode()) > _MAX_NAME_BYTES:
        name = name[-_SHORT_NAME:]
    source = folder / "input" / (name if name.strip(".") else "input")
    source.parent.mkdir()
    try:
        source.hardlink_to(conversion.input)
    except OSError:  # another file system, or one without links
        shutil.copyfile(conversion.input, source)
    return source


def _fill(argument: str, words: dict[str, str]) -> str:
    filled = argument.format_map(words)
    if filled.startswith("-") and argument.startswith("{"):  # paths begin with "/"
        raise Refusal("invalid-name", "this format's tables may not begin with '-'")
    return filled


def _run(arguments: list[str], folder: Path, made: Path) -> None:
    """Run the tool; what it says on stderr is kept only if it fails."""
    # Where the service was told to import from is not the tool's concern.
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    beside = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join([beside, environment.get("PATH", os.defpath)])
    try:
        process = subprocess.Popen(  # noqa: S603 - of the configuration, and without a shell
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=folder,
            env=environment,
        )
    except OSError as exc:
        raise _failure(arguments, f"could not be started: {exc.strerror}") from exc
    with process:
        tail = b""
        assert process.stderr is not None  # noqa: S101 - a pipe
        while chunk := process.stderr.read1(_TAIL_BYTES):  # type: ignore[attr-defined]
            tail = (tail + chunk)[-_TAIL_BYTES:]
    if process.returncode != 0:
        lines = _last_lines(tail, folder)
        raise _death(
            arguments, process.returncode, lines, _limit_of(process.returncode, lines, made)
        )


def _last_lines(tail: bytes, folder: Path) -> list[str]:
    """Give the last lines that the tool wrote, printable, without the folder's name."""
    text = tail.decode(errors="replace").replace("\r", "\n")
    for private in (f"{folder}/input/", f"{folder}/made/", str(folder)):
        text = text.replace(private, "")
    lines = ["".join(filter(str.isprintable, line)).rstrip() for line in text.split("\n")]
    return [line[:MAX_LINE] for line in lines if line][-MAX_LINES:]


def _limit_of(status: int, lines: list[str], made: Path) -> str | None:
    """Give the limit that the tool died of, if it was one."""
    if any(words in line for words in _OUT_OF_MEMORY for line in lines):
        return "memory"
    largest_bytes, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    written_bytes = max((file.stat().st_size for file in made.parent.iterdir()), default=0)
    if largest_bytes != resource.RLIM_INFINITY and written_bytes > largest_bytes - _PAGE_BYTES:
        return "output"
    return _LIMIT_SIGNALS.get(-status)


def _death(arguments: list[str], status: int, lines: list[str], limit: str | None) -> Refusal:
    """Say how the tool failed: by a limit, a full disk, or in its own words."""
    if limit is not None:
        return Refusal(
            "limit-exceeded",
            f"{Path(arguments[0]).name} needs more {limit} than a conversion may use",
            extra={"limit": limit},
        )
    if any(words in line for words in _DISK_FULL for line in lines):
        return Refusal("disk-full", "the disk is full")
    how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    said = f": {lines[-1]}" if lines else ""
    return _failure(arguments, f"{how}{said}", stderr=lines)


def _check(conversion: Conversion, made: Path, arguments: list[str]) -> Converted:
    """Rewrite what the tool made as an uploaded database is: hostile until proven."""
    try:
        _settle(made)
        return sqlite_file.convert(replace(conversion, input=made, format="sqlite"))
    except sqlite3.DatabaseError as exc:
        raise _failure(arguments, f"made a damaged database: {exc}") from exc
    except Refusal as refusal:
        if refusal.code in ("invalid-file", "encrypted-file"):
            raise _failure(arguments, f"made a damaged database: {refusal.detail}") from refusal
        if refusal.code == "no-rows":
            raise Refusal("no-rows", f"{Path(arguments[0]).name} found no table") from refusal
        raise


def _settle(made: Path) -> None:
    """Bring home what a tool left in a journal beside its database."""
    if not any(made.with_name(f"{made.name}{ending}").exists() for ending in ("-wal", "-journal")):
        return
    with closing(sqlite3.connect(made, isolation_level=None)) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _failure(arguments: list[str], what: str, **extra: Any) -> Refusal:
    return Refusal("converter-failed", f"{Path(arguments[0]).name} {what}", extra=extra)
