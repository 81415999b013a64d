"""One dropped file: its bytes are kept, its receipt is journalled, then it is let go of.

The file stays where it is until its upload has ended and the journal is replicated: so whatever
ends in between, the next look finds it, and knows by its receipt what is left to do.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from headrace.arriving import ArrivedFile, check_announced_size
from headrace.errors import HeadraceError, Refusal
from headrace.options import clean_filename, read_target
from headrace.receipt import UploadState
from ingest.accept import accept
from ingest.buckets.names import (
    ERROR,
    FAILED,
    MANIFEST,
    MANIFEST_AT_MOST_BYTES,
    decode_manifest,
    fields_of,
)
from ingest.buckets.place import read_small
from ingest.keeping import SpoolKeeper
from ingest.writer import INGEST_ALL, Writer

if TYPE_CHECKING:
    from headrace.receipt import Receipt
    from ingest.api import Node
    from ingest.buckets.place import Found, Place

log = structlog.get_logger()

SERVER_ERROR = 500
AT_ONCE = 8  # uploads on their way: each has its bytes on this volume
WAIT_S = 3600.0  # for one that is under way; it is looked at again then

TAKEN, FAILED_OUTCOME = "taken", "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A file that is to be taken, or was.

    Attributes:
        found: What lies in the place.
        receipt_id: Of its receipt.
    """

    found: Found
    receipt_id: str


def dropper(place: str) -> Writer:
    """Give who drops files into a place: whoever may write there."""
    return Writer(id="bucket", name=place, scopes=frozenset({INGEST_ALL}))


class Taker:
    """Takes the files of one place.

    Args:
        node: The primary.
        place: Where they lie.
        moves: Whether they are moved away when they were taken.
    """

    def __init__(self, node: Node, place: Place, *, moves: bool) -> None:
        self._node = node
        self._place = place
        self._moves = moves
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._letting_go = asyncio.Semaphore(AT_ONCE)
        self._metrics = node.metrics.buckets

    async def close(self) -> None:
        """Leave all where it is."""
        for task in self._ending.values():
            task.cancel()
        await asyncio.gather(*self._ending.values(), return_exceptions=True)

    async def take(self, dropped: Dropped) -> None:
        """Take a file that nobody has taken.

        Raises:
            HeadraceError: It is left for later.
        """
        node, found = self._node, dropped.found
        while len(self._ending) >= AT_ONCE:
            await asyncio.wait(self._ending.values(), return_when=asyncio.FIRST_COMPLETED)
        node.check_keeping()
        arrived = ArrivedFile(
            receipt_id=dropped.receipt_id,
            filename=clean_filename(found.name),
        )
        fields: dict[str, str] = {}
        writer = dropper(self._place.url)
        with self._metrics.take_seconds.time():
            try:
                fields = await self._read_fields(found)
                read_target(fields, arrived.filename)  # refuse before it is read
                check_announced_size(found.size_bytes, node.max_upload_bytes)
                node.disk.require(found.size_bytes)
                async with node.receiving():
                    await SpoolKeeper(node, writer.id).keep(arrived, self._place.stream(found))
            except Refusal as refusal:
                if refusal.status >= SERVER_ERROR:
                    raise
                arrived.refusal = refusal
            await accept(node, [arrived], fields, None, writer=writer)
        outcome = TAKEN if arrived.refusal is None else FAILED_OUTCOME
        self._metrics.files.labels(self._place.url, outcome).inc()
        log.info("dropped file taken", place=self._place.url, receipt=dropped.receipt_id)
        self.end(dropped)

    def end(self, dropped: Dropped) -> None:
        """Let go of a file that was taken, once its upload has ended; in the background."""
        if dropped.receipt_id in self._ending:
            return
        task = asyncio.create_task(self._end(dropped))
        self._ending[dropped.receipt_id] = task
        task.add_done_callback(lambda _task: self._ending.pop(dropped.receipt_id, None))

    async def _read_fields(self, found: Found) -> dict[str, str]:
        """Give the options of a file, out of its path and its manifest.

        Raises:
            Refusal: They cannot be used.
            StoreError: The place could not be asked.
        """
        body = await read_small(self._place, f"{found.name}{MANIFEST}", MANIFEST_AT_MOST_BYTES)
        if body is not None and len(body) > MANIFEST_AT_MOST_BYTES:
            raise Refusal(
                "invalid-option", f"the manifest has more than {MANIFEST_AT_MOST_BYTES} bytes"
            )
        return fields_of(found.name, {} if body is None else decode_manifest(body))

    async def _end(self, dropped: Dropped) -> None:
        """Wait for the end of an upload, and let go of its file."""
        receipt = await self._node.uploads.wait(dropped.receipt_id, WAIT_S)
        if not self._moves or receipt is None or not receipt.state.final:
            return
        try:
            async with self._letting_go:
                await self._node.journal_replica.keep()
                await self._let_go(dropped.found, receipt)
        except HeadraceError as exc:  # the next look finds it
            log.warning("dropped file not moved", place=self._place.url, reason=str(exc))

    async def _let_go(self, found: Found, receipt: Receipt) -> None:
        """Delete a file that is published; set one aside that failed, and say why beside it.

        Raises:
            StoreError: The place could not be asked.
        """
        if receipt.state is UploadState.FAILED:
            document = {"receipt": receipt.id, "error": receipt.error}
            body = json.dumps(document, ensure_ascii=False, indent=2).encode()
            await self._place.write(f"{FAILED}/{found.name}{ERROR}", body + b"\n")
            gone = await self._place.set_aside(found)
        else:
            gone = await self._place.delete(found)
        manifest = await self._place.find(f"{found.name}{MANIFEST}") if gone else None
        if manifest is not None:
            if receipt.state is UploadState.FAILED:
                await self._place.set_aside(manifest)
            else:
                await self._place.delete(manifest)
