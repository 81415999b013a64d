"""Convert one file in a process of its own: limited, without secrets, never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

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

__all__ = ["Conversion", "Converted", "Limits", "convert"]

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


async def convert(conversion: Conversion, *, limits: Limits, scratch: Path) -> Converted:
    """Convert a file in a process of its own.

    Args:
        conversion: What to convert, and where to; on failure nothing is left at ``output``. Its
            ``report`` is called with what the process says, a few times a second.
        limits: What the process may use.
        scratch: A folder on a disk with room: the process gets a folder in it, for itself alone.

    Raises:
        Refusal: The converter's own, or ``limit-exceeded``, ``disk-full``, ``converter-crashed``.
    """
    folder = Path(tempfile.mkdtemp(prefix="convert-", dir=scratch)).absolute()  # noqa: ASYNC240 - no I/O
    try:
        return await _run(conversion, limits, folder)
    except BaseException:
        _remove_output(conversion.output)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_output(output: Path) -> None:
    """Remove what a failed conversion left, with the files that SQLite puts beside a database."""
    for ending in _SIDE_FILES:
        output.with_name(f"{output.name}{ending}").unlink(missing_ok=True)


async def _run(conversion: Conversion, limits: Limits, folder: Path) -> Converted:
    """Start the process, wait for its outcome, and end it whatever happens."""
    request = encode_request(_absolute(conversion), limits, parent_pid=os.getpid())
    # A file, not a pipe: it may be written to for ever, and by processes that are left over.
    with tempfile.TemporaryFile(dir=folder) as complaint:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # the current folder is no place to import from
            "-s",
            "-m",
            "ingest.converters",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=complaint,
            cwd=folder,
            env=bare_environment(folder),
            start_new_session=True,  # a group of its own, to be killed as one
            limit=_MAX_ANSWER_BYTES,
        )
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
    try:
        async for line in process.stdout:
            if (done := decode_progress(line)) is not None:
                conversion.report(*done)
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
    }


def _python_path() -> list[str]:
    """Give the folders that the service was told to import from."""
    told = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [str(Path(folder).absolute()) for folder in told if folder]
