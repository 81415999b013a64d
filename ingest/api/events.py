"""The events of an upload, as Server-Sent Events.

Source: html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from aiohttp_sse import sse_response

from headrace.errors import Refusal
from headrace.operation import Answer, header, operation
from ingest.api.declared import RECEIPT
from ingest.api.node import NODE
from ingest.api.receipts import find_receipt
from ingest.api.watching import watch
from ingest.sights import END, Event, events_after, format_event_id, read_event_id

if TYPE_CHECKING:
    from aiohttp_sse import EventSourceResponse

log = structlog.get_logger()

RETRY_MS = 1000  # until a client that lost the stream asks for it again
HEARTBEAT_S = 5.0
SEND_S = 30.0  # for a client to take something

_LAST_EVENT = header("Last-Event-ID", "Only what came after that event.", example="2.1500")

routes = web.RouteTableDef()


@routes.get("/ingest/receipts/{id}/events", allow_head=False)
@operation(
    RECEIPT,
    _LAST_EVENT,
    answers={
        200: Answer(
            what="Server-Sent Events `state`, `progress`, `live`, `end`.",
            schema={"description": "Each with an `id`, and `data` in JSON."},
            kinds=("text/event-stream",),
        ),
        204: Answer(what="There is nothing more to come."),
    },
    refuses=("not-found", "replication-down", "lease-lapsed", "overloaded"),
)
async def get_events(request: web.Request) -> web.StreamResponse:
    """Give what happens to an upload, until there is nothing more to come."""
    node = request.app[NODE]
    receipt_id = request.match_info["id"]
    await find_receipt(node, receipt_id)
    seen = read_event_id(request.headers.get("Last-Event-ID"))
    if seen >= END:  # section 9.2.3: this is how a client is told not to come back
        return web.Response(status=204)
    with node.watchers.one():
        async with sse_response(
            request, sep="\n", ping_interval=HEARTBEAT_S, send_timeout=SEND_S
        ) as stream:
            try:
                await stream.write(f"retry: {RETRY_MS}\n\n".encode())
                async with aclosing(watch(node, receipt_id)) as sights:
                    async for sight in sights:
                        for event in events_after(seen, sight):
                            await _send(stream, event)
                            seen = event.id
                        if seen >= END or not _is_there(request, stream):
                            break
            except (ConnectionError, TimeoutError):
                log.debug("watcher gone", receipt=receipt_id)
            except Refusal as refusal:  # it asks again, and is told then
                log.info("events ended", receipt=receipt_id, reason=str(refusal))
        return stream


def _is_there(request: web.Request, stream: EventSourceResponse) -> bool:
    """Say whether the client is still connected."""
    transport = request.transport
    return transport is not None and not transport.is_closing() and stream.is_connected()


async def _send(stream: EventSourceResponse, event: Event) -> None:
    data = json.dumps(event.data, ensure_ascii=False)
    await stream.send(data, id=format_event_id(event.id), event=event.name)
