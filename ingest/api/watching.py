"""Watching an upload: its receipt, now or when it has changed."""

from __future__ import annotations

import asyncio
import re
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from aiohttp import web

from headrace.errors import Refusal
from headrace.web import answer_json
from ingest.api.node import NODE
from ingest.api.receipts import encode_receipt, find_receipt, keep_failures
from ingest.sights import Sight

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from ingest.api.node import Node

TICK_S = 0.25  # between looks at the progress
LOOK_EVERY_S = 1.0  # without a change: regions come and go, readers' uploads are taken
MAX_WAIT_S = 60.0
PURPOSES = ("change", "published", "regions")

routes = web.RouteTableDef()


@routes.get("/ingest/receipts/{id}")
async def get_receipt(request: web.Request) -> web.Response:
    """Show one, or wait for it: ids cannot be guessed, so knowing one is enough."""
    node = request.app[NODE]
    receipt_id = request.match_info["id"]
    wait_s, purpose = _read_wait(request.query)
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


def _read_wait(query: Mapping[str, str]) -> tuple[float, str]:
    """Read for how long to wait, and for what.

    Raises:
        Refusal: ``invalid-option``.
    """
    wait, purpose = query.get("wait", "0"), query.get("for", "change")
    if not re.fullmatch("[0-9]{1,2}", wait) or int(wait) > MAX_WAIT_S:
        raise Refusal("invalid-option", f"wait is 0 to {MAX_WAIT_S:g} seconds")
    if purpose not in PURPOSES:
        raise Refusal("invalid-option", f"for is one of {', '.join(PURPOSES)}")
    return float(wait), purpose
