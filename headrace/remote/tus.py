"""A client for tus 1.0 (https://tus.io/protocols/resumable-upload): goes on where it broke off.

tuspy 1.1, the client of the makers of tus, is not used: a chunk is held in memory whole and shown
only when it is over, each one makes a new connection, the asynchronous one asks for the offset by a
call that blocks, and an answer of 503 ends the upload as one of 403 does.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from headrace.errors import RefusedError, RemoteError, UnreachableError
from headrace.remote.server import SILENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from headrace.remote.insisting import Insisting
    from headrace.remote.server import Server
    from headrace.remote.sources import Chunk, Source

PATH = "/ingest/tus"
VERSION = {"Tus-Resumable": "1.0.0"}
MEDIA_TYPE = "application/offset+octet-stream"
BEGUN_AT_MOST = 3  # times: a server that forgets each upload is not asked for ever
FINISH_S = 600.0  # for the answer to the last bytes: the whole file is put into the store then

_GONE = frozenset({404, 410})
_WRONG_OFFSET = "wrong-offset"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How far an upload is.

    Attributes:
        offset: Bytes that the server has.
        receipt: Id of the receipt; None until it has all of them.
    """

    offset: int
    receipt: str | None


class TusSending:
    """One upload on its way.

    Args:
        server: Where it goes.
        source: What is sent.
        metadata: The file's name, and the options.
        key: Its ``Idempotency-Key``.
        insisting: Says how long what fails is tried again.
        on_place: Called with the upload's id, when it has one, and with None when it has none.
        on_sent: Called with how many bytes are sent, and with less when they were lost.
    """

    def __init__(
        self,
        server: Server,
        source: Source,
        *,
        metadata: Mapping[str, str],
        key: str,
        insisting: Insisting,
        on_place: Callable[[str | None], None],
        on_sent: Callable[[int], None],
    ) -> None:
        self._server = server
        self._source = source
        self._metadata = metadata
        self._key = key
        self._insisting = insisting
        self._on_place = on_place
        self._on_sent = on_sent
        self._begun = 0

    async def send(self, upload: str | None) -> str:
        """Send what the server does not have; give the id of the receipt.

        Args:
            upload: The id of one that was begun before; None: there is none.

        Raises:
            RemoteError: It cannot be sent, or was refused.
        """
        place: Place | None = None
        while True:
            try:
                if upload is None:
                    upload, place = await self._begin(), Place(offset=0, receipt=None)
                place = place or await self._find(upload)
                if place is None:  # the server forgot it
                    upload = None
                    self._on_place(None)
                    continue
                self._on_sent(place.offset)
                if place.receipt is not None:
                    return place.receipt
                place = await self._append(upload, place.offset)
                self._insisting.went_well()
            except UnreachableError as exc:
                before = place
                place = None
                if exc.code == "primary-away" and upload is None:
                    raise
                await self._insisting.pause(exc)
                if upload is not None and before is not None:
                    place = await self._see_progress(upload, before)

    async def cancel(self, upload: str) -> None:
        """Let the server forget an upload.

        Raises:
            RemoteError: It could not be told.
        """
        await self._server.ask("DELETE", f"{PATH}/{upload}", headers=VERSION)

    async def _begin(self) -> str:
        if self._begun == BEGUN_AT_MOST:
            raise RefusedError("the server forgot the upload again and again", code="upload-lost")
        size = self._source.size
        length = {"Upload-Defer-Length": "1"} if size is None else {"Upload-Length": str(size)}
        headers = {
            **VERSION,
            **length,
            "Upload-Metadata": encode_metadata(self._metadata),
            "Idempotency-Key": self._key,
        }
        response = await self._server.ask("POST", PATH, headers=headers)
        upload = httpx.URL(response.headers.get("Location", "")).path.rpartition("/")[2]
        if not upload:
            raise RemoteError("the server did not say where the upload is")
        self._begun += 1
        self._on_place(upload)
        return upload

    async def _find(self, upload: str) -> Place | None:
        """Ask how far an upload is; None if there is none any more."""
        try:
            response = await self._server.ask("HEAD", f"{PATH}/{upload}", headers=VERSION)
        except RefusedError as exc:
            if exc.document.get("status") in _GONE:
                return None
            raise
        return _read_place(response)

    async def _see_progress(self, upload: str, before: Place) -> Place | None:
        """Ask how far an upload is after a failure: if it got on, that is no failing at a stretch.

        Returns:
            None if that is not known: it is asked for again.
        """
        try:
            place = await self._find(upload)
        except UnreachableError:
            return None
        if place is not None and place.offset > before.offset:
            self._insisting.went_well()
        return place

    async def _append(self, upload: str, offset: int) -> Place | None:
        """Send a chunk; None if nobody knows how far the upload is by then."""
        chunk = await self._source.chunk_at(offset)
        headers = {
            **VERSION,
            "Upload-Offset": str(offset),
            "Content-Type": MEDIA_TYPE,
            "Content-Length": str(chunk.length),
        }
        if chunk.is_last and self._source.size is None:
            headers["Upload-Length"] = str(offset + chunk.length)
        content = self._blocks(offset, chunk) if chunk.length else b""
        try:
            response = await self._server.ask(
                "PATCH",
                f"{PATH}/{upload}",
                headers=headers,
                content=content,
                silence_s=FINISH_S if chunk.is_last else SILENCE_S,
            )
        except RefusedError as exc:
            if exc.code == _WRONG_OFFSET or exc.document.get("status") in _GONE:
                return None
            raise
        return _read_place(response)

    async def _blocks(self, offset: int, chunk: Chunk) -> AsyncIterator[bytes]:
        sent = offset
        async for block in self._source.blocks(offset, chunk.length):
            yield block
            sent += len(block)
            self._on_sent(sent)


def encode_metadata(metadata: Mapping[str, str]) -> str:
    """Give the header ``Upload-Metadata``."""
    return ",".join(
        f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in metadata.items()
    )


def _read_place(response: httpx.Response) -> Place:
    try:
        offset = int(response.headers["Upload-Offset"])
    except (KeyError, ValueError) as exc:
        raise RemoteError("the server did not say how far the upload is") from exc
    return Place(offset=offset, receipt=response.headers.get("Headrace-Receipt"))
