"""An archived upload once more: with the options of that time, or with others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from aiohttp import web

from headrace.arriving import ArrivedFile
from headrace.errors import Refusal
from headrace.idempotency import read_key
from headrace.operation import Who, operation
from headrace.options import Target, check_known, read_target
from headrace.receipt import new_receipt_id
from headrace.wishes import WISHES
from ingest.accept import accept
from ingest.api.allowing import key_of_writer
from ingest.api.declared import KEY, NOT_TAKEN, OPTIONS, PREFER, RECEIPT, UNUSABLE, UPLOADED
from ingest.api.node import NODE
from ingest.api.receipts import get_known
from ingest.api.uploads import answer_for
from ingest.archive import key_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.receipt import Receipt
    from ingest.journal import Options

routes = web.RouteTableDef()


@routes.post("/ingest/receipts/{id}/reprocess")
@operation(
    RECEIPT,
    *OPTIONS,
    PREFER,
    KEY,
    answers=UPLOADED,
    refuses=(*NOT_TAKEN, *UNUSABLE, "not-found", "bytes-gone", "overloaded"),
    who=Who.WRITER,
    checked=False,
)
async def post_reprocess(request: web.Request) -> web.Response:
    """Take an upload's bytes from the archive, as if they had been sent again.

    The new receipt names the one that they came from, and has its own copy of them.
    """
    node = request.app[NODE]
    writer = node.check_writer(request)
    before = await get_known(node, request.match_info["id"])
    writer.require(before.database)
    options = await node.journal.find_options(before.id)
    if options is None or not before.state.final:
        raise Refusal("in-flight", "that upload is still on its way", hint="wait for its end")

    archived = key_of(before)
    fields = dict(request.query)
    target = read_target_again(fields, before, options)
    writer.require(target.database)
    key = key_of_writer(writer, read_key(request.headers))
    with node.keys_in_flight.hold(key):
        arrived = ArrivedFile(
            receipt_id=new_receipt_id(node.clock.now()),
            filename=target.filename,
            media_type=options.media_type,
            from_receipt=before.id,
        )
        path = node.paths.spool / arrived.receipt_id
        arrived.archive = node.archive.key(arrived.receipt_id, arrived.filename)
        with node.uploads.places.hold(writer.id):
            async with node.receiving():
                with node.holds.hold(archived.rpartition("/")[0]):
                    arrived.spooled = await node.archive.copy(
                        before, path, key=arrived.archive, sender=writer.id
                    )
            asked = {**fields, "from": before.id}  # what an Idempotency-Key stands for
            ids = await accept(node, [arrived], asked, key, writer=writer, read=lambda *_: target)
        return await answer_for(request, ids, fields)


def read_target_again(fields: Mapping[str, str], receipt: Receipt, options: Options) -> Target:
    """Work out where an upload goes that is taken once more: as then, where nothing else is said.

    A field without a value stands for the default.

    Args:
        fields: What is asked for now.
        receipt: Of the time before.
        options: What was asked for then, besides what the receipt says.

    Raises:
        Refusal: ``invalid-option`` or ``invalid-name``.
    """
    before = {"mode": receipt.mode}
    if receipt.database is not None:
        before["database"] = receipt.database
    if options.table_given and options.table is not None:
        before["table"] = options.table
    kept = {name: value for name, value in before.items() if name not in fields}
    given = {name: value for name, value in fields.items() if value}
    check_known(fields)
    target = read_target({**kept, **given}, receipt.filename)
    asked = {name: getattr(target.wishes, name) for name in WISHES & fields.keys()}
    metadata = target.metadata if "metadata" in fields else options.metadata
    return replace(target, wishes=replace(options.wishes, **asked), metadata=metadata)
