"""How a primary stops: nothing new is taken, and what is under way is finished, or parked.

Shares of the time that a stop may take (headrace/stopping.py):

======  ============================================================================================
 0      no new connection; uploads on open ones are refused, as all of them are told to close
0.40    bodies that are still on their way are refused
0.50    uploads that are not finished are parked: their bytes and receipts are kept, and the next
        start, here or elsewhere, goes on with them; whoever waits for one is told so (``202``)
0.75    connections are cut
0.85    the last ``/sync`` is given up
0.95    Litestream is killed
1       the lease has been given back
======  ============================================================================================
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from headrace.errors import HeadraceError, LitestreamError

if TYPE_CHECKING:
    from headrace.stopping import Stop
    from headrace.web import Listener
    from ingest.api import Node

log = structlog.get_logger()

BODIES = 0.4
UPLOADS = 0.5
RECEIPTS = 0.7  # until whoever answers has given up waiting for the journal's replica
ANSWERS = 0.75
SYNC = 0.85
LITESTREAM = 0.95


async def come_to_rest(node: Node, listener: Listener, stop: Stop) -> None:
    """Bring a primary to where Litestream can end and the lease be given back."""
    await listener.refuse()
    with suppress(TimeoutError):
        async with stop.limit(UPLOADS):
            await node.requests.wait_none()  # so nothing begins any more
            await node.rows.wait_all()
            await node.uploads.wait_all()
    with suppress(TimeoutError):
        async with stop.limit(RECEIPTS):
            await node.rows.park()
            await node.uploads.park()
    try:
        async with stop.limit(ANSWERS):
            await node.requests.wait_none()
    except TimeoutError:
        log.warning("connections cut", reason="not answered in time")
    await _sync(node, stop)


async def _sync(node: Node, stop: Stop) -> None:
    """Have the journal and every live database replicated as they are now."""
    live = [
        (name, cut.lineage)
        for name, cut in node.primary.state.databases.items()
        if node.paths.database(name, cut.lineage).exists()  # else it is not made anew yet
    ]
    try:
        if not node.litestream.up.is_set():
            raise LitestreamError("Litestream is down")
        async with stop.limit(SYNC):
            await node.journal_replica.keep()
            for database, lineage in live:
                await node.litestream.sync(database, lineage)
    except (HeadraceError, TimeoutError) as exc:
        log.warning("last sync given up", reason=repr(exc))
    else:
        log.info("last sync done", databases=len(live))
