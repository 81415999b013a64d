"""Convert one file in a process of its own: limited, without secrets, never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import structlog

from headrace.errors import Refusal
from ingest.converters import (
    Conversion,
    Converted,
    Limits,
    decode_outcome,
    encode_request,
)
from ingest.converters.answers import decode_progress, decode_refused

if TYPE_CHECKING:
    from pathlib import Path

    from ingest.nursery import Nursery, Process

log = structlog.get_logger()

_STDERR_TAIL_BYTES = 4096
_SIDE_FILES = ("", "-journal", "-wal", "-shm")
_OUT_OF_MEMORY = (
    b"bad_alloc",
    b"out of memory",
    b"Cannot allocate memory",
    b"MemoryError",
    b"memory allocation of",
)
_LIMIT_SIGNALS = {
    signal.SIGXCPU: ("cpu", "the file needs more CPU time than a conversion may use"),
    signal.SIGXFSZ: ("output", "the file makes a larger database than a conversion may write"),
}


async def convert(conversion: Conversion, *, limits: Limits, nursery: Nursery) -> Converted:
    """Convert a file in a process of its own.

    Args:
        conversion: What to convert, and where to; on failure nothing is left at ``output``. Its
            ``begin`` and ``report`` are called with what the process says, a few times a second.
        limits: What the process may use.
        nursery: Forks the process.

    Raises:
        Refusal: The converter's own, or ``limit-exceeded``, ``disk-full``, ``converter-crashed``.
    """
    process = await nursery.fork()
    try:
        return await _run(conversion, limits, process)
    except BaseException:
        _remove_output(conversion.output)
        raise
    finally:
        await process.end()


def _remove_output(output: Path) -> None:
    """Remove what a failed conversion left, with the files that SQLite puts beside a database."""
    for ending in _SIDE_FILES:
        output.with_name(f"{output.name}{ending}").unlink(missing_ok=True)


async def _run(conversion: Conversion, limits: Limits, process: Process) -> Converted:
    """Tell the process what to do, wait for its outcome, and end it whatever happens."""
    request = encode_request(_absolute(conversion), limits)
    try:
        async with asyncio.timeout(limits.wall_s):
            answer = await _talk(process, request, conversion)
    except TimeoutError as exc:
        raise Refusal(
            "limit-exceeded",
            f"the conversion took longer than {limits.wall_s:g} s",
            extra={"limit": "wall"},
        ) from exc
    finally:
        await process.kill()
    complaint = process.complaint
    complaint.seek(max(0, complaint.seek(0, os.SEEK_END) - _STDERR_TAIL_BYTES))
    return _outcome(await process.wait(), answer, complaint.read())


@cache
def _say_refused(reason: str) -> None:
    """Say that converters are not locked in as they should be; once, since it will not change."""
    log.warning("converters are not isolated", reason=reason)


async def _talk(process: Process, request: bytes, conversion: Conversion) -> bytes:
    """Tell the process what to do, and listen until it ends; give the last line, its outcome."""
    line = b""
    step = ""
    with contextlib.suppress(ConnectionError):  # it died before it had read all: see its status
        process.request.write(request)
        await process.request.drain()
        process.request.write_eof()
        try:
            async for line in process.answers:
                if (said := decode_progress(line)) is not None:
                    if said[0] != step:
                        step = said[0]
                        conversion.begin(step)
                    conversion.report(*said[1:])
                elif (reason := decode_refused(line)) is not None:
                    _say_refused(reason)
        except ValueError:  # a line too long: whoever writes it may never end
            return b""
    await process.wait()
    return line


def _outcome(status: int, answer: bytes, complaint: bytes) -> Converted:
    """Give what the process made, or raise why it made nothing."""
    if status == 0:
        try:
            outcome = decode_outcome(answer)
        except (ValueError, KeyError, TypeError):
            status = -1
        else:
            if isinstance(outcome, Refusal):
                raise outcome
            return outcome
    raise _death(status, complaint[-_STDERR_TAIL_BYTES:])


def _death(status: int, complaint: bytes) -> Refusal:
    """Say why the process died.

    Args:
        status: Its exit status, or the negative number of the signal that ended it.
        complaint: The end of what it wrote to stderr.
    """
    if -status in _LIMIT_SIGNALS:
        limit, detail = _LIMIT_SIGNALS[signal.Signals(-status)]
        return Refusal("limit-exceeded", detail, extra={"limit": limit})
    if any(words in complaint for words in _OUT_OF_MEMORY):
        return Refusal(
            "limit-exceeded",
            "the file needs more memory than a conversion may use",
            extra={"limit": "memory"},
        )
    log.error(
        "converter crashed", status=status, where=complaint.decode(errors="replace").splitlines()
    )
    how = f"by signal {-status}" if status < 0 else f"with status {status}"
    return Refusal("converter-crashed", f"the converter's process ended {how}")


def _absolute(conversion: Conversion) -> Conversion:
    """Give the conversion with paths that hold from any folder."""
    return replace(
        conversion, input=conversion.input.absolute(), output=conversion.output.absolute()
    )
