"""Uploads: what can be sent, and what becomes of what is."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, web

from headrace import __version__, documents
from headrace.arriving import receive_body, receive_form
from headrace.errors import Refusal
from headrace.fetching import decode_fetch, is_fetch, read_fetch
from headrace.idempotency import KEPT_FOR, read_key
from headrace.operation import Who, operation
from headrace.options import (
    DEFAULT_WAIT_S,
    FIELDS,
    MODES,
    wait_of,
)
from headrace.receipt import Receipt, UploadState
from headrace.tracing import span
from headrace.web import answer_json, problem_response
from ingest.accept import accept
from ingest.api.allowing import FORM, key_of_writer, require_early
from ingest.api.declared import (
    DIGESTS,
    DISPOSITION,
    FETCH,
    FILE,
    FILES,
    KEY,
    NOT_ARRIVED,
    NOT_FETCHED,
    NOT_TAKEN,
    OPTIONS,
    PREFER,
    UNUSABLE,
    UPLOADED,
    answers_json,
)
from ingest.api.node import DATABASE, NODE
from ingest.api.receipts import encode_receipt
from ingest.documents import Invitation
from ingest.fetched import upload
from ingest.keeping import SpoolKeeper
from ingest.stopping import UPLOADS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingest.writer import Writer


routes = web.RouteTableDef()


@routes.get("/ingest")
@operation(answers=answers_json(Invitation, "Formats, options and limits."))
async def get_ingest(request: web.Request) -> web.Response:
    """Say what can be sent."""
    node = request.app[NODE]
    invitation: Invitation = {
        "version": __version__,
        "formats": list(node.registry.names),
        "modes": list(MODES),
        "options": sorted(FIELDS),
        "fetch": node.fetcher.rules.on,
        "max_upload_bytes": node.max_upload_bytes,
        "default_wait_s": DEFAULT_WAIT_S,
        "idempotency_key_s": KEPT_FOR.total_seconds(),
        "databases": sorted(node.primary.state.databases),
    }
    return web.json_response(invitation)


async def invite(request: web.Request) -> web.StreamResponse | None:
    """Ask for a body only if it can be taken: else a reader keeps it, and takes it itself."""
    node = request.app[NODE]
    try:
        writer = node.check_writer(request)
        require_early(request, writer)
        node.uploads.places.require(writer.id)
    except Refusal as refusal:
        node.note_denied(request, refusal)
        response = problem_response(request, refusal.document())
        response.force_close()  # a client may send the body all the same
        return response
    if request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # else it would take that for the answer
    return None


@routes.post("/ingest", expect_handler=invite)
@operation(
    *OPTIONS,
    PREFER,
    KEY,
    DISPOSITION,
    *DIGESTS,
    bodies=(FILE, FILES, FETCH),
    answers={**answers_json(documents.Receipt, "Not changed since it was fetched."), **UPLOADED},
    refuses=(
        *(*NOT_TAKEN, *NOT_ARRIVED, *NOT_FETCHED, *UNUSABLE),
        *("digest-mismatch", "primary-lost", "overloaded"),
    ),
    who=Who.WRITER,
    checked=False,
)
async def post_ingest(request: web.Request) -> web.Response:
    """Take one file as the body, several as a form, or one that a URL leads to."""
    node = request.app[NODE]
    writer = node.check_writer(request)
    if is_fetch(request):
        return await _post_fetch(request, writer)
    require_early(request, writer)
    key = key_of_writer(writer, read_key(request.headers))
    keeper = SpoolKeeper(node, writer.id)
    with node.keys_in_flight.hold(key):
        with node.uploads.places.hold(writer.id):
            with span("receive"):
                async with node.receiving():
                    if request.content_type == FORM:
                        arrived, fields = await receive_form(request, keeper)
                    else:
                        arrived, fields = [await receive_body(request, keeper)], dict(request.query)
            ids = await accept(node, arrived, fields, key, writer=writer)
        return await answer_for(request, ids, fields)


async def _post_fetch(request: web.Request, writer: Writer) -> web.Response:
    """Fetch a file; what has not changed since the last time is answered with that receipt."""
    node = request.app[NODE]
    asked = decode_fetch(await read_fetch(request))
    if "database" in asked.fields:
        request[DATABASE] = asked.fields["database"]
        writer.require(asked.fields["database"])
    key = key_of_writer(writer, read_key(request.headers))
    with node.keys_in_flight.hold(key), node.uploads.places.hold(writer.id):
        receipt_id, same = await upload(node, asked, writer, key)
    if same is not None:
        return answer_json(await encode_receipt(node, same))
    return await answer_for(request, (receipt_id,), asked.fields)


async def answer_for(
    request: web.Request, ids: tuple[str, ...], fields: Mapping[str, str]
) -> web.Response:
    """Wait for uploads as long as the client wants to, and answer with their receipts.

    Raises:
        Refusal: ``replication-down`` or ``lease-lapsed``: the receipts may be kept, or not.
    """
    node = request.app[NODE]
    wait_s = wait_of(request.headers.getall("Prefer", []))
    deadline_s = time.monotonic() + wait_s
    ends = await asyncio.gather(*(node.uploads.wait(each, wait_s) for each in ids))
    receipts = [receipt for receipt in ends if receipt is not None]
    if "wait_for" in fields:
        newest = max(receipt.generation or 0 for receipt in receipts)
        with suppress(TimeoutError):
            async with node.stop.limit(UPLOADS):
                await node.regions.wait_live(newest, deadline_s - time.monotonic())
    await node.journal_replica.keep()
    encoded = [await encode_receipt(node, receipt) for receipt in receipts]
    return _answer(request, receipts, encoded)


def _answer(
    request: web.Request, receipts: list[Receipt], encoded: list[documents.Receipt]
) -> web.Response:
    """Answer an upload: 201 published, 202 on its way, else the first problem."""
    location = {"Location": f"/ingest/receipts/{receipts[0].id}"}
    for receipt in receipts:
        if receipt.error is not None:
            problem = {**receipt.error, "instance": f"/ingest/receipts/{receipt.id}"}
            if len(receipts) > 1:
                problem["receipts"] = encoded
            return problem_response(request, problem, location)
    published = all(receipt.state is UploadState.PUBLISHED for receipt in receipts)
    said: documents.Receipt | documents.ReceiptList
    said = encoded[0] if len(receipts) == 1 else {"receipts": encoded}
    if request.headers.get("Prefer"):
        location["Preference-Applied"] = request.headers["Prefer"]
    return answer_json(said, status=201 if published else 202, headers=location)
