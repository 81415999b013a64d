"""Previews: what a file would become, out of its beginning; nothing is written or journalled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from headrace.arriving import read_small
from headrace.operation import Who, flag, operation
from headrace.options import read_target
from headrace.web import answer_json
from ingest.api.declared import FILE, NOT_ARRIVED, OPTIONS, UNUSABLE, answers_json
from ingest.api.node import NODE
from ingest.preview import MAX_HEAD_BYTES, Head
from ingest.preview_documents import Preview

if TYPE_CHECKING:
    from ingest.api.node import Node

_REFUSES = ("bad-request", "invalid-name", "disk-full", "forbidden", "cross-site", "overloaded")

routes = web.RouteTableDef()


@routes.post("/ingest/preview")
@operation(
    *OPTIONS,
    flag("complete", "The bytes are all of the file."),
    bodies=(FILE,),
    answers=answers_json(Preview, "What the file would become."),
    refuses=(*_REFUSES, *NOT_ARRIVED, *UNUSABLE),
    who=Who.KNOWN,
)
async def post_preview(request: web.Request) -> web.Response:
    """Say what a file would become, out of its first bytes; nothing is written."""
    node = request.app[NODE]
    writer = node.identify(request)
    fields = dict(request.query)
    complete = fields.pop("complete", "0") == "1"
    target = read_target(fields, None)
    writer.require(target.database)
    cut = node.primary.state.databases.get(target.database)
    head = Head(
        body=await read_small(request, MAX_HEAD_BYTES),
        complete=complete,
        target=target,
        media_type=request.headers.get("Content-Type"),
        sender=writer.id,
        live=None if cut is None else node.paths.database(target.database, cut.lineage),
    )
    return answer_json(_with_what_is_there(node, await node.previews.make(head)))


def _with_what_is_there(node: Node, preview: dict[str, Any]) -> dict[str, Any]:
    """Add how many rows the tables of these names have now; None: there is no such table."""
    cut = node.primary.state.databases.get(preview["database"])
    there = {} if cut is None else {name.lower(): rows for name, rows in cut.tables.items()}
    tables = [
        {**table, "rows_there": there.get(table["name"].lower())} for table in preview["tables"]
    ]
    return {**preview, "database_exists": cut is not None, "tables": tables}
