"""For readers and machines, not for the public: health, the push of generations, reports."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from headrace.errors import HeadraceError, Refusal
from headrace.generation import format_time
from headrace.web import answer_json
from ingest.api.node import NODE
from ingest.regions import Report

if TYPE_CHECKING:
    from ingest.api.node import Node

log = structlog.get_logger()

SILENCE_S = 30.0  # of a follower that takes nothing
HEARTBEAT_S = 5.0  # seconds between heartbeats on the push stream

routes = web.RouteTableDef()


@routes.get("/-/healthz")
async def get_health(request: web.Request) -> web.Response:
    """Say whether uploads are taken."""
    node = request.app[NODE]
    up = node.lease.held.is_set() and node.litestream.up.is_set() and not node.stop.asked.is_set()
    document = {"ok": up, "generation": node.primary.state.number}
    return web.json_response(document, status=200 if up else 503)


@routes.post("/-/readers")
async def post_reader(request: web.Request) -> web.Response:
    """Hear from a reader which generation it serves."""
    try:
        document = await request.json()
    except ValueError as exc:
        raise Refusal("bad-request", "the report is not JSON") from exc
    node, report = request.app[NODE], Report.decode(document)
    await node.regions.note(report)
    node.roll_call.note(report, stopping=document.get("stopping") is True)
    return answer_json({"ok": True})


@routes.get("/-/readers")
async def get_readers(request: web.Request) -> web.Response:
    """Say how the primary is, and what is known of each region: for readers' status pages.

    What it says changes only when something happens, so that nobody is told the same again.
    """
    node = request.app[NODE]
    taken_at = node.lease.taken_at
    return answer_json(
        {
            "region": node.place.region,
            "epoch": node.lease.epoch,
            "lease_held": node.lease.held.is_set(),
            "lease_taken_at": taken_at and format_time(taken_at),
            "lease_duration_s": node.lease.duration_s,
            "litestream_up": node.litestream.up.is_set(),
            "stopping": node.stop.asked.is_set(),
            "generation": node.publisher.state.number,
            "regions": await node.roll_call.describe(),
        }
    )


@routes.post("/-/incoming")
async def post_incoming(request: web.Request) -> web.Response:
    """Hear from a reader that it took uploads while no primary was there."""
    request.app[NODE].incoming_told.set()
    return answer_json({"ok": True})


@routes.get("/-/readers/{region}")
async def get_region(request: web.Request) -> web.Response:
    """Say which generation a region shows, if a reader of it was heard of lately."""
    region = request.match_info["region"]
    generation = request.app[NODE].regions.oldest().get(region)
    if generation is None:
        raise Refusal("not-found", f"no reader of the region {region!r} was heard of")
    return answer_json({"region": region, "generation": generation})


@routes.get("/-/generations")
async def get_generations(request: web.Request) -> web.StreamResponse:
    """Give the log after ``?after=N``, one entry a line, as it grows."""
    try:
        after = int(request.query.get("after", "0"))
    except ValueError as exc:
        raise Refusal("invalid-option", "after is not a number") from exc
    node = request.app[NODE]
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    entries = node.publisher.follow(after)
    upcoming = asyncio.ensure_future(anext(entries))
    stopping = asyncio.ensure_future(node.stop.asked.wait())
    node.metrics.followers.inc()
    try:
        while not node.stop.asked.is_set():
            await asyncio.wait(
                [upcoming, stopping], timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED
            )
            if upcoming.done():
                await _write(response, upcoming.result().encode() + b"\n")
                upcoming = asyncio.ensure_future(anext(entries))
            else:
                await _write(response, _heartbeat(node))
    except (ConnectionError, TimeoutError):
        log.debug("follower gone")
    except HeadraceError as exc:  # it begins again, and reads the log meanwhile
        log.warning("push ended", reason=str(exc))
    finally:
        node.metrics.followers.dec()
        stopping.cancel()
        upcoming.cancel()
        await asyncio.gather(upcoming, stopping, return_exceptions=True)
        await entries.aclose()
    return response


async def _write(response: web.StreamResponse, line: bytes) -> None:
    """Send a line.

    Raises:
        TimeoutError: The follower takes nothing any more.
    """
    async with asyncio.timeout(SILENCE_S):
        await response.write(line)


def _heartbeat(node: Node) -> bytes:
    """Give an empty line: nothing newer is published; one of a space while that is not known."""
    try:
        node.lease.check()
    except Refusal:  # another primary may publish by now
        return b" \n"
    return b"\n"
