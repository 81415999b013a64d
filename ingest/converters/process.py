"""The converter's process: reads a request on stdin, writes answers, a line each, on stdout."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import traceback
from pathlib import Path

from headrace.errors import Refusal
from ingest.converters import (
    Conversion,
    Converted,
    decode_request,
    encode_outcome,
    run_converter,
)
from ingest.converters.answers import encode_progress, encode_refused
from ingest.converters.cage import enter_cage
from ingest.converters.progress import reporting
from ingest.converters.shape import is_shaped, shape


def main() -> None:
    """Convert one file in the cage."""
    # Whatever else prints, prints to stderr: stdout is for answers alone.
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.excepthook = lambda _, exc, __: print_frames(exc)
    request = sys.stdin.buffer.read()
    if not request:  # nobody needs it any more
        return
    conversion, limits = decode_request(request)
    refused = enter_cage(limits, readable=(conversion.input, conversion.output.parent, Path.cwd()))
    if refused is not None:
        os.write(answers, encode_refused(refused))

    def show(step: str, rows: int, size_bytes: int) -> None:
        os.write(answers, encode_progress(step, rows, size_bytes))

    with reporting(conversion, show) as watched:
        outcome = convert_file(watched)
    with os.fdopen(answers, "wb") as file:
        file.write(encode_outcome(outcome))
    # All is said and done. What a library would still clean up, the parent does.
    sys.stderr.flush()
    os._exit(0)


def convert_file(conversion: Conversion) -> Converted | Refusal:
    """Convert, and give what came of it; only what nobody expects is raised on."""
    try:
        converted = run_converter(conversion)
        if is_shaped(conversion.wishes):
            conversion.begin("shape")
        return shape(conversion.output, converted, conversion.wishes)
    except Refusal as exc:
        return exc
    except Exception as exc:  # noqa: BLE001 - a message would show the file's contents
        known = refusal_for(exc)
        if known is None:
            print_frames(exc)
            raise SystemExit(1) from None
        return known


def refusal_for(exc: BaseException) -> Refusal | None:
    """Give the refusal for an error of the machine: memory, disk, limits; None for any other."""
    if isinstance(exc, MemoryError) or "can't start new thread" in str(exc):
        return Refusal(
            "limit-exceeded",
            "the file needs more memory than a conversion may use",
            extra={"limit": "memory"},
        )
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refusal("disk-full", "the disk is full")
    if isinstance(exc, sqlite3.Error):
        code = getattr(exc, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_FULL:
            return Refusal("disk-full", "the disk is full")
        if code == sqlite3.SQLITE_TOOBIG or "too big" in str(exc):
            return Refusal(
                "limit-exceeded", "a row is larger than a table can hold", extra={"limit": "value"}
            )
    elif "database or disk is full" in str(exc):  # the Arrow driver's SQLite
        return Refusal("disk-full", "the disk is full")
    return None


def print_frames(exc: BaseException) -> None:
    """Print where an error came from, without its message: that may hold what the file does."""
    for frame in traceback.extract_tb(exc.__traceback__):
        print(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}", file=sys.stderr)  # noqa: T201
    print(type(exc).__name__, file=sys.stderr)  # noqa: T201 - the parent reads it
