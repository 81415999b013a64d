"""What nobody needs any more: the list, and deleting it."""

from __future__ import annotations

from aiohttp import web

from headrace.operation import Who, flag, operation
from headrace.web import answer_json
from ingest.api.declared import answers_json
from ingest.api.node import NODE
from ingest.documents import PruneReport

routes = web.RouteTableDef()


@routes.post("/ingest/prune")
@operation(
    flag("dry_run", "Only say what would be deleted."),
    answers=answers_json(PruneReport, "What was deleted, or would be."),
    who=Who.ADMIN,
)
async def post_prune(request: web.Request) -> web.Response:
    """Delete what is too old and named by no kept generation, or say what that is."""
    node = request.app[NODE]
    writer = node.check_writer(request)
    writer.require_admin()
    dry_run = request.query.get("dry_run") == "1"
    if dry_run:
        found = await node.pruner.plan()
    else:
        async with node.audited(request, writer):
            found = await node.pruner.prune()
    report: PruneReport = {
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
    return answer_json(report)
