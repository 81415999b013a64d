"""A proxy before an object store that breaks as the network and the store do, while it runs.

One connection a request: whoever is answered is told to close, so that each request meets what is
broken at its own moment.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
    Fault = Callable[["FaultProxy", bytes, Streams], Awaitable[None]]

_LITESTREAM = b"aws-sdk-go"  # in its User-Agent
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close(2) sends RST
_READ_BYTES = 64 * 1024

_ERROR = """HTTP/1.1 {status}\r
Content-Type: application/xml\r
Content-Length: {length}\r
Connection: close\r
\r
{body}"""
_CREATED = b'HTTP/1.1 200 OK\r\nETag: "0"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
_ERROR_BODY = """<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>{code}</Code><Message>{message}</Message><RequestId>18EB56364DFECE38</RequestId></Error>"""


class FaultProxy:
    """Passes everything on to the store, but for the keys that are broken.

    Args:
        port: Where the store listens.

    """

    def __init__(self, port: int) -> None:
        self._faults: dict[str, Fault] = {}
        self._port = port
        self._serving: set[asyncio.Task[None]] = set()

    def note(self, request: bytes) -> None:
        """Take notice of a request; does nothing."""

    @contextmanager
    def broken(self, prefix: str, fault: Fault) -> Iterator[None]:
        """Let requests for keys with a prefix, and lists of them, meet a fault in the block.

        Who waits in a hanging request by then waits on: there is no answer to it.
        """
        self._faults[prefix] = fault
        try:
            yield
        finally:
            del self._faults[prefix]

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Listen while the block runs; give the port."""
        server = await asyncio.start_server(self._begin, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)  # asyncio itself would let go of one that hangs
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await _read_request(reader)
            self.note(request)
            target = unquote(request.split(b" ", 2)[1].decode())
            fault = next((f for prefix, f in self._faults.items() if prefix in target), passing)
            await fault(self, request, (reader, writer))
            if not writer.transport.is_closing():
                writer.write_eof()
                await reader.read()  # until the client has all of it, and has closed
        except (OSError, asyncio.IncompleteReadError):
            pass  # one of the two is gone
        finally:
            writer.transport.abort()

    @asynccontextmanager
    async def asked(self, request: bytes) -> AsyncIterator[asyncio.StreamReader]:
        """Ask the store; give its answer as it comes, to its end."""
        line, _, rest = request.partition(b"\r\n")
        upstream, asking = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            asking.write(line + b"\r\nConnection: close\r\n" + rest)  # no header that is signed
            yield upstream
        finally:
            asking.transport.abort()


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    """Read one request to its end; its body has a length, as S3 clients send it."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *(\d+)\r\n", head, re.IGNORECASE)
    return head + await reader.readexactly(int(length[1]) if length else 0)


# the faults


async def passing(proxy: FaultProxy, request: bytes, streams: Streams) -> None:
    """Hand the request on, and the store's answer back: no fault."""
    async with proxy.asked(request) as upstream:
        while chunk := await upstream.read(_READ_BYTES):
            streams[1].write(chunk)
            await streams[1].drain()


def answering(status: str, code: str, message: str) -> Fault:
    """Answer every request with an error, in S3's own form."""

    async def fault(_proxy: FaultProxy, _request: bytes, streams: Streams) -> None:
        body = _ERROR_BODY.format(code=code, message=message)
        streams[1].write(_ERROR.format(status=status, length=len(body), body=body).encode())

    return fault


async def creating_twice(proxy: FaultProxy, request: bytes, streams: Streams) -> None:
    """Answer as stores do that do not know If-None-Match: what is there is created once more."""
    async with proxy.asked(request) as upstream:
        answer = await upstream.read()
        refused = answer.split(b" ", 2)[1] == b"412"
        streams[1].write(_CREATED if refused else answer)


async def never_answering(_proxy: FaultProxy, _request: bytes, streams: Streams) -> None:
    """Take the request, and say nothing for as long as the client waits."""
    await streams[0].read()


def is_of_litestream(request: bytes) -> bool:
    """Tell Litestream's requests from obstore's."""
    return _LITESTREAM in request.partition(b"\r\n\r\n")[0]


def of_litestream(fault: Fault) -> Fault:
    """Give a fault that only Litestream meets."""

    async def selected(proxy: FaultProxy, request: bytes, streams: Streams) -> None:
        meets = fault if is_of_litestream(request) else passing
        await meets(proxy, request, streams)

    return selected


async def falling_silent(proxy: FaultProxy, request: bytes, streams: Streams) -> None:
    """Send half of the body, and then nothing for as long as the client waits."""
    await cutting_short(proxy, request, streams)
    await streams[0].read()


async def cutting_short(proxy: FaultProxy, request: bytes, streams: Streams) -> None:
    """Send half of the body, and end the connection."""
    async with proxy.asked(request) as upstream:
        head, end, body = (await upstream.read()).partition(b"\r\n\r\n")
        streams[1].write(head + end + body[: len(body) // 2])


async def resetting(_proxy: FaultProxy, _request: bytes, streams: Streams) -> None:
    """Reset the connection instead of an answer."""
    peer: socket.socket = streams[1].get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    streams[1].transport.abort()


def delaying(seconds: float) -> Fault:
    """Hand every request on, late."""

    async def fault(proxy: FaultProxy, request: bytes, streams: Streams) -> None:
        await asyncio.sleep(seconds)
        await passing(proxy, request, streams)

    return fault
