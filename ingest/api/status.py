"""How the primary is doing, for `headrace status`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiohttp import web

from headrace.generation import format_time, parse_time
from headrace.operation import Who, operation
from headrace.web import answer_json
from ingest.api.declared import answers_json
from ingest.api.node import NODE
from ingest.api.receipts import encode_receipt, keep_failures
from ingest.status_documents import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingest.api.node import Node
    from ingest.writer import Writer

LAST_RECEIPTS = 10
IN_FLIGHT_AT_MOST = 100

routes = web.RouteTableDef()


@routes.get("/ingest/status")
@operation(
    answers=answers_json(Status, "How it is doing."),
    refuses=("replication-down", "lease-lapsed"),
    who=Who.KNOWN,
)
async def get_status(request: web.Request) -> web.Response:
    """Say what is published, who shows it, and what is on its way, as far as the asker may know."""
    node = request.app[NODE]
    writer = node.identify(request)
    state = node.publisher.state
    return answer_json(
        {
            "epoch": node.lease.epoch,
            "lease_held": node.lease.held.is_set(),
            "primary": asdict(node.place),
            "litestream_up": node.litestream.up.is_set(),
            "generation": state.number,
            "published_at": state.created_at and format_time(state.created_at),
            "databases": {
                name: {"tables": dict(cut.tables), "updated_at": format_time(cut.updated_at)}
                for name, cut in sorted(state.databases.items())
            },
            "regions": await _describe_regions(node),
            **await _describe_uploads(node, writer),
        }
    )


async def _describe_regions(node: Node) -> dict[str, Any]:
    newest = node.publisher.state.number
    regions = {
        region: {
            "generation": heard.generation,
            "readers": len(heard.reports),
            "machines": [
                {
                    "machine": report.place.machine,
                    "address": report.place.address,
                    "generation": report.generation,
                }
                for report in heard.reports
            ],
            "seconds_behind": await _seconds_behind(node, heard.generation, newest),
            "heard_s_ago": round(heard.heard_s_ago, 1),
        }
        for region, heard in node.regions.heard().items()
    }
    for region, told in (await node.roll_call.describe()).items():
        if region not in regions and told["silent"] and not told["stopped"]:
            regions[region] = await _describe_silent(node, told, newest)
    return dict(sorted(regions.items()))


async def _describe_silent(node: Node, told: Mapping[str, Any], newest: int) -> dict[str, Any]:
    silent = node.now() - parse_time(told["silent_since"])
    return {
        "generation": told["generation"],
        "readers": 0,
        "machines": [],
        "seconds_behind": await _seconds_behind(node, told["generation"], newest),
        "heard_s_ago": round(max(silent.total_seconds(), 0.0), 1),
    }


async def _seconds_behind(node: Node, shown: int, newest: int) -> float | None:
    """Say for how long there has been something newer; None if the log does not tell any more."""
    if shown >= newest:
        return 0.0
    following = await node.generations.find_entry(shown + 1)
    if following is None:
        return None
    behind = datetime.now(UTC) - following.created_at
    return round(max(behind.total_seconds(), 0.0), 1)


async def _describe_uploads(node: Node, writer: Writer) -> dict[str, Any]:
    unfinished = [
        receipt
        for receipt, _options in await node.journal.read_unfinished()
        if writer.sees(receipt.database)
    ]
    last = await node.journal.read_newest(limit=LAST_RECEIPTS, databases=writer.databases)
    await keep_failures(node, last)
    return {
        "in_flight": len(unfinished),
        "uploads": [await encode_receipt(node, each) for each in unfinished[-IN_FLIGHT_AT_MOST:]],
        "receipts": [await encode_receipt(node, each) for each in last],
    }
