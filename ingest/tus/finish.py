"""What becomes of a resumable upload whose bytes are all here: an upload as any other.

The id of its receipt is written down first. So whatever ends in between, what is done again finds
what was done, and the upload counts once (invariant I6).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from headrace.arriving import ArrivedFile, Spooled
from headrace.durable import link_file
from headrace.errors import Refusal
from headrace.options import clean_filename, read_target
from headrace.receipt import new_receipt_id
from ingest.accept import accept
from ingest.tus.join import join

if TYPE_CHECKING:
    from ingest.api.node import Node
    from ingest.tus.record import TusUpload

log = structlog.get_logger()

_SERVER_ERROR = 500
_BUSY = frozenset({"in-flight"})  # what passes by itself, although its status is no server error


async def settle(node: Node, upload: TusUpload) -> TusUpload:
    """Do what is to be done with an upload as it is now, to the end; its turn is had.

    Returns:
        The upload: with a receipt, which a successor knows as well, if it was due.

    Raises:
        Refusal: It could not be done now; or never, and the upload is gone.
    """
    if upload.parts and not upload.is_whole:
        upload = await join(node, upload)
    if not upload.is_due:
        return upload
    try:
        return await _finish(node, upload)
    except Refusal as refusal:
        if refusal.status < _SERVER_ERROR and refusal.code not in _BUSY:
            await node.tus.remove(upload)
        raise


async def _finish(node: Node, upload: TusUpload) -> TusUpload:
    node.check_keeping()
    if upload.length == 0:
        raise Refusal("empty-file", "the file has no bytes")
    if upload.receipt is None:
        upload = replace(upload, receipt=new_receipt_id(node.now()))
        upload = await node.tus.shelf.save(upload)
    assert upload.receipt is not None  # noqa: S101 - written down just now, or before
    receipt_id = upload.receipt
    if await node.journal.find(receipt_id) is None:
        with node.keys_in_flight.hold(upload.key):
            arrived = await _arrive(node, upload, receipt_id)
            writer = node.access.recall(upload.owner, _database_of(upload), upload.address)
            fields = upload.description.fields
            (receipt_id,) = await accept(node, [arrived], fields, upload.key, writer=writer)
    await node.journal_replica.keep()
    upload = replace(upload, receipt=receipt_id, finished=True, touched_at=node.now())
    upload = await node.tus.shelf.save(upload)
    await node.tus.empty(upload)
    log.info("resumable upload finished", upload=upload.id, receipt=receipt_id)
    return upload


def _database_of(upload: TusUpload) -> str | None:
    """Give where an upload goes; None: its receipt will say that it cannot."""
    said = upload.description
    try:
        return read_target(said.fields, said.filename).database
    except Refusal:
        return None


async def _arrive(node: Node, upload: TusUpload, receipt_id: str) -> ArrivedFile:
    """Have an upload's bytes in the spool and in the archive, as those of a request.

    Raises:
        Refusal: ``replication-down``, or ``disk-full``.
    """
    said = upload.description
    filename = clean_filename(said.filename)
    sha256 = await asyncio.to_thread(node.tus.sha256_of, upload)
    spooled = node.paths.spool / receipt_id
    await asyncio.to_thread(link_file, node.tus.shelf.data(upload.id), spooled)
    key = node.archive.key(receipt_id, filename)
    await node.archive.keep(spooled, key=key, sender=upload.owner)
    return ArrivedFile(
        receipt_id=receipt_id,
        filename=filename,
        media_type=said.media_type,
        spooled=Spooled(path=spooled, bytes=upload.offset, sha256=sha256),
        archive=key,
    )
