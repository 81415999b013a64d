"""A client that is faster than the server: raw sockets, one request at a time a connection.

``python -m benchmarks.load URL CONNECTIONS SECONDS [HEADER…]``; ``%d`` in the URL becomes a number
that never comes twice. Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from urllib.parse import urlsplit


class Connection(asyncio.Protocol):
    """Asks again as soon as an answer is whole."""

    def __init__(self, request: str, numbers: itertools.count[int], times_s: list[float]) -> None:
        self._request = request
        self._numbers = numbers
        self._times_s = times_s
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._left = -1
        self._began_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Take part of an answer."""
        if self._left > len(data):
            self._left -= len(data)
            return
        if self._left == len(data):
            self._finish()
            return
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        if b" 200 " not in head[:20]:
            raise SystemExit(self._buffer.decode(errors="replace")[:500])
        at = head.find(b"content-length:")
        if at >= 0:
            length = int(head[at + 15 :].partition(b"\r\n")[0])
            self._left = length - (len(self._buffer) - end - 4)
            self._buffer = b""
            if self._left == 0:
                self._finish()
        elif self._buffer.endswith(b"\r\n0\r\n\r\n"):
            self._finish()

    def _ask(self) -> None:
        assert self._transport  # noqa: S101
        request = self._request
        if "%d" in request:
            request = request.replace("%d", str(next(self._numbers)))
        self._began_s = time.perf_counter()
        self._transport.write(request.encode())

    def _finish(self) -> None:
        self._times_s.append(time.perf_counter() - self._began_s)
        self._left, self._buffer = -1, b""
        self._ask()


async def load(url: str, connections: int, seconds: float, headers: list[str]) -> dict[str, float]:
    """Load a server; give requests a second, and the median and 99th percentile in seconds."""
    parts = urlsplit(url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    lines = [f"GET {target} HTTP/1.1", f"Host: {parts.netloc}", *headers, "", ""]
    numbers = itertools.count(time.time_ns() // 1000)
    times_s: list[float] = []
    loop = asyncio.get_running_loop()
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    made = [
        await loop.create_connection(
            lambda: Connection("\r\n".join(lines), numbers, times_s), host, port
        )
        for _ in range(connections)
    ]
    await asyncio.sleep(min(seconds / 4, 1.0))  # caches and templates are warm after this
    times_s.clear()
    began_s = time.perf_counter()
    await asyncio.sleep(seconds)
    took_s = time.perf_counter() - began_s
    found = sorted(times_s)
    for transport, _ in made:
        transport.abort()
    return {
        "per_second": len(found) / took_s,
        "p50_s": found[len(found) // 2],
        "p99_s": found[int(len(found) * 0.99)],
    }


if __name__ == "__main__":
    address, count, duration, *more = sys.argv[1:]
    print(json.dumps(asyncio.run(load(address, int(count), float(duration), more))))
