"""Deleting databases and tables."""

from __future__ import annotations

from aiohttp import web

from headrace.names import check_database_name
from headrace.web import answer_json
from ingest.api.node import NODE

routes = web.RouteTableDef()


@routes.delete("/ingest/databases/{database}")
async def delete_database(request: web.Request) -> web.Response:
    """Publish a generation without a database."""
    node = request.app[NODE]
    writer = node.check_writer(request)
    writer.require(request.match_info["database"])
    database = check_database_name(request.match_info["database"])
    async with node.audited(request, writer, database=database):
        entry = await node.primary.delete_database(database)
    return answer_json({"removed": database, "generation": entry.number})


@routes.delete("/ingest/databases/{database}/{table}")
async def delete_table(request: web.Request) -> web.Response:
    """Publish a generation without a table."""
    node = request.app[NODE]
    writer = node.check_writer(request)
    writer.require(request.match_info["database"])
    database = check_database_name(request.match_info["database"])
    table = request.match_info["table"]
    async with node.audited(request, writer, database=database, detail=table):
        entry = await node.primary.delete_table(database, table)
    return answer_json({"removed": f"{database}/{table}", "generation": entry.number})
