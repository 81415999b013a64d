"""Convert one file in a process of its own: limited, without secrets, never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import BinaryIO

import structlog

from headrace.errors import Refusal
from ingest.converters import (
    AHEAD,
    Conversion,
    Converted,
    Limits,
    decode_outcome,
    encode_request,
)
from ingest.converters.answers import decode_progress, decode_refused

__all__ = ["Conversion", "Converted", "Limits", "Process", "Spare", "convert", "start"]

log = structlog.get_logger()

_IMPORT_ROOT = Path(__file__).resolve().parents[1]
_KILL_DEADLINE_S = 10.0
_STDERR_TAIL_BYTES = 4096
_MAX_ANSWER_BYTES = 16 * 1024**2  # a line
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A converter's process, which takes one request, in a folder of its own."""

    process: asyncio.subprocess.Process
    folder: Path
    complaint: BinaryIO  # what it writes to stderr

    async def end(self) -> None:
        """End it, with all that it has started, and remove its folder."""
        await _end(self.process)
        self.complaint.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Spare:
    """Has a process ready for the next conversion: most of a small one's time is its start.

    It has read nothing, and does not outlive the conversion that takes it.

    Args:
        scratch: A folder on a disk with room.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._coming: asyncio.Task[Process] | None = None

    def prepare(self) -> None:
        """Start the next process, unless there is one."""
        if self._coming is None:
            self._coming = asyncio.create_task(start(self._scratch, ahead=True))

    async def take(self) -> Process | None:
        """Give the process away, if there is one that is of use."""
        coming, self._coming = self._coming, None
        if coming is None:
            return None
        try:
            process = await coming
        except OSError:  # it may be long ago
            return None
        if process.process.returncode is not None:
            await process.end()
            return None
        return process

    async def close(self) -> None:
        """End what nobody took."""
        process = await self.take()
        if process is not None:
            await process.end()


async def start(scratch: Path, *, ahead: bool = False) -> Process:
    """Start a process.

    Args:
        scratch: A folder on a disk with room: the process gets a folder in it, for itself alone.
        ahead: Whether it has time, before it gets its request, to import what most files need.
    """
    folder = Path(tempfile.mkdtemp(prefix="convert-", dir=scratch)).absolute()  # noqa: ASYNC240 - no I/O
    try:
        # A file, not a pipe: it may be written to for ever, and by processes that are left over.
        complaint = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by end()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # the current folder is no place to import from
            "-s",
            "-m",
            "ingest.converters",
            *([AHEAD] if ahead else ()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=complaint,
            cwd=folder,
            env=bare_environment(folder),
            start_new_session=True,  # a group of its own, to be killed as one
            limit=_MAX_ANSWER_BYTES,
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Process(process=process, folder=folder, complaint=complaint)


async def convert(
    conversion: Conversion, *, limits: Limits, scratch: Path, process: Process | None = None
) -> Converted:
    """Convert a file in a process of its own.

    Args:
        conversion: What to convert, and where to; on failure nothing is left at ``output``. Its
            ``begin`` and ``report`` are called with what the process says, a few times a second.
        limits: What the process may use.
        scratch: A folder on a disk with room, where a process is started if none is given.
        process: One that has no request yet; it is ended.

    Raises:
        Refusal: The converter's own, or ``limit-exceeded``, ``disk-full``, ``converter-crashed``.
    """
    if process is None:
        process = await start(scratch)
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


async def _run(conversion: Conversion, limits: Limits, started: Process) -> Converted:
    """Tell the process what to do, wait for its outcome, and end it whatever happens."""
    request = encode_request(_absolute(conversion), limits, parent_pid=os.getpid())
    process, complaint = started.process, started.complaint
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
        await _end(process)
    complaint.seek(max(0, complaint.seek(0, os.SEEK_END) - _STDERR_TAIL_BYTES))
    return _outcome(process.returncode or 0, answer, complaint.read())


async def _talk(
    process: asyncio.subprocess.Process, request: bytes, conversion: Conversion
) -> bytes:
    """Tell the process what to do, and listen until it ends; give the last line, its outcome."""
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stdout is not None  # noqa: S101
    with contextlib.suppress(ConnectionError):  # it died before it had read all: see its status
        process.stdin.write(request)
        await process.stdin.drain()
    process.stdin.close()
    line = b""
    step = ""
    try:
        async for line in process.stdout:
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


@cache
def _say_refused(reason: str) -> None:
    """Say that converters are not locked in as they should be; once, since it will not change."""
    log.warning("converters are not isolated", reason=reason)


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


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the process and all of its group, and wait until it is gone."""
    with contextlib.suppress(ProcessLookupError):  # also what it left behind when it ended
        os.killpg(process.pid, signal.SIGKILL)
    if process.returncode is None:
        # Shielded: also when this task is cancelled again, the process is waited for.
        await asyncio.shield(asyncio.wait_for(process.wait(), _KILL_DEADLINE_S))


def _absolute(conversion: Conversion) -> Conversion:
    """Give the conversion with paths that hold from any folder."""
    return replace(
        conversion, input=conversion.input.absolute(), output=conversion.output.absolute()
    )


def bare_environment(folder: Path) -> dict[str, str]:
    """Give the environment: made from nothing, so that no secret is in it."""
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        # A checkout need not be installed; plugins are found where the service finds them.
        "PYTHONPATH": os.pathsep.join([str(_IMPORT_ROOT), *_python_path()]),
        # The limit on memory counts what an allocator reserves: these two reserve little.
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "MALLOC_ARENA_MAX": "2",
        # The cage is entered before there are threads, and after Arrow is imported.
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
    }


def _python_path() -> list[str]:
    """Give the folders that the service was told to import from."""
    told = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [str(Path(folder).absolute()) for folder in told if folder]
