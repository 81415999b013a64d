"""Receipts, as they are shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiohttp import web

from headrace.errors import Refusal, StoreError
from headrace.incoming import find_incoming_receipt
from headrace.operation import Parameter, Who, operation
from headrace.web import answer_json
from ingest.api.declared import RECEIPT_ID, answers_json
from ingest.api.node import NODE
from ingest.documents import ReceiptPage
from ingest.upload import ROWS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace import documents
    from headrace.receipt import Receipt
    from ingest.api.node import Node

PAGE = 100  # receipts a page
ON_DISK_ALONE = "until it is published, the file is on the primary's disk alone (--archive off)"

_RECEIPT_ID = re.compile(RECEIPT_ID)
_BEFORE = Parameter(
    name="before", what="Id of a receipt: only older ones.", schema={"pattern": RECEIPT_ID}
)

routes = web.RouteTableDef()


@routes.get("/ingest/receipts")
@operation(
    _BEFORE,
    answers=answers_json(ReceiptPage, "A page of receipts."),
    refuses=("replication-down", "lease-lapsed"),
    who=Who.KNOWN,
)
async def get_receipts(request: web.Request) -> web.Response:
    """Show the newest receipts of the databases that one may write to."""
    node = request.app[NODE]
    reader = node.identify(request)
    before = request.query.get("before")
    found = await node.journal.read_newest(limit=PAGE, before=before, databases=reader.databases)
    next_page = f"/ingest/receipts?before={found[-1].id}" if len(found) == PAGE else None
    await keep_failures(node, found)
    receipts = [await encode_receipt(node, receipt) for receipt in found]
    page: ReceiptPage = {"receipts": receipts, "next": next_page}
    return answer_json(page)


async def get_known(node: Node, receipt_id: str) -> Receipt:
    """Read a receipt by its id.

    Raises:
        Refusal: ``not-found``.
    """
    found = await node.journal.find(receipt_id) if _RECEIPT_ID.fullmatch(receipt_id) else None
    if found is None:
        raise Refusal("not-found", "there is no such receipt")
    return found


async def find_receipt(node: Node, receipt_id: str) -> Receipt:
    """Read a receipt by its id, also that of an upload which only a reader has taken yet.

    Raises:
        Refusal: ``not-found``; ``replication-down``: nobody knows.
    """
    try:
        return await get_known(node, receipt_id)
    except Refusal:
        incoming = await _find_incoming(node, receipt_id)
        # It may have been taken between the two looks.
        return incoming or await get_known(node, receipt_id)


async def keep_failures(node: Node, receipts: Iterable[Receipt]) -> None:
    """Tell nobody that an upload has failed before a successor knows it, too.

    Raises:
        Refusal: ``replication-down`` or ``lease-lapsed``.
    """
    if any(node.uploads.is_failing(receipt.id) for receipt in receipts):
        await node.journal_replica.keep()


async def _find_incoming(node: Node, receipt_id: str) -> Receipt | None:
    """Find the receipt of an upload that a reader took, and this primary not yet.

    Raises:
        Refusal: ``replication-down``: nobody knows.
    """
    if not _RECEIPT_ID.fullmatch(receipt_id):
        return None
    try:
        return await find_incoming_receipt(node.store, receipt_id)
    except StoreError as exc:
        raise Refusal("replication-down", "the object store cannot be asked for it") from exc


async def encode_receipt(node: Node, receipt: Receipt) -> documents.Receipt:
    """Give a receipt's JSON form, with how far it is and the regions in which it is live by now."""
    live = await node.journal.read_live(receipt.generation) if receipt.generation else {}
    progress = node.uploads.find_progress(receipt.id)
    on_its_way = not receipt.state.final and receipt.format != ROWS
    warnings = [*receipt.warnings, *([ON_DISK_ALONE] if on_its_way and not receipt.archive else [])]
    return {
        **receipt.encode(),
        "warnings": warnings,
        "progress": None if progress is None else progress.encode(),
        "live": live,
    }
