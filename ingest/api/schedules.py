"""Schedules: what is fetched again and again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiohttp import web
from yarl import URL

from headrace.errors import Refusal
from headrace.fetching import decode_fetch, read_fetch
from headrace.options import read_target
from headrace.web import answer_json
from ingest.api.node import NODE
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

_ID = re.compile(r"[0-9a-f]{16}")

routes = web.RouteTableDef()


@routes.get("/ingest/schedules")
async def get_schedules(request: web.Request) -> web.Response:
    """Show all schedules, and what came of their last runs."""
    node = request.app[NODE]
    node.tokens.check(request.headers)
    return answer_json({"schedules": [each.show() for each in await read_schedules(node)]})


@routes.post("/ingest/schedules")
async def post_schedule(request: web.Request) -> web.Response:
    """Make a schedule."""
    node = request.app[NODE]
    node.check_writer(request)
    document = await read_fetch(request)
    cron, timezone = document.pop("cron", None), document.pop("timezone", "UTC")
    if not isinstance(cron, str) or not isinstance(timezone, str):
        raise Refusal("invalid-option", "there is no 'cron' that says when")
    asked = decode_fetch(document)
    node.fetcher.rules.permit(URL(asked.url))
    read_target(asked.fields, asked.fields.get("filename") or URL(asked.url).name)
    if len(await read_schedules(node)) >= MAX_SCHEDULES:
        raise Refusal("invalid-option", f"there are {MAX_SCHEDULES:,} schedules already")
    schedule = new_schedule(asked, cron, timezone, node.now())
    await save_schedule(node, schedule)
    await node.journal_replica.keep()
    location = {"Location": f"/ingest/schedules/{schedule.id}"}
    return answer_json(schedule.show(), status=201, headers=location)


@routes.get("/ingest/schedules/{id}")
async def get_schedule(request: web.Request) -> web.Response:
    """Show one schedule."""
    node = request.app[NODE]
    node.tokens.check(request.headers)
    return answer_json((await _get(node, request)).show())


@routes.delete("/ingest/schedules/{id}")
async def delete_schedule(request: web.Request) -> web.Response:
    """Remove a schedule; what it fetched stays."""
    node = request.app[NODE]
    node.check_writer(request)
    schedule = await _get(node, request)
    await node.journal.delete_note(KIND, schedule.id)
    await node.journal_replica.keep()
    return answer_json({"removed": schedule.id})


@routes.post("/ingest/schedules/{id}/run")
async def post_run(request: web.Request) -> web.Response:
    """Run a schedule now, whatever the time; it answers when that is done."""
    node = request.app[NODE]
    node.check_writer(request)
    schedule = await run_schedule(node, await _get(node, request))
    await node.journal_replica.keep()
    return answer_json(schedule.show())


async def _get(node: Node, request: web.Request) -> Schedule:
    schedule_id = request.match_info["id"]
    schedule = await find_schedule(node, schedule_id) if _ID.fullmatch(schedule_id) else None
    if schedule is None:
        raise Refusal("not-found", "there is no such schedule")
    return schedule
