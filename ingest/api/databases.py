"""Deleting databases and tables."""

from __future__ import annotations

from aiohttp import web

from headrace.names import check_database_name
from headrace.operation import Who, operation
from headrace.web import answer_json
from ingest.api.declared import IN_DATABASE, IN_TABLE, answers_json
from ingest.api.node import NODE
from ingest.audit_actions import action_of
from ingest.audit_rows import ACCEPTED, AuditRow
from ingest.documents import Removed

_GONE = answers_json(Removed, "It is published that it is gone.")
_REFUSES = ("invalid-name", "not-found")

routes = web.RouteTableDef()


@routes.delete("/ingest/databases/{database}")
@operation(IN_DATABASE, answers=_GONE, refuses=_REFUSES, who=Who.WRITER)
async def delete_database(request: web.Request) -> web.Response:
    """Publish a generation without a database."""
    node = request.app[NODE]
    writer = node.check_writer(request)
    writer.require(request.match_info["database"])
    database = check_database_name(request.match_info["database"])
    async with node.audited(request, writer, database=database):
        entry = await node.primary.delete_database(database)
    gone: Removed = {"removed": database, "generation": entry.number}
    return answer_json(gone)


@routes.delete("/ingest/databases/{database}/{table}")
@operation(IN_DATABASE, IN_TABLE, answers=_GONE, refuses=_REFUSES, who=Who.WRITER)
async def delete_table(request: web.Request) -> web.Response:
    """Publish a generation without a table."""
    node = request.app[NODE]
    writer = node.check_writer(request)
    writer.require(request.match_info["database"])
    database = check_database_name(request.match_info["database"])
    table = request.match_info["table"]
    audit = AuditRow.of(
        writer, action_of(request), node.now(), database=database, detail=table, outcome=ACCEPTED
    )
    generation = await node.rows.drop_table(database, table, audit)
    gone: Removed = {"removed": f"{database}/{table}", "generation": generation}
    return answer_json(gone)
