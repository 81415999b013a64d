"""Uploads that readers took while no primary was there: they are finished as any other.

What a reader wrote down is deleted only when the journal has it where a successor finds it. Its
receipts are known there by their ids. So whatever ends in between, nothing is taken twice
(invariant I6), or lost (I1).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from headrace.arriving import ArrivedFile, Spooled
from headrace.backoff import Pauses
from headrace.errors import HeadraceError, LogError, Refusal
from headrace.incoming import IncomingRequest
from headrace.keys import INCOMING_PREFIX, incoming_key, incoming_receipt_key
from headrace.tracing import continued
from ingest.accept import accept
from ingest.writer import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.store import Store
    from ingest.api import Node

log = structlog.get_logger()

LOOK_EVERY_S = 120.0  # each costs a LIST; readers say when something has come
FIRST_RETRY_S, MAX_RETRY_S = 0.5, 30.0  # when something could not be taken
AT_ONCE = 4  # on their way: each has its bytes fetched to this volume
STALL_S = 30.0  # without an answer of the store
SERVER_ERROR = 500
WAIT_S = 3600.0  # for one that is under way


class Incoming:
    """Looks for them, and takes them.

    Args:
        node: The primary.
        store: Where they are.
        alone: Whether nobody else looks there, and would tell of them.
    """

    def __init__(self, node: Node, store: Store, *, alone: bool = True) -> None:
        self._look_every_s = LOOK_EVERY_S if alone else None
        self._node = node
        self._store = store
        self._running: dict[str, int] = {}  # receipts of those that were started here: bytes

    async def run(self) -> None:
        """Look at the start, whenever a reader says so, and now and then, until cancelled."""
        told = self._node.incoming_told
        pauses = Pauses(FIRST_RETRY_S, MAX_RETRY_S)
        while True:
            await self._node.litestream.up.wait()  # nothing could be kept before
            told.clear()
            wait_s: float | None = pauses.next_s()
            if await self._look():
                pauses.reset()
                wait_s = self._look_every_s
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await told.wait()

    async def _look(self) -> bool:
        """Take all that is there, in the order in which it came; False if some of it was left."""
        try:
            requests = await self._read_all()
        except HeadraceError as exc:
            log.warning("incoming uploads not read", reason=str(exc))
            return False
        all_taken = True
        for request in sorted(requests, key=lambda each: each.files[0].receipt_id):
            try:
                await self._take(request)
            except HeadraceError as exc:
                log.warning("incoming upload not taken", request=request.id, reason=str(exc))
                all_taken = False
        return all_taken

    async def _read_all(self) -> list[IncomingRequest]:
        listed = self._store.list_objects(INCOMING_PREFIX, stall_s=STALL_S)
        requests = []
        for key in sorted([each.key async for each in listed]):
            try:
                requests.append(IncomingRequest.decode(await self._store.read(key)))
            except LogError as exc:  # the others do not wait for it
                log.warning("incoming upload not read", key=key, reason=str(exc))
        return requests

    async def _take(self, request: IncomingRequest) -> None:
        """Have a request journalled, and go on with it as with any other.

        Raises:
            HeadraceError: It is left for later.
        """
        node = self._node
        await self._wait_room()
        node.check_keeping()
        receipt_ids = [each.receipt_id for each in request.files]
        if not await self._is_known(receipt_ids):
            new = {each.receipt_id: each.bytes for each in request.files}
            node.disk.require(sum(new.values()) + sum(self._running.values()))
            with node.keys_in_flight.hold(request.key), continued(request.traceparent):
                await self._start(request)
            self._running |= new
            log.info("incoming upload taken", receipts=receipt_ids, region=request.region)
            node.metrics.incoming.inc()
        await node.journal_replica.keep()
        await self._forget(request)

    async def _start(self, request: IncomingRequest) -> None:
        arrived = [
            ArrivedFile(
                receipt_id=each.receipt_id,
                filename=each.filename,
                media_type=each.media_type,
                spooled=Spooled(path=None, bytes=each.bytes, sha256=each.sha256),
                archive=each.archive,
                arrived_at=request.arrived_at,
            )
            for each in request.files
        ]
        writer = replace(ROOT, address=request.address)
        try:
            await accept(
                self._node, arrived, request.fields, request.key, writer=writer, promised=True
            )
        except Refusal as refusal:
            if refusal.status >= SERVER_ERROR:
                raise
            for each in arrived:
                each.refusal = refusal
            await accept(self._node, arrived, request.fields, None, writer=writer, promised=True)

    async def _is_known(self, receipt_ids: Iterable[str]) -> bool:
        found = [await self._node.journal.find(each) for each in receipt_ids]
        return all(each is not None for each in found)

    async def _wait_room(self) -> None:
        for receipt_id in list(self._running):
            wait_s = WAIT_S if len(self._running) >= AT_ONCE else 0.0
            receipt = await self._node.uploads.wait(receipt_id, wait_s)
            if receipt is None or receipt.state.final:
                del self._running[receipt_id]

    async def _forget(self, request: IncomingRequest) -> None:
        """Delete what was written down of a request; that by which it is found, last.

        Raises:
            StoreError: The store could not be asked.
        """
        for each in request.files:
            receipt = await self._node.journal.find(each.receipt_id)
            if receipt is not None and receipt.archive != each.archive:  # refused, or another's
                await self._store.delete(each.archive)
            await self._store.delete(incoming_receipt_key(each.receipt_id))
        await self._store.delete(incoming_key(request.id))
