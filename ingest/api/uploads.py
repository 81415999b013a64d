"""Uploads: what can be sent, and what becomes of what is."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiohttp import web

from headrace import __version__
from headrace.errors import Refusal
from headrace.receipt import Receipt, UploadState
from headrace.web import problem_response
from ingest.api.files import receive_body, receive_form
from ingest.api.node import NODE, answer_json
from ingest.api.receipts import encode_receipt
from ingest.converters.wishes import Wishes
from ingest.journal import Options
from ingest.options import DEFAULT_WAIT_S, FIELDS, MODES, Target, read_target, wait_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingest.api.files import ArrivedFile
    from ingest.api.node import Node

routes = web.RouteTableDef()


@routes.get("/ingest")
async def get_ingest(request: web.Request) -> web.Response:
    """Say what can be sent."""
    node = request.app[NODE]
    return web.json_response(
        {
            "version": __version__,
            "formats": list(node.registry.names),
            "modes": list(MODES),
            "options": sorted(FIELDS),
            "max_upload_bytes": node.max_upload_bytes,
            "default_wait_s": DEFAULT_WAIT_S,
            "databases": sorted(node.primary.state.databases),
        }
    )


@routes.post("/ingest")
async def post_ingest(request: web.Request) -> web.Response:
    """Take one file as the body, or several as a form."""
    node = request.app[NODE]
    node.check_writer(request)
    if request.content_type == "multipart/form-data":
        arrived, fields = await receive_form(request)
    else:
        arrived, fields = [await receive_body(request)], dict(request.query)
    for each in arrived:
        await _start(node, each, fields)
    wait_s = wait_of(request.headers.getall("Prefer", []))
    deadline_s = time.monotonic() + wait_s
    ends = await asyncio.gather(*(node.uploads.wait(each.receipt_id, wait_s) for each in arrived))
    receipts = [receipt for receipt in ends if receipt is not None]
    if "wait_for" in fields:
        newest = max(receipt.generation or 0 for receipt in receipts)
        await node.regions.wait_live(newest, deadline_s - time.monotonic())
    await node.journal_replica.keep()
    encoded = [await encode_receipt(node, receipt) for receipt in receipts]
    return _answer(request, receipts, encoded)


async def _start(node: Node, arrived: ArrivedFile, fields: Mapping[str, str]) -> None:
    """Journal one file of a request, and send it on its way if nothing speaks against it."""
    target: Target | None = None
    try:
        target = read_target(fields, arrived.filename)
        _check_create(node, target)
    except Refusal as refusal:
        arrived.refusal = arrived.refusal or refusal
    receipt = Receipt(
        id=arrived.receipt_id,
        state=UploadState.RECEIVED,
        filename=target.filename if target else arrived.filename,
        bytes=arrived.spooled.bytes if arrived.spooled else 0,
        sha256=arrived.spooled.sha256 if arrived.spooled else None,
        archive=arrived.archive,
        database=target.database if target else None,
        mode=target.mode if target else fields.get("mode", "replace")[:16],
        warnings=target.warnings if target else (),
        created_at=datetime.now(UTC),
    )
    options = Options(
        table=target.table if target else None,
        media_type=arrived.media_type,
        wishes=target.wishes if target else Wishes(),
        table_given=target is not None and target.table_given,
    )
    if arrived.refusal is None:
        await node.uploads.start(receipt, options)
        return
    if arrived.spooled is not None:
        arrived.spooled.path.unlink(missing_ok=True)
    receipt = replace(receipt, bytes=arrived.refusal.extra.pop("bytes", receipt.bytes))
    await node.uploads.refuse(receipt, options, arrived.refusal)


def _check_create(node: Node, target: Target) -> None:
    """Refuse mode=create early where the table is there already; merge has the last word."""
    cut = node.primary.state.databases.get(target.database)
    if target.mode == "create" and cut is not None and target.table in cut.tables:
        raise Refusal("table-exists", f"the table {target.table!r} exists already")


def _answer(
    request: web.Request, receipts: list[Receipt], encoded: list[dict[str, Any]]
) -> web.Response:
    """Answer an upload: 201 published, 202 on its way, else the first problem."""
    location = {"Location": f"/ingest/receipts/{receipts[0].id}"}
    for receipt in receipts:
        if receipt.error is not None:
            document = {**receipt.error, "instance": f"/ingest/receipts/{receipt.id}"}
            if len(receipts) > 1:
                document["receipts"] = encoded
            return problem_response(request, document, location)
    published = all(receipt.state is UploadState.PUBLISHED for receipt in receipts)
    document = encoded[0] if len(receipts) == 1 else {"receipts": encoded}
    if request.headers.get("Prefer"):
        location["Preference-Applied"] = request.headers["Prefer"]
    return answer_json(document, status=201 if published else 202, headers=location)
