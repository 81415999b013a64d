"""What nobody asks for: uploads that expired are dropped, and those that are due are finished."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from headrace.errors import HeadraceError
from ingest.tus.finish import settle
from ingest.tus.uploads import turn_of

if TYPE_CHECKING:
    from ingest.api.node import Node
    from ingest.tus.record import TusUpload

log = structlog.get_logger()

LOOK_EVERY_S = 30.0  # at most; sooner where uploads expire sooner


async def run(node: Node, *, every_s: float = LOOK_EVERY_S) -> None:
    """Look at all uploads now and then, until cancelled."""
    while True:
        await node.litestream.up.wait()  # nothing could be kept before
        for upload in node.tus.shelf:
            if not node.tus.turns.is_taken(turn_of(upload)):
                await _look(node, upload)
        await asyncio.sleep(every_s)


async def _look(node: Node, upload: TusUpload) -> None:
    try:
        async with node.tus.turns.take(turn_of(upload)):
            now = node.tus.shelf.find(upload.id)
            if now is None:
                return
            if now.is_due or (now.parts and not now.is_whole):
                await settle(node, now)
            elif node.tus.expires_at(now) <= node.now():
                await node.tus.remove(now)
                if not (now.finished or now.final):
                    node.metrics.tus_expired.inc()
                    log.info("resumable upload expired", upload=now.id, bytes=now.offset)
    except (HeadraceError, OSError) as exc:
        log.warning("resumable upload left for later", upload=upload.id, reason=str(exc))
