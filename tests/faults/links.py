"""The network between two parts: TCP that is passed on, reset, or falls silent."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    Pair = tuple[asyncio.StreamWriter, asyncio.StreamWriter]

Mode = Literal["pass", "reset", "silent"]
_READ_BYTES = 64 * 1024


class Link:
    """Passes connections on to wherever is looked up for each of them.

    Args:
        target: Gives the port on 127.0.0.1, or None if there is nobody.
    """

    def __init__(self, target: Callable[[], int | None]) -> None:
        self._target = target
        self._mode: Mode = "pass"
        self._gate = asyncio.Event()
        self._gate.set()
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self.port = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen while the block runs; ``port`` says where."""
        server = await asyncio.start_server(self._begin, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    async def set_mode(self, mode: Mode) -> None:
        """Break the network, or mend it: whatever was open over a broken one is reset then."""
        if mode != "silent":
            for writer in self._open:
                writer.transport.abort()
        self._mode = mode
        if mode == "silent":
            self._gate.clear()
        else:
            self._gate.set()

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        upstream: asyncio.StreamWriter | None = None
        try:
            await self._gate.wait()
            port = None if self._mode == "reset" else self._target()
            if port is None:
                return
            answers, upstream = await asyncio.open_connection("127.0.0.1", port)
            self._open.add(upstream)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(reader, upstream))
                tasks.create_task(self._pump(answers, writer))
        except (OSError, ExceptionGroup):
            pass  # one of the two is gone
        finally:
            for each in (writer, upstream):
                if each is not None:
                    self._open.discard(each)
                    each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_READ_BYTES):
            await self._gate.wait()
            writer.write(chunk)
            await writer.drain()
        await self._gate.wait()
        with suppress(OSError):
            writer.write_eof()
