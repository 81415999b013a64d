"""Resumable uploads by hand, and what breaks them."""

from __future__ import annotations

import base64
import os
import signal
import socket
import threading
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from tests.conftest import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import System

MEDIA_TYPE = "application/offset+octet-stream"


class Tus:
    """Requests to one reader.

    Args:
        system: It runs there.
        reader: Which one.
    """

    def __init__(self, system: System, reader: int = 0) -> None:
        self.port = system.port + reader
        self.url = f"http://127.0.0.1:{self.port}"
        self.headers = {**system.auth, "Tus-Resumable": "1.0.0"}

    def create(
        self,
        length: int | None,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        **said: str,
    ) -> httpx.Response:
        """Begin an upload; ``said`` are its metadata."""
        sent = {**self.headers, "Upload-Metadata": metadata(said)}
        if length is not None:
            sent["Upload-Length"] = str(length)
        if body:
            sent["Content-Type"] = MEDIA_TYPE
        url = f"{self.url}/ingest/tus"
        return httpx.post(url, headers={**sent, **(headers or {})}, content=body, timeout=60)

    def begin(self, length: int | None, **said: str) -> str:
        """Begin an upload; give its path."""
        answer = self.create(length, b"", None, **said)
        assert answer.status_code == 201, answer.text
        return answer.headers["Location"]

    def patch(self, path: str, offset: int, body: bytes, **headers: str) -> httpx.Response:
        """Append bytes."""
        sent = {**self.headers, "Content-Type": MEDIA_TYPE, "Upload-Offset": str(offset)}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.patch(f"{self.url}{path}", headers=sent, content=body, timeout=60)

    def head(self, path: str) -> httpx.Response:
        """Ask how far an upload is; knowing where it is, is enough."""
        headers = {"Tus-Resumable": "1.0.0"}
        return httpx.head(f"{self.url}{path}", headers=headers, timeout=60)

    def offset(self, path: str) -> int:
        """Give how far an upload is."""
        answer = self.head(path)
        assert answer.status_code == 200, answer.status_code
        return int(answer.headers["Upload-Offset"])

    def receipt(self, receipt_id: str) -> dict[str, Any]:
        """Read a receipt."""
        found: dict[str, Any] = httpx.get(f"{self.url}/ingest/receipts/{receipt_id}").json()
        return found

    def wait_until_live(self, receipt_id: str) -> dict[str, Any]:
        """Wait until every region shows an upload; give its receipt."""
        url = f"{self.url}/ingest/receipts/{receipt_id}?wait=30&for=regions"
        receipt: dict[str, Any] = httpx.get(url, timeout=60).json()
        assert receipt["state"] == "published", receipt
        return receipt

    @contextmanager
    def sending(self, path: str, offset: int, body: bytes, length: int) -> Iterator[socket.socket]:
        """Send the first bytes of a longer body, and leave it at that while the block runs."""
        head = [
            f"PATCH {path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            f"Content-Length: {length}",
        ]
        sent = {**self.headers, "Content-Type": MEDIA_TYPE, "Upload-Offset": str(offset)}
        head += [f"{name}: {value}" for name, value in sent.items()]
        with closing(socket.create_connection(("127.0.0.1", self.port))) as connection:
            connection.sendall("\r\n".join([*head, "", ""]).encode() + body)
            yield connection


def metadata(said: dict[str, str]) -> str:
    """Give ``Upload-Metadata``."""
    pairs = (f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in said.items())
    return ",".join(pairs)


def find_part(system: System, command: str, port: int) -> list[int]:
    """Find the process of a part of a system."""

    def is_it(pid: int) -> bool:
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            return command.encode() in words and str(port).encode() in words
        return False

    return list(filter(is_it, system.processes()))


def kill(system: System, command: str, port: int) -> None:
    """Kill a part of a system, and wait until it is gone; another takes its place."""
    (pid,) = find_part(system, command, port)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: pid not in find_part(system, command, port))


class Cutting:
    """A TCP proxy whose first connections are cut after some bytes of the client.

    Args:
        port: Where it passes things on to.
        cuts: After how many bytes each connection is reset; later ones are not.
    """

    def __init__(self, port: int, cuts: list[int]) -> None:
        self._to = port
        self._cuts = cuts
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.passed: list[int] = []  # bytes of each connection

    @contextmanager
    def listening(self) -> Iterator[int]:
        """Listen while the block runs; give the port."""
        thread = threading.Thread(target=self._serve)
        thread.start()
        try:
            yield self.port
        finally:
            self._server.shutdown(socket.SHUT_RDWR)
            thread.join()
            self._server.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                with client, socket.create_connection(("127.0.0.1", self._to)) as upstream:
                    self._pass(client, upstream)

    def _pass(self, client: socket.socket, upstream: socket.socket) -> None:
        cut = self._cuts[len(self.passed)] if len(self.passed) < len(self._cuts) else None
        self.passed.append(0)
        back = threading.Thread(target=_pump, args=(upstream, client))
        back.start()
        with suppress(OSError):
            while chunk := client.recv(16 * 1024):
                upstream.sendall(chunk)
                self.passed[-1] += len(chunk)
                if cut is not None and self.passed[-1] >= cut:
                    break
        for each in (client, upstream):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(16 * 1024):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
