"""Files that were fetched, on the way of uploads; and what is still the same as the last time."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from yarl import URL

from headrace.arriving import ArrivedFile, check_announced_size
from headrace.errors import Refusal
from headrace.generation import format_time
from headrace.idempotency import fingerprint
from headrace.options import clean_filename, read_target
from headrace.receipt import Receipt, UploadState, new_receipt_id
from ingest.accept import accept, drop
from ingest.fetch import Validators
from ingest.keeping import SpoolKeeper
from ingest.outcome import source_of

if TYPE_CHECKING:
    from headrace.fetching import FetchRequest
    from ingest.api.node import Node
    from ingest.writer import Writer

KIND = "fetched"  # of notes in the journal
KEPT = 1000  # of them
UNCHANGED = "{} has not changed since: this is the receipt of that time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What came of fetching.

    Attributes:
        arrived: The file, or why it did not come.
        same: The receipt of the last time, if the file is the same and nothing is to be done.
    """

    arrived: ArrivedFile
    same: Receipt | None = None


async def fetch(node: Node, asked: FetchRequest, writer: Writer) -> Fetched:
    """Fetch a file into the spool, unless it is the one that was fetched the last time.

    Args:
        node: The primary.
        asked: What is fetched.
        writer: Who asks for it.

    Raises:
        Refusal: ``fetch-off``.
    """
    if not node.fetcher.rules.on:
        node.fetcher.rules.permit(URL(asked.url))  # says how it is allowed
    arrived = ArrivedFile(
        receipt_id=new_receipt_id(node.now()),
        filename=clean_filename(asked.fields.get("filename")),
        source_url=asked.shown_url,
    )
    try:
        same = await _fetch(node, asked, arrived, writer)
    except Refusal as refusal:
        arrived.refusal = refusal
        same = None
    outcome = "failed" if arrived.refusal else "unchanged" if same else "fetched"
    node.metrics.fetches.labels(outcome).inc()
    return Fetched(arrived=arrived, same=same)


async def _fetch(
    node: Node, asked: FetchRequest, arrived: ArrivedFile, writer: Writer
) -> Receipt | None:
    """Fetch a file; give the receipt of the last time if it is the same."""
    url = URL(asked.url)
    note_id = _note_id(asked)
    last, known = await _find_last(node, asked, note_id)
    if last is not None and not writer.sees(last.database):
        last, known = None, Validators()
    async with node.fetcher.open(url, known) as answer:
        if not answer.modified:
            return last and _unchanged(last, asked)
        arrived.filename = arrived.filename or clean_filename(answer.filename)
        arrived.media_type = answer.media_type
        target = read_target(asked.fields, arrived.filename)
        writer.require(target.database)  # before the body comes
        check_announced_size(answer.length, node.max_upload_bytes)
        node.require_room(answer.length or 0)
        await SpoolKeeper(node, writer.id).keep(arrived, answer.chunks())
        validators = answer.validators
    spooled = arrived.spooled
    if spooled is not None and last is not None and spooled.sha256 == last.sha256:
        return _unchanged(last, asked)
    note = {
        "receipt": arrived.receipt_id,
        "etag": validators.etag,
        "last_modified": validators.last_modified,
        "at": format_time(node.now()),
    }
    await node.journal.put_note(KIND, note_id, note, keep=KEPT)
    return None


async def _find_last(
    node: Node, asked: FetchRequest, note_id: str
) -> tuple[Receipt | None, Validators]:
    """Find what was fetched from there the last time, if readers still show just that.

    Rows that were appended count as long as the database is there: else they came twice.
    """
    note = await node.journal.find_note(KIND, note_id)
    last = await node.journal.find(note["receipt"]) if note else None
    if note is None or last is None or last.state is not UploadState.PUBLISHED:
        return None, Validators()
    cut = node.primary.state.databases.get(last.database or "")
    shown = cut is not None and (last.mode == "append" or cut.source == source_of(last))
    if not shown or asked.fields.get("mode") == "create":
        return None, Validators()
    return last, Validators(etag=note["etag"], last_modified=note["last_modified"])


def _unchanged(last: Receipt, asked: FetchRequest) -> Receipt:
    said = UNCHANGED.format(asked.shown_url)
    return replace(last, warnings=(*last.warnings, said))


def _note_id(asked: FetchRequest) -> str:
    """Give what stands for a URL with what is made of it."""
    document: dict[str, Any] = asked.encode()
    document["fields"].pop("wait_for", None)
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


async def upload(
    node: Node, asked: FetchRequest, writer: Writer, key: str | None = None
) -> tuple[str, Receipt | None]:
    """Fetch a file, and send it on its way as an upload.

    Args:
        node: The primary.
        asked: What is fetched, and what is to become of it.
        writer: Who asks for it.
        key: The request's ``Idempotency-Key``: used again, nothing is fetched.

    Returns:
        Id of the receipt; and that receipt, if the file is the same as the last time.

    Raises:
        Refusal: ``fetch-off``, ``key-reused`` or ``stopping``.
    """
    mark = fingerprint({**asked.fields, "url": asked.url}, [])
    claim = None if key is None else await node.journal.find_claim(key)
    if claim is not None and claim.fingerprint == mark and not claim.failed:
        return claim.receipts[0], None
    async with node.receiving():
        fetched = await fetch(node, asked, writer)
    if fetched.same is not None:
        await drop(node, fetched.arrived)
        return fetched.same.id, fetched.same
    arrived = [fetched.arrived]
    ids = await accept(node, arrived, asked.fields, key, writer=writer, mark=mark)
    return ids[0], None
