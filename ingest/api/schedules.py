"""Schedules: what is fetched again and again."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from aiohttp import web
from yarl import URL

from headrace.errors import Refusal
from headrace.fetching import decode_fetch, read_fetch
from headrace.operation import JSON, Answer, Body, Who, in_path, operation
from headrace.options import read_target
from headrace.web import answer_json
from ingest.api.declared import FETCHED, NOT_FETCHED, OPTIONS, answers_json
from ingest.api.node import NODE
from ingest.documents import Schedule as ScheduleDocument
from ingest.documents import ScheduleList, ScheduleRemoved
from ingest.schedules import (
    KIND,
    MAX_SCHEDULES,
    find_schedule,
    new_schedule,
    read_schedules,
    run_schedule,
    save_schedule,
)

if TYPE_CHECKING:
    from ingest.api.node import Node
    from ingest.schedules import Schedule
    from ingest.writer import Writer

_ID = re.compile(r"[0-9a-f]{16}")

_WISH = {
    **FETCHED,
    "required": ["url", "cron"],
    "properties": {
        **FETCHED["properties"],
        "cron": {"type": "string", "description": "When: five fields, as crontab(5) has them."},
        "timezone": {"type": "string", "description": "Where that is so; UTC."},
    },
}
_OF_ONE = in_path("id", "Id of the schedule.", pattern="^[0-9a-f]{16}$", example="0" * 16)
_ONE = answers_json(ScheduleDocument, "The schedule.")

routes = web.RouteTableDef()


@routes.get("/ingest/schedules")
@operation(answers=answers_json(ScheduleList, "The schedules."), who=Who.KNOWN)
async def get_schedules(request: web.Request) -> web.Response:
    """Show the schedules, and what came of their last runs."""
    node = request.app[NODE]
    reader = node.identify(request)
    schedules = [each for each in await read_schedules(node) if reader.sees(each.database)]
    return answer_json({"schedules": [each.show() for each in schedules]})


@routes.post("/ingest/schedules")
@operation(
    *OPTIONS,
    bodies=(Body(kind=JSON, schema=_WISH),),
    answers={
        201: Answer(
            what="The schedule.", schema=ScheduleDocument, headers={"Location": "Its path."}
        )
    },
    refuses=(
        *("bad-request", "invalid-option", "invalid-name", "too-large", "incomplete-body"),
        *NOT_FETCHED,
    ),
    who=Who.WRITER,
    checked=False,
)
async def post_schedule(request: web.Request) -> web.Response:
    """Make a schedule, by which a file is fetched again and again."""
    node = request.app[NODE]
    writer = node.check_writer(request)
    document = await read_fetch(request)
    cron, timezone = document.pop("cron", None), document.pop("timezone", "UTC")
    if not isinstance(cron, str) or not isinstance(timezone, str):
        raise Refusal("invalid-option", "there is no 'cron' that says when")
    asked = decode_fetch(document)
    node.fetcher.rules.permit(URL(asked.url))
    target = read_target(asked.fields, asked.fields.get("filename") or URL(asked.url).name)
    writer.require(target.database)
    asked = replace(asked, fields={**asked.fields, "database": target.database})
    if len(await read_schedules(node)) >= MAX_SCHEDULES:
        raise Refusal("invalid-option", f"there are {MAX_SCHEDULES:,} schedules already")
    schedule = new_schedule(asked, cron, timezone, node.now(), writer.id)
    async with node.audited(request, writer, database=schedule.database, detail=schedule.id):
        await save_schedule(node, schedule)
    await node.journal_replica.keep()
    location = {"Location": f"/ingest/schedules/{schedule.id}"}
    return answer_json(schedule.show(), status=201, headers=location)


@routes.get("/ingest/schedules/{id}")
@operation(_OF_ONE, answers=_ONE, refuses=("not-found",), who=Who.KNOWN)
async def get_schedule(request: web.Request) -> web.Response:
    """Show one schedule."""
    node = request.app[NODE]
    return answer_json((await _get(node, request, node.identify(request))).show())


@routes.delete("/ingest/schedules/{id}")
@operation(
    _OF_ONE,
    answers=answers_json(ScheduleRemoved, "It is gone."),
    refuses=("not-found",),
    who=Who.WRITER,
)
async def delete_schedule(request: web.Request) -> web.Response:
    """Remove a schedule; what it fetched stays."""
    node = request.app[NODE]
    writer = node.check_writer(request)
    schedule = await _get(node, request, writer)
    async with node.audited(request, writer, database=schedule.database, detail=schedule.id):
        await node.journal.delete_note(KIND, schedule.id)
    await node.journal_replica.keep()
    return answer_json({"removed": schedule.id})


@routes.post("/ingest/schedules/{id}/run")
@operation(_OF_ONE, answers=_ONE, refuses=("not-found",), who=Who.WRITER)
async def post_run(request: web.Request) -> web.Response:
    """Run a schedule now, whatever the time; it answers when that is done."""
    node = request.app[NODE]
    writer = node.check_writer(request)
    schedule = await _get(node, request, writer)
    async with node.audited(request, writer, database=schedule.database, detail=schedule.id):
        schedule = await run_schedule(node, schedule)
    await node.journal_replica.keep()
    return answer_json(schedule.show())


async def _get(node: Node, request: web.Request, writer: Writer) -> Schedule:
    """Find the schedule of a request; one of a database that the writer may not write to is none.

    Raises:
        Refusal: ``not-found``.
    """
    schedule_id = request.match_info["id"]
    schedule = await find_schedule(node, schedule_id) if _ID.fullmatch(schedule_id) else None
    if schedule is None or not writer.sees(schedule.database):
        raise Refusal("not-found", "there is no such schedule")
    return schedule
