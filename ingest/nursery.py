"""The service's side of the process that converters are forked from.

A converter forked from a process that has Arrow imported costs a few milliseconds of CPU time, not
the fifth of a second that a new interpreter takes to import it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import structlog

log = structlog.get_logger()

_IMPORT_ROOT = Path(__file__).resolve().parents[1]
_KILL_DEADLINE_S = 10.0
_FORK_DEADLINE_S = 30.0  # also of a process that has yet to import Arrow from a cold disk
_MAX_ANSWER_BYTES = 16 * 1024**2  # a line


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A converter's process, which takes one request, in a folder of its own.

    Attributes:
        pid: Of it, and of the group that it leads.
        folder: Its folder.
        answers: What it says.
        request: What it is told.
        complaint: What it writes to stderr.
        fate: What becomes of it.
    """

    pid: int
    folder: Path
    answers: asyncio.StreamReader
    request: asyncio.StreamWriter
    complaint: BinaryIO
    fate: Fate

    async def wait(self) -> int:
        """Wait until it has ended; give its exit status, or below 0 the signal that ended it."""
        status = await self.fate.read("status")
        return -signal.SIGKILL if status is None else status  # its nursery died, and it with that

    async def kill(self) -> None:
        """Kill it and all of its group, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):  # also what it left behind when it ended
            os.killpg(self.pid, signal.SIGKILL)
        # Shielded: also when this task is cancelled again, the process is waited for.
        await asyncio.shield(asyncio.wait_for(self.wait(), _KILL_DEADLINE_S))

    async def end(self) -> None:
        """End it, with all that it has started, and remove its folder."""
        try:
            await self.kill()
        finally:
            _close(self.request, self.fate, self.complaint)
            shutil.rmtree(self.folder, ignore_errors=True)


class Fate:
    """What becomes of a process, a line each: its id, then its status."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._known: dict[str, int] = {}
        self._reading = asyncio.Lock()

    async def read(self, word: str) -> int | None:
        """Wait for what a word stands for; None if nobody will say."""
        async with self._reading:
            while word not in self._known:
                said = (await self._reader.readline()).split()
                if len(said) != 2:  # noqa: PLR2004 - the word, and a number
                    return None
                self._known[said[0].decode()] = int(said[1])
        return self._known[word]

    def close(self) -> None:
        """Listen no more."""
        self._writer.close()


class Nursery:
    """Forks converters; its process is started when first needed, again when it died or hangs.

    Args:
        scratch: An existing folder on a disk with room.
    """

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._process: asyncio.subprocess.Process | None = None
        self._orders: socket.socket | None = None
        self._turn = asyncio.Lock()  # one order at a time: descriptors belong to one

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        running = self._process is not None and self._process.returncode is None
        return self._process.pid if running and self._process else None

    async def start(self) -> None:
        """Start the process, so that the first conversion finds it warm."""
        async with self._turn:
            if self.pid is None:
                await self._start()

    async def fork(self) -> Process:
        """Fork a converter.

        Raises:
            OSError: There is no more memory, or there are too many files or processes.
        """
        folder = Path(tempfile.mkdtemp(prefix="convert-", dir=self._scratch)).absolute()  # noqa: ASYNC240 - no I/O
        try:
            async with self._turn:
                process = None if self.pid is None else await self._fork(folder)
                if process is None:  # there was none, it has died since, or hung
                    await self._start()
                    process = await self._fork(folder)
            if process is None:
                raise ChildProcessError("the process that forks converters cannot be started")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return process

    async def close(self) -> None:
        """End the process, and all converters with it."""
        async with self._turn:
            await self._stop()

    async def _start(self) -> None:
        await self._stop()
        theirs, self._orders = socket.socketpair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-s", "-m", "ingest.converters"),  # -P: no current folder
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
                cwd="/",
                env=bare_environment(self._scratch),
                start_new_session=True,  # a Ctrl-C in the terminal is for the service alone
            )

    async def _stop(self) -> None:
        if self._orders is not None:
            self._orders.close()
        if self._process is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _KILL_DEADLINE_S)
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
        self._process = self._orders = None

    async def _fork(self, folder: Path) -> Process | None:
        """Order one; None if the process cannot be asked, or had to be killed as it hung."""
        assert self._process is not None  # noqa: S101 - it is started
        assert self._orders is not None  # noqa: S101 - as above
        talk, their_talk = socket.socketpair()
        status, their_status = socket.socketpair()
        # A file, not a pipe: it may be written to for ever, and by processes that are left over.
        complaint = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by whoever ends it
        with their_talk, their_status:
            descriptors = [their_talk.fileno(), complaint.fileno(), their_status.fileno()]
            with contextlib.suppress(ConnectionError):  # then nobody says a process id
                socket.send_fds(self._orders, [os.fsencode(folder)], descriptors)
        answers, request = await asyncio.open_connection(sock=talk, limit=_MAX_ANSWER_BYTES)
        fate = Fate(*await asyncio.open_connection(sock=status))
        try:
            async with asyncio.timeout(_FORK_DEADLINE_S):
                pid = await fate.read("pid")
        except TimeoutError:
            log.error("nursery hangs", pid=self.pid)  # noqa: TRY400 - the trace says nothing
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            pid = None
        except BaseException:  # whoever is forked finds no request, and ends
            _close(request, fate, complaint)
            raise
        if pid is None:
            _close(request, fate, complaint)
            return None
        return Process(
            pid=pid,
            folder=folder,
            answers=answers,
            request=request,
            complaint=complaint,
            fate=fate,
        )


def _close(*opened: asyncio.StreamWriter | Fate | BinaryIO) -> None:
    for each in opened:
        each.close()


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
