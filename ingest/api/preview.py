"""Previews: what a file would become, out of its beginning; nothing is written or journalled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from headrace.arriving import too_large
from headrace.errors import Refusal
from headrace.options import read_target
from headrace.web import answer_json
from ingest.api.node import NODE
from ingest.preview import MAX_HEAD_BYTES, Head

if TYPE_CHECKING:
    from ingest.api.node import Node

routes = web.RouteTableDef()


@routes.post("/ingest/preview")
async def post_preview(request: web.Request) -> web.Response:
    """Take the first bytes of a file; ``complete=1`` says that they are all."""
    node = request.app[NODE]
    writer = node.identify(request)
    fields = dict(request.query)
    complete = _read_complete(fields)
    target = read_target(fields, None)
    writer.require(target.database)
    head = Head(
        body=await _read_head(request),
        complete=complete,
        target=target,
        media_type=request.headers.get("Content-Type"),
    )
    return answer_json(_with_what_is_there(node, await node.previews.make(head)))


def _read_complete(fields: dict[str, str]) -> bool:
    value = fields.pop("complete", "0")
    if value not in {"0", "1"}:
        raise Refusal("invalid-option", "complete is 1 or 0")
    return value == "1"


async def _read_head(request: web.Request) -> bytes:
    """Give the body, which is small.

    Raises:
        Refusal: ``too-large`` or ``incomplete-body``.
    """
    body = bytearray()
    try:
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > MAX_HEAD_BYTES:
                raise too_large(MAX_HEAD_BYTES)
    except (ConnectionError, web.RequestPayloadError) as exc:
        raise Refusal("incomplete-body", "the connection ended before the head did") from exc
    return bytes(body)


def _with_what_is_there(node: Node, preview: dict[str, Any]) -> dict[str, Any]:
    """Add how many rows the tables of these names have now; None: there is no such table."""
    cut = node.primary.state.databases.get(preview["database"])
    there = {} if cut is None else {name.lower(): rows for name, rows in cut.tables.items()}
    tables = [
        {**table, "rows_there": there.get(table["name"].lower())} for table in preview["tables"]
    ]
    return {**preview, "database_exists": cut is not None, "tables": tables}
