"""Uploads: what can be sent, and what becomes of what is."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, web

from headrace import __version__, documents
from headrace.arriving import name_and_sha256, receive_body, receive_form
from headrace.errors import Refusal
from headrace.fetching import decode_fetch, is_fetch, read_fetch
from headrace.idempotency import KEPT_FOR, Claim, fingerprint, read_key
from headrace.operation import Who, operation
from headrace.options import (
    DEFAULT_WAIT_S,
    FIELDS,
    MODES,
    Target,
    read_target,
    wait_of,
)
from headrace.receipt import Receipt, UploadState
from headrace.web import answer_json, problem_response
from headrace.wishes import Wishes
from ingest.api.allowing import FORM, audit_rows_of, key_of_writer, require_early
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
from ingest.journal import Options
from ingest.outcome import refusal_of
from ingest.stopping import UPLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headrace.arriving import ArrivedFile
    from ingest.api.node import Node
    from ingest.writer import Writer

    ReadTarget = Callable[[Mapping[str, str], str | None], Target]

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
    with node.keys_in_flight.hold(key):
        with node.uploads.places.hold(writer.id):
            async with node.receiving():
                if request.content_type == FORM:
                    arrived, fields = await receive_form(request, node)
                else:
                    arrived, fields = [await receive_body(request, node)], dict(request.query)
            ids = await start(node, arrived, fields, key, writer=writer)
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


async def start(
    node: Node,
    arrived: list[ArrivedFile],
    fields: Mapping[str, str],
    key: str | None,
    *,
    writer: Writer,
    read: ReadTarget = read_target,
    promised: bool = False,
    mark: str | None = None,
) -> tuple[str, ...]:
    """Journal a request, and send its files on their way; give the ids of its receipts.

    A request with a key that was used before gets the receipts of that time; what failed of it, and
    not by the client's fault, is tried again.

    Args:
        node: The primary.
        arrived: Its files.
        fields: Its options.
        key: Its ``Idempotency-Key``.
        writer: Who sent it.
        read: Works out where a file goes, from the options and its name.
        promised: Whether its receipts were given out already. Then they lead to those of the first
            time, and whoever calls deletes the bytes of which nothing is done.
        mark: What tells the request from others, if that is not its options and files.

    Raises:
        Refusal: ``key-reused``, or that of a file whose bytes did not arrive whole.
    """
    dropped = [] if promised else arrived
    claim = None if key is None else await _claim(node, arrived, fields, key, dropped, mark=mark)
    ids = claim.receipts if claim else tuple(each.receipt_id for each in arrived)
    uploads = [
        _prepare(node, each, fields, read, writer) for each in arrived if each.receipt_id in ids
    ]
    pairs = zip((each.receipt_id for each in arrived), ids, strict=True)
    aliases = [(sent, shown) for sent, shown in pairs if promised and sent != shown]
    for each in dropped:
        if each.refusal is not None or each.receipt_id not in ids:
            await drop(node, each)
    if uploads or aliases:
        try:
            await node.uploads.start(uploads, claim, aliases, audit_rows_of(node, uploads, writer))
        except sqlite3.Error as exc:  # of a disk that is full
            for each in dropped:
                await drop(node, each)
            raise refusal_of(exc) from exc
    return ids


async def _claim(
    node: Node,
    arrived: list[ArrivedFile],
    fields: Mapping[str, str],
    key: str,
    dropped: list[ArrivedFile],
    *,
    mark: str | None,
) -> Claim | None:
    """Give what a key stands for: these files, those of the first time, or some of each.

    A request whose bytes did not arrive whole claims nothing, and nothing is done of it: nobody can
    tell whether the next one of that key is the same.

    Raises:
        Refusal: ``key-reused``, or that of a file whose bytes did not arrive whole.
    """
    ids = tuple(each.receipt_id for each in arrived)
    broken = next((each.refusal for each in arrived if each.spooled is None or each.cut), None)
    mark = mark or fingerprint(fields, map(name_and_sha256, arrived))
    before = await node.journal.find_claim(key)
    if before is None:
        if broken is None:
            return Claim(key=key, fingerprint=mark, receipts=ids)
        for each in arrived:
            each.refusal = each.refusal or broken
        return None
    if broken is not None or before.fingerprint != mark:
        for each in dropped:
            await drop(node, each)
        raise broken or Refusal(
            "key-reused", "another request had this Idempotency-Key in the last 24 hours"
        )
    paired = zip(ids, before.receipts, strict=True)
    again = tuple(new if old in before.failed else old for new, old in paired)
    return Claim(key=key, fingerprint=mark, receipts=again)


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


async def drop(node: Node, arrived: ArrivedFile) -> None:
    """Let go of bytes that nothing will be done with."""
    if arrived.spooled is not None and arrived.spooled.path is not None:
        arrived.spooled.path.unlink(missing_ok=True)
    if arrived.archive is not None:
        await node.archive.forget(arrived.archive)


def _prepare(
    node: Node,
    arrived: ArrivedFile,
    fields: Mapping[str, str],
    read: ReadTarget,
    writer: Writer,
) -> tuple[Receipt, Options]:
    """Give the receipt of one file of a request; it is refused if something speaks against it."""
    target: Target | None = None
    try:
        target = read(fields, arrived.filename)
        writer.require(target.database)
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
        created_at=arrived.arrived_at or datetime.now(UTC),
        from_receipt=arrived.from_receipt,
        source_url=arrived.source_url,
    )
    options = Options(
        table=target.table if target else None,
        media_type=arrived.media_type,
        wishes=target.wishes if target else Wishes(),
        table_given=target is not None and target.table_given,
        metadata=target.metadata if target else None,
        sent_by=writer.id,
    )
    if arrived.refusal is not None:
        receipt = replace(
            receipt,
            state=UploadState.FAILED,
            bytes=arrived.refusal.extra.pop("bytes", receipt.bytes),
            archive=None,
            error=arrived.refusal.document(),
        )
    return receipt, options


def _check_create(node: Node, target: Target) -> None:
    """Refuse mode=create early where the table is there already; merge has the last word."""
    cut = node.primary.state.databases.get(target.database)
    if target.mode == "create" and cut is not None and target.table in cut.tables:
        raise Refusal("table-exists", f"the table {target.table!r} exists already")


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
