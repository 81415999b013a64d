"""What nobody needs any more: the list, and deleting it."""

from __future__ import annotations

from aiohttp import web

from headrace.errors import Refusal
from headrace.web import answer_json
from ingest.api.node import NODE

routes = web.RouteTableDef()


@routes.post("/ingest/prune")
async def post_prune(request: web.Request) -> web.Response:
    """Delete it now; ``?dry_run=1`` only says what would be."""
    node = request.app[NODE]
    writer = node.check_writer(request)
    writer.require_admin()
    dry_run = _read_flag(request.query.get("dry_run", "0"))
    if dry_run:
        found = await node.pruner.plan()
    else:
        async with node.audited(request, writer):
            found = await node.pruner.prune()
    return answer_json(
        {
            "dry_run": dry_run,
            "pruned": [
                {
                    "kind": each.kind,
                    "name": each.name,
                    "objects": each.objects,
                    "size_bytes": each.size_bytes,
                }
                for each in found
            ],
            "objects": sum(each.objects for each in found),
            "bytes": sum(each.size_bytes for each in found),
        }
    )


def _read_flag(value: str) -> bool:
    if value not in {"0", "1"}:
        raise Refusal("invalid-option", "dry_run is 0 or 1")
    return value == "1"
