"""The primary's HTTP interface, on its private port; readers pass ``/ingest…`` on to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from headrace import tracing
from headrace.errors import Refusal
from headrace.operation import find_operation
from headrace.web import problems
from ingest.api import (
    audit,
    bucket_events,
    bundles,
    databases,
    description,
    events,
    generations,
    metadata,
    preview,
    prune,
    readers,
    receipts,
    reprocess,
    rows,
    schedules,
    session,
    status,
    tokens,
    tus,
    uploads,
    watching,
)
from ingest.api.node import NODE, Node
from ingest.same_origin import SAFE

if TYPE_CHECKING:
    from headrace.web import Handler

__all__ = ["PUBLIC", "Node", "make_app"]


# What readers hand on. Whatever is answered there is declared (``headrace/operation.py``).
PUBLIC = (
    *(uploads, preview, tus, receipts, watching, events, reprocess, databases),
    *(metadata, generations, prune, rows, schedules, tokens, session, audit, status),
    *(bucket_events, description),
)
_OF_READERS = frozenset({"/-/readers", "/-/incoming"})  # what they report is no upload


def make_app(node: Node) -> web.Application:
    """Give the application."""
    traced = [_traced] if tracing.is_on() else []
    app = web.Application(
        middlewares=[*traced, _counted, problems, _with_generation, _noted, _declared]
    )
    app[NODE] = node
    for concern in (readers, bundles, *PUBLIC):
        app.add_routes(concern.routes)
    return app


@web.middleware
async def _traced(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Have a span of a write, under that of the reader that handed it on."""
    resource = request.match_info.route.resource
    if request.method in SAFE or resource is None or resource.canonical in _OF_READERS:
        return await handler(request)
    with (
        tracing.continued(request.headers.get(tracing.TRACEPARENT)),
        tracing.span(f"{request.method} {resource.canonical}"),
    ):
        response = await handler(request)
        tracing.tell(status=str(response.status))
        return response


@web.middleware
async def _counted(request: web.Request, handler: Handler) -> web.StreamResponse:
    node = request.app[NODE]
    with node.requests.counted():
        response = await handler(request)
    if node.stop.asked.is_set() and not response.prepared:
        response.force_close()  # there is nothing more to be had over this connection
    return response


@web.middleware
async def _noted(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count what is refused, and have the audit log say of whom."""
    try:
        return await handler(request)
    except Refusal as refusal:
        request.app[NODE].note_denied(request, refusal)
        raise


@web.middleware
async def _declared(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what the handler does not declare to take."""
    declared = find_operation(request.match_info.handler)
    if declared is not None and declared.checked:
        declared.check_query(request.query)
    return await handler(request)


@web.middleware
async def _with_generation(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    if not response.prepared:
        number = request.app[NODE].primary.state.number
        response.headers.setdefault("Headrace-Generation", str(number))
    return response
