"""What becomes of an upload after it was sent, by the server's events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import httpx_sse

from headrace.errors import RemoteError, UnreachableError
from headrace.remote.server import CONNECT_S, decode_document, error_of, unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.remote.insisting import Insisting
    from headrace.remote.server import Server

    OnStep = Callable[[str, dict[str, Any] | None], None]

SILENCE_S = 45.0  # a heartbeat comes every 5
ENDS = frozenset({"published", "failed"})
_NO_MORE_EVENTS = 204


async def read_receipt(server: Server, receipt_id: str) -> dict[str, Any]:
    """Read a receipt.

    Raises:
        RemoteError: It cannot be had.
    """
    response = await server.ask("GET", f"/ingest/receipts/{receipt_id}")
    return decode_document(response.text)


async def follow(
    server: Server, receipt_id: str, *, regions: bool, insisting: Insisting, on_step: OnStep
) -> dict[str, Any]:
    """Wait until an upload is published or has failed; give its receipt.

    Args:
        server: Any reader.
        receipt_id: Of the upload.
        regions: Wait until all regions show it.
        insisting: Says how long the server may be away.
        on_step: Called with the name of a state or ``live``, and how far that is.

    Raises:
        RemoteError: Nobody can say.
    """
    following = _Following(server, receipt_id, regions=regions, on_step=on_step)
    while True:
        try:
            found = await following.listen()
            if found is not None:
                return found
            raise UnreachableError(f"{server.url} cannot say what becomes of {receipt_id} now")
        except UnreachableError as exc:
            if following.heard:
                insisting.went_well()
                following.heard = False
            await insisting.pause(exc)


class _Following:
    """One upload that is listened to.

    Attributes:
        heard: Whether an event came.
    """

    def __init__(self, server: Server, receipt_id: str, *, regions: bool, on_step: OnStep) -> None:
        self.heard = False
        self._server = server
        self._receipt_id = receipt_id
        self._regions = regions
        self._on_step = on_step
        self._last = ""

    async def listen(self) -> dict[str, Any] | None:
        """Hear one stream; None if it ended before the upload did.

        Raises:
            RemoteError: There is no stream.
        """
        headers = {**self._server.headers, "Accept": "text/event-stream"}
        if self._last:
            headers["Last-Event-ID"] = self._last
        path = f"/ingest/receipts/{self._receipt_id}/events"
        timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
        try:
            async with self._server.client.stream(
                "GET", self._server.url + path, headers=headers, timeout=timeout
            ) as response:
                if response.status_code == _NO_MORE_EVENTS:
                    return await read_receipt(self._server, self._receipt_id)
                if not response.is_success:
                    raise error_of(response, await response.aread())
                async for event in httpx_sse.EventSource(response).aiter_sse():
                    if (found := await self._hear(event)) is not None:
                        return found
        except httpx_sse.SSEError as exc:
            raise RemoteError(f"{self._server.url} gives no events: {exc}") from exc
        except httpx.TransportError as exc:
            raise unreachable(self._server.url, exc) from exc
        return None

    async def _hear(self, event: httpx_sse.ServerSentEvent) -> dict[str, Any] | None:
        if not event.data:  # only says when to come again
            return None
        self.heard = True
        self._last = event.id
        data = decode_document(event.data)
        if event.event == "progress":
            self._on_step(str(data["step"]), data)
        elif event.event == "live":
            self._on_step("live", data)
        elif event.event == "state":
            self._on_step(str(data["state"]), None)
        is_over = event.event == "end" or (
            event.event == "state"
            and data["state"] in ENDS
            and (data["state"] == "failed" or not self._regions)
        )
        if not is_over:
            return None
        receipt: dict[str, Any] | None = data.get("receipt")
        return receipt or await read_receipt(self._server, self._receipt_id)
