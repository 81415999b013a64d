"""Where every way in ends: bytes that arrived become uploads that are journalled and go on."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

from headrace.arriving import name_and_sha256
from headrace.errors import Refusal
from headrace.idempotency import Claim, fingerprint
from headrace.options import read_target
from headrace.receipt import Receipt, UploadState
from headrace.tracing import TRACEPARENT, carried
from headrace.wishes import Wishes
from ingest.audit_actions import REPROCESS, UPLOAD
from ingest.audit_rows import ACCEPTED, AuditRow
from ingest.journal import Options
from ingest.outcome import refusal_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from headrace.arriving import ArrivedFile
    from headrace.options import Target
    from ingest.api.node import Node
    from ingest.writer import Writer

    ReadTarget = Callable[[Mapping[str, str], str | None], Target]


async def accept(
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
            await node.uploads.start(uploads, claim, aliases, _audit_rows(node, uploads, writer))
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
        created_at=arrived.arrived_at or node.now(),
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
        traceparent=carried().get(TRACEPARENT),
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


async def drop(node: Node, arrived: ArrivedFile) -> None:
    """Let go of bytes that nothing will be done with."""
    if arrived.spooled is not None and arrived.spooled.path is not None:
        arrived.spooled.path.unlink(missing_ok=True)
    if arrived.archive is not None:
        await node.archive.forget(arrived.archive)


def _audit_rows(
    node: Node, uploads: Iterable[tuple[Receipt, Options]], writer: Writer
) -> tuple[AuditRow, ...]:
    """Say what is done; it is written down along with the receipts."""
    return tuple(
        AuditRow.of(
            writer,
            REPROCESS if receipt.from_receipt else UPLOAD,
            node.now(),
            database=receipt.database,
            receipt=receipt.id,
            outcome=receipt.error["code"] if receipt.error else ACCEPTED,
        )
        for receipt, _options in uploads
    )
