"""The commands that work from any machine, as a person runs them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from headrace.errors import problem_document
from ingest.buffers import MOST_BYTES
from tests.e2e.tus_kit import kept_bytes
from tests.integration.fault_proxy import FaultProxy, passing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import System
    from tests.integration.fault_proxy import Streams

MEGABYTE = 1_000_000


class Person:
    """Somebody with a home of his own, and a token.

    Args:
        url: Of the server that is asked.
        token: None: none is in the environment.
        home: Where state and settings are kept.
    """

    def __init__(self, url: str, token: str | None, home: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if "HEADRACE" not in name}
        self.home = home
        self.env = {
            **kept,
            "HEADRACE_URL": url,
            "XDG_STATE_HOME": str(home / "state"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
            "COLUMNS": "200",
        }
        if token is not None:
            self.env["HEADRACE_TOKEN"] = token

    def command(self, *arguments: str) -> list[str]:
        """Give the words of a command."""
        return [sys.executable, "-m", "headrace", *arguments]

    def run(
        self, *arguments: str, stdin: bytes = b"", **env: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.home,
            env={**self.env, **env},
            input=stdin,
            capture_output=True,
            check=False,
            timeout=60,
        )

    async def start(self, *arguments: str, **env: str) -> asyncio.subprocess.Process:
        """Start a command."""
        return await asyncio.create_subprocess_exec(
            *self.command(*arguments),
            cwd=self.home,
            env={**self.env, **env},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )


def receipts_of(output: bytes) -> dict[str, dict[str, Any]]:
    """Read what --json prints: by path; nothing else may be there."""
    documents = [json.loads(line) for line in output.splitlines()]
    return {each["path"]: each for each in documents}


def csv_of(size: int, *, seed: int = 0) -> bytes:
    """Make a CSV that is a little larger, with rows that compress badly."""
    return b"".join(_lines(size, seed))


def _lines(size: int, seed: int) -> Iterator[bytes]:
    yield b"id,word\n"
    written, number = 0, seed
    while written < size:
        line = b"%d,%s\n" % (number, b"abcdefghij" * 20)
        number += 1
        written += len(line)
        yield line


class Wire(FaultProxy):
    """The network between a person and a server; counts what goes over it.

    Args:
        system: The server, with its primary.

    Attributes:
        sent: Bytes of each PATCH that were sent, in their order.
        kept_bytes: How many the primary had written of the one that met the fault.
        met: Set when the fault was met.
    """

    def __init__(self, system: System) -> None:
        super().__init__(system.port)
        self._system = system
        self.sent: list[int] = []
        self.kept_bytes = 0
        self.met = asyncio.Event()

    def note(self, request: bytes) -> None:
        """Count the bytes of a PATCH."""
        if request.startswith(b"PATCH "):
            self.sent.append(len(request.partition(b"\r\n\r\n")[2]))

    async def cut_in_the_middle(self, _proxy: FaultProxy, request: bytes, streams: Streams) -> None:
        """Hand on half of a chunk, then cut both connections; requests without one pass."""
        if not request.startswith(b"PATCH "):
            await passing(self, request, streams)
            return
        await self._hand_on_half(request)
        streams[1].transport.abort()

    async def hold_in_the_middle(
        self, _proxy: FaultProxy, request: bytes, streams: Streams
    ) -> None:
        """Hand on half of a chunk, and say nothing until the client is gone."""
        if not request.startswith(b"PATCH "):
            await passing(self, request, streams)
            return
        await self._hand_on_half(request)
        await streams[0].read()

    async def without_primary(self, _proxy: FaultProxy, _request: bytes, streams: Streams) -> None:
        """Answer as a reader does while the primary is away."""
        self.met.set()
        body = json.dumps(problem_document("primary-away", "the primary did not answer")).encode()
        head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
        streams[1].write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    async def _hand_on_half(self, request: bytes) -> None:
        """Hand it on until the primary has written all but what it gathers for its next write."""
        head, end, body = request.partition(b"\r\n\r\n")
        half = body[: len(body) // 2]
        _reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(head + end + half)
        await writer.drain()
        async with asyncio.timeout(30):
            while self.kept_bytes < len(half) - MOST_BYTES:
                await asyncio.sleep(0.01)
                self.kept_bytes = kept_bytes(self._system)
        writer.transport.abort()
        self.met.set()
