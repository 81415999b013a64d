"""Watching an upload: its receipt, now or when it has changed."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from aiohttp import web

from headrace import documents
from headrace.operation import choice, number, operation
from headrace.web import answer_json
from ingest.api.declared import RECEIPT, answers_json
from ingest.api.node import NODE
from ingest.api.receipts import encode_receipt, find_receipt, keep_failures
from ingest.sights import Sight

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ingest.api.node import Node

TICK_S = 0.25  # between looks at the progress
LOOK_EVERY_S = 1.0  # without a change: regions come and go, readers' uploads are taken
MAX_WAIT_S = 60
PURPOSES = ("change", "published", "regions")

_WAIT = number("wait", "Wait so many seconds at most.", low=0, high=MAX_WAIT_S, default=0)
_FOR = choice(
    "for",
    "Wait for another state, for the end, or for every known region to show it.",
    PURPOSES,
)

routes = web.RouteTableDef()


@routes.get("/ingest/receipts/{id}")
@operation(
    RECEIPT,
    _WAIT,
    _FOR,
    answers=answers_json(documents.Receipt, "The receipt, as it is now."),
    refuses=("not-found", "replication-down", "lease-lapsed", "overloaded"),
)
async def get_receipt(request: web.Request) -> web.Response:
    """Show a receipt, or wait for it.

    Ids cannot be guessed, so knowing one is enough.
    """
    node = request.app[NODE]
    receipt_id = request.match_info["id"]
    wait_s, purpose = int(request.query.get("wait", "0")), request.query.get("for", PURPOSES[0])
    if wait_s:
        with node.watchers.one():
            await _wait_for(node, receipt_id, wait_s, purpose)
    found = await find_receipt(node, receipt_id)
    await keep_failures(node, [found])
    return answer_json(await encode_receipt(node, found))


async def watch(node: Node, receipt_id: str) -> AsyncGenerator[Sight]:
    """Give an upload as it is, and then whenever it has changed, until the primary stops.

    Raises:
        Refusal: ``not-found``; ``replication-down`` or ``lease-lapsed``: nothing can be told now.
    """
    with node.journal.changes.listening(receipt_id) as changed:
        while not node.stop.asked.is_set():
            changed.clear()
            sight = await _look(node, receipt_id)
            yield sight
            await _wait(node, sight, changed)


async def _look(node: Node, receipt_id: str) -> Sight:
    receipt = await find_receipt(node, receipt_id)
    await keep_failures(node, [receipt])
    progressed_at = node.uploads.progressed_at(receipt.id)  # before: rather shown twice than never
    document = await encode_receipt(node, receipt)
    missing: frozenset[str] = frozenset()
    if receipt.generation is not None:
        missing = node.regions.missing(receipt.generation) - document["live"].keys()
    return Sight(
        receipt=document, state=receipt.state, progressed_at=progressed_at, missing=missing
    )


async def _wait(node: Node, sight: Sight, changed: asyncio.Event) -> None:
    """Wait until there may be something new to see."""
    for _ in range(int(LOOK_EVERY_S / TICK_S)):
        with suppress(TimeoutError):
            await asyncio.wait_for(changed.wait(), TICK_S)
        progressed_at = node.uploads.progressed_at(sight.receipt["id"])
        if changed.is_set() or node.stop.asked.is_set() or progressed_at != sight.progressed_at:
            return


async def _wait_for(node: Node, receipt_id: str, wait_s: float, purpose: str) -> None:
    """Wait until an upload is as far as somebody wants, at most so long, or until a stop."""
    first: Sight | None = None
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_s), aclosing(watch(node, receipt_id)) as sights:
            async for sight in sights:
                first = first or sight
                if sight.is_over or (purpose != "regions" and sight.state.final):
                    return
                if purpose == "change" and sight.state is not first.state:
                    return
