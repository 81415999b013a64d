"""One file on its way: sent, gone on with where it broke off, waited for, and compared."""

from __future__ import annotations

import asyncio
import secrets
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from headrace.errors import LateError, RefusedError, RemoteError, UnreachableError
from headrace.exits import Exit
from headrace.remote.following import ENDS, follow, read_receipt
from headrace.remote.insisting import Insisting
from headrace.remote.server import decode_document
from headrace.remote.sources import CHANGED, FileSource, StreamSource, changed
from headrace.remote.tus import TusSending
from headrace.remote.unfinished import Unfinished, mark_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from headrace.remote.files import Item
    from headrace.remote.server import Server
    from headrace.remote.sources import Source
    from headrace.remote.unfinished import UnfinishedUploads

# Up to here one request is cheaper than three, and sent again whole if it breaks off.
PLAIN_BYTES = 1_000_000
PLAIN_WAIT_S = 10  # in which most small files are published: no second request is needed then

_NO_TUS = frozenset({404, 405})


class Display(Protocol):
    """Shows how far things are; what it is told of an item is told in this order."""

    def sent(self, item: Item, count: int) -> None:
        """So many bytes were sent."""

    def trouble(self, item: Item, exc: RemoteError) -> None:
        """Something failed that is tried again."""

    def step(self, item: Item, name: str, progress: dict[str, Any] | None) -> None:
        """It is in another step at the server, or further in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for all files of a command.

    Attributes:
        wait: ``none``, ``published`` or ``regions``.
        retry_for_s: How long the server may be away at a stretch.
        timeout_s: How long a file may take in all; None: as long as it takes.
        first_for_s: How long it may be away if it never was there; None: as long.
    """

    wait: str
    retry_for_s: float
    timeout_s: float | None
    first_for_s: float | None = None


class Sending:
    """Sends files to one server.

    Args:
        server: Where they go.
        unfinished: What was begun by commands before.
        terms: What holds for all of them.
        display: Shows how far they are.
    """

    def __init__(
        self, server: Server, unfinished: UnfinishedUploads, terms: Terms, display: Display
    ) -> None:
        self._server = server
        self._unfinished = unfinished
        self._terms = terms
        self._display = display

    async def send(self, item: Item) -> dict[str, Any]:
        """Send a file, and wait for what becomes of it; give its receipt, also of one that failed.

        Raises:
            RemoteError: There is no receipt, or it is not where it should be in time.
        """
        one = _One(self._server, self._unfinished, self._terms, self._display, item)
        try:
            async with asyncio.timeout(self._terms.timeout_s):
                return await one.run()
        except TimeoutError as exc:
            raise one.late(f"it took longer than {self._terms.timeout_s:g} s") from exc


class _One:
    """One file on its way."""

    def __init__(
        self,
        server: Server,
        unfinished: UnfinishedUploads,
        terms: Terms,
        display: Display,
        item: Item,
    ) -> None:
        self._server = server
        self._unfinished = unfinished
        self._terms = terms
        self._display = display
        self._item = item
        self._receipt_id: str | None = None
        self._upload: str | None = None
        self._insisting = Insisting(
            terms.retry_for_s,
            lambda exc: display.trouble(item, exc),
            first_for_s=terms.first_for_s,
        )
        self._source: Source = StreamSource(sys.stdin.buffer)
        if item.path is not None and item.size is not None:
            self._source = FileSource(item.path, item.size, item.mtime_ns)
        self._mark: str | None = None  # standard input cannot be read again
        if item.path is not None and item.size is not None:
            said = {**item.fields, "filename": item.filename}
            self._mark = mark_of(server.url, item.path, item.size, item.mtime_ns, said)

    async def run(self) -> dict[str, Any]:
        """Send it, and wait."""
        begun = Unfinished(key=secrets.token_hex(16), upload=None)
        if self._mark is not None:
            begun = self._unfinished.begin(self._mark, self._item.shown)
        try:
            receipt = await self._transfer(begun.key, begun.upload)
            self._receipt_id = str(receipt["id"])
            receipt = await self._wait(receipt)
        except RemoteError as exc:
            if exc.exit_code is Exit.FAILED:
                self._end()
            raise
        self._end()
        await self._compare(receipt)
        return receipt

    def late(self, why: str) -> RemoteError:
        """Give the error of a file that is not done in time."""
        if self._receipt_id is None:
            return LateError(f"not sent in time: {why}", hint="the same command goes on there")
        return LateError(
            f"not done in time: {why}; the server goes on with it",
            hint=f"ask again: {self._server.url}/ingest/receipts/{self._receipt_id}",
            document={"receipt": self._receipt_id},
        )

    def _note(self, upload: str | None) -> None:
        self._upload = upload
        if self._mark is not None:
            self._unfinished.note(self._mark, upload)

    def _end(self) -> None:
        if self._mark is not None:
            self._unfinished.end(self._mark)

    async def _transfer(self, key: str, upload: str | None) -> dict[str, Any]:
        """Send the bytes; give the receipt as it is then."""
        chunk = await self._source.chunk_at(0)
        if upload is None and chunk.is_last and chunk.length <= PLAIN_BYTES:
            return await self._post(key, chunk.length)
        try:
            return await self._send_by_tus(key, upload)
        except UnreachableError as exc:
            if exc.code != "primary-away" or self._source.size is None:
                raise
            return await self._post(key, self._source.size)  # a reader takes it in its place
        except RefusedError as exc:
            without_tus = exc.document.get("status") in _NO_TUS and self._source.size is not None
            if not without_tus or self._source.size is None:
                raise
            return await self._post(key, self._source.size)

    async def _send_by_tus(self, key: str, upload: str | None) -> dict[str, Any]:
        metadata = dict(self._item.fields)
        if self._item.filename:
            metadata["filename"] = self._item.filename
        sending = TusSending(
            self._server,
            self._source,
            metadata=metadata,
            key=key,
            insisting=self._insisting,
            on_place=self._note,
            on_sent=lambda count: self._display.sent(self._item, count),
        )
        try:
            return {"id": await sending.send(upload), "state": "received"}
        except RemoteError as exc:
            if exc.code == CHANGED and self._upload is not None:
                with suppress(RemoteError):  # it expires
                    await sending.cancel(self._upload)
            raise

    async def _post(self, key: str, length: int) -> dict[str, Any]:
        """Send it in one request, which counts once however often it is sent."""
        params = dict(self._item.fields)
        if self._item.filename:
            params["filename"] = self._item.filename
        prefer = "respond-async" if self._terms.wait == "none" else f"wait={PLAIN_WAIT_S}"
        headers = {
            "Idempotency-Key": key,
            "Prefer": prefer,
            "Content-Length": str(length),
            "Content-Type": "application/octet-stream",
        }
        while True:
            try:
                response = await self._server.ask(
                    "POST",
                    "/ingest",
                    params=params,
                    headers=headers,
                    content=self._blocks(length) if length else b"",
                )
            except UnreachableError as exc:
                await self._insisting.pause(exc)
            except RefusedError as exc:
                return await self._find_refused(exc)
            else:
                self._insisting.went_well()
                return decode_document(response.text)

    async def _blocks(self, length: int) -> AsyncIterator[bytes]:
        sent = 0
        async for block in self._source.blocks(0, length):
            yield block
            sent += len(block)
            self._display.sent(self._item, sent)

    async def _find_refused(self, exc: RefusedError) -> dict[str, Any]:
        """Give the receipt of a file that was refused.

        Raises:
            RefusedError: It has none.
        """
        receipt_id = str(exc.document.get("instance", "")).rpartition("/")[2]
        if not receipt_id:
            raise exc
        return await read_receipt(self._server, receipt_id)

    async def _wait(self, receipt: dict[str, Any]) -> dict[str, Any]:
        """Wait until it is where it should be.

        Raises:
            LateError: Nobody could say for too long whether it is.
        """
        wait = self._terms.wait
        try:
            if wait == "none" and "sha256" not in receipt:
                return await read_receipt(self._server, str(receipt["id"]))
            if wait == "none" or receipt["state"] == "failed":
                return receipt
            if receipt["state"] in ENDS and wait != "regions":
                return receipt
            return await follow(
                self._server,
                str(receipt["id"]),
                regions=wait == "regions",
                insisting=self._insisting,
                on_step=lambda name, progress: self._display.step(self._item, name, progress),
            )
        except UnreachableError as exc:
            raise self.late(str(exc)) from exc

    async def _compare(self, receipt: dict[str, Any]) -> None:
        """Compare what arrived with what was sent.

        Raises:
            RemoteError: It is another file: it was changed meanwhile.
        """
        arrived = receipt.get("sha256")
        if arrived is None or receipt["state"] == "failed":
            return
        try:
            sent = await self._source.read_sha256()
        except OSError:  # it is not there any more: nobody can tell
            return
        if sent != arrived and self._item.path is not None:
            raise changed(self._item.path)
        if sent != arrived:
            raise RemoteError("what arrived is not what was sent", code=CHANGED)
