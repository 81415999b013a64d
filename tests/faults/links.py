"""The network between two parts: TCP that is passed on, late if it is far, reset, or silent."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    Pair = tuple[asyncio.StreamWriter, asyncio.StreamWriter]

Mode = Literal["pass", "reset", "silent"]
_READ_BYTES = 64 * 1024
_ON_THE_WAY = 1024  # chunks in each direction: a long way must not be a narrow one


class Link:
    """Passes connections on to wherever is looked up for each of them.

    Args:
        target: Gives the port on 127.0.0.1, or None if there is nobody.
        one_way_s: How long each byte is on its way; their order stays.

    Attributes:
        sent_bytes: Bytes of all clients that were handed on.
        silent_at_bytes: When there are so many of these, the network falls silent; None: never.
        round_trips: How often somebody waited for the way there and back: to connect, and for the
            answer to each request, unless it was sent before the last answer came.
    """

    def __init__(self, target: Callable[[], int | None], *, one_way_s: float = 0.0) -> None:
        self.sent_bytes = 0
        self.silent_at_bytes: int | None = None
        self.round_trips = 0
        self._one_way_s = one_way_s
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
            self.round_trips += 1
            await asyncio.sleep(2 * self._one_way_s)
            answers, upstream = await asyncio.open_connection("127.0.0.1", port)
            self._open.add(upstream)
            asking = False

            def note(*, request: bool) -> None:
                nonlocal asking
                self.round_trips += request and not asking
                asking = request

            async with asyncio.TaskGroup() as tasks:
                asks, tells = partial(note, request=True), partial(note, request=False)
                tasks.create_task(self._pump(reader, upstream, asks, self._count))
                tasks.create_task(self._pump(answers, writer, tells, _ignore))
        except (OSError, ExceptionGroup):
            pass  # one of the two is gone
        finally:
            for each in (writer, upstream):
                if each is not None:
                    self._open.discard(each)
                    each.transport.abort()

    def _count(self, size_bytes: int) -> None:
        self.sent_bytes += size_bytes
        if self.silent_at_bytes is not None and self.sent_bytes >= self.silent_at_bytes:
            self.silent_at_bytes = None
            self._mode = "silent"
            self._gate.clear()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        note: Callable[[], None],
        count: Callable[[int], None],
    ) -> None:
        way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_ON_THE_WAY)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._deliver(way, writer, count))
            while chunk := await reader.read(_READ_BYTES):
                note()
                await way.put((_now_s() + self._one_way_s, chunk))
            await way.put((_now_s() + self._one_way_s, b""))

    async def _deliver(
        self,
        way: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
        count: Callable[[int], None],
    ) -> None:
        while True:
            due_s, chunk = await way.get()
            await asyncio.sleep(max(due_s - _now_s(), 0))
            await self._gate.wait()
            if not chunk:
                break
            writer.write(chunk)
            await writer.drain()
            count(len(chunk))
        with suppress(OSError):
            writer.write_eof()


def _ignore(_size_bytes: int) -> None:
    """Count nothing."""


def _now_s() -> float:
    return asyncio.get_running_loop().time()
