"""Resumable uploads by hand."""

from __future__ import annotations

import base64
import socket
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import httpx

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


def kept_bytes(system: System) -> int:
    """Give how much the primary has written of the upload that it wrote to last."""
    files = [each for each in (system.data / "primary" / "tus").iterdir() if not each.suffix]
    newest = max(files, key=lambda each: each.stat().st_mtime_ns, default=None)
    return 0 if newest is None else newest.stat().st_size
