"""The primary's HTTP interface, on its private port; readers pass ``/ingest…`` on to it."""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import BodyPartReader, ClientError, MultipartReader, web

from headrace import __version__
from headrace.errors import Refusal
from headrace.names import check_database_name
from headrace.receipt import Receipt, UploadState, new_receipt_id
from headrace.web import problem_response, problems
from ingest.converters import KNOWN_FORMATS
from ingest.journal import Options
from ingest.options import (
    DEFAULT_WAIT_S,
    MODES,
    Target,
    check_digest,
    clean_filename,
    filename_of,
    read_target,
    wait_of,
)
from ingest.receive import Spooled, check_announced_size, receive
from ingest.regions import Regions, Report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from headrace.keys import PrimaryPaths
    from ingest.auth import Tokens
    from ingest.journal import Journal
    from ingest.metrics import IngestMetrics
    from ingest.primary import Primary
    from ingest.publish import Publisher
    from ingest.replicate import Litestream
    from ingest.upload import Uploads

log = structlog.get_logger()

CHUNK_BYTES = 256 * 1024
MAX_FIELD_BYTES = 4096  # of a form field that is not a file
MAX_FILES = 100  # in one form
HEARTBEAT_S = 5.0  # seconds between empty lines on the push stream
PAGE = 100  # receipts a page

_RECEIPT_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(slots=True)
class _Arrived:
    """One file of a request: spooled whole, or refused."""

    receipt_id: str
    filename: str
    media_type: str | None
    spooled: Spooled | None = None
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """The handlers, and what they work on."""

    paths: PrimaryPaths
    tokens: Tokens
    journal: Journal
    uploads: Uploads
    primary: Primary
    publisher: Publisher
    regions: Regions
    litestream: Litestream
    metrics: IngestMetrics
    stopping: asyncio.Event
    max_upload_bytes: int

    def app(self) -> web.Application:
        """Give the application."""
        app = web.Application(middlewares=[problems, self._with_generation])
        app.router.add_get("/-/healthz", self.get_health)
        app.router.add_get("/-/generations", self.get_generations)
        app.router.add_post("/-/readers", self.post_reader)
        app.router.add_get("/ingest", self.get_ingest)
        app.router.add_post("/ingest", self.post_ingest)
        app.router.add_get("/ingest/receipts", self.get_receipts)
        app.router.add_get("/ingest/receipts/{id}", self.get_receipt)
        app.router.add_delete("/ingest/databases/{database}", self.delete_database)
        app.router.add_delete("/ingest/databases/{database}/{table}", self.delete_table)
        return app

    async def get_health(self, _request: web.Request) -> web.Response:
        """``GET /-/healthz``: whether uploads are taken."""
        up = self.litestream.up.is_set() and not self.stopping.is_set()
        document = {"ok": up, "generation": self.primary.state.number}
        return web.json_response(document, status=200 if up else 503)

    async def get_ingest(self, _request: web.Request) -> web.Response:
        """``GET /ingest``: what can be sent."""
        return web.json_response(
            {
                "version": __version__,
                "formats": list(KNOWN_FORMATS),
                "modes": list(MODES),
                "max_upload_bytes": self.max_upload_bytes,
                "default_wait_s": DEFAULT_WAIT_S,
                "databases": sorted(self.primary.state.databases),
            }
        )

    async def post_ingest(self, request: web.Request) -> web.Response:
        """``POST /ingest``: one file as the body, or several as a form."""
        self.tokens.check(request.headers)
        self._check_open()
        if request.content_type == "multipart/form-data":
            arrived, fields = await self._receive_form(request)
        else:
            arrived, fields = [await self._receive_body(request)], dict(request.query)
        ids = [each.receipt_id for each in arrived]
        for each in arrived:
            await self._start(each, fields)
        wait_s = wait_of(request.headers.getall("Prefer", []))
        deadline_s = time.monotonic() + wait_s
        ends = await asyncio.gather(*(self.uploads.wait(each, wait_s) for each in ids))
        receipts = [receipt for receipt in ends if receipt is not None]
        if "wait_for" in fields:
            newest = max(receipt.generation or 0 for receipt in receipts)
            await self.regions.wait_live(newest, deadline_s - time.monotonic())
        return _answer(request, receipts, [await self._encode(receipt) for receipt in receipts])

    async def get_receipt(self, request: web.Request) -> web.Response:
        """``GET /ingest/receipts/<id>``: ids cannot be guessed, so knowing one is enough."""
        receipt_id = request.match_info["id"]
        found = await self.journal.find(receipt_id) if _RECEIPT_ID.fullmatch(receipt_id) else None
        if found is None:
            raise Refusal("not-found", "there is no such receipt")
        return _json(await self._encode(found))

    async def get_receipts(self, request: web.Request) -> web.Response:
        """``GET /ingest/receipts``: the newest first; ``?before=<id>`` pages on."""
        self.tokens.check(request.headers)
        before = request.query.get("before")
        if before is not None and not _RECEIPT_ID.fullmatch(before):
            raise Refusal("invalid-option", "before is not the id of a receipt")
        found = await self.journal.read_newest(limit=PAGE, before=before)
        next_page = f"/ingest/receipts?before={found[-1].id}" if len(found) == PAGE else None
        receipts = [await self._encode(receipt) for receipt in found]
        return _json({"receipts": receipts, "next": next_page})

    async def _encode(self, receipt: Receipt) -> dict[str, Any]:
        """Give a receipt with the regions in which it is live by now."""
        live = await self.journal.read_live(receipt.generation) if receipt.generation else {}
        return {**receipt.encode(), "live": live}

    async def post_reader(self, request: web.Request) -> web.Response:
        """``POST /-/readers``: a reader says which generation it serves."""
        try:
            document = await request.json()
        except ValueError as exc:
            raise Refusal("bad-request", "the report is not JSON") from exc
        await self.regions.note(Report.decode(document))
        return _json({"ok": True})

    async def delete_database(self, request: web.Request) -> web.Response:
        """``DELETE /ingest/databases/<database>``."""
        self.tokens.check(request.headers)
        self._check_open()
        database = check_database_name(request.match_info["database"])
        entry = await self.primary.delete_database(database)
        return _json({"removed": database, "generation": entry.number})

    async def delete_table(self, request: web.Request) -> web.Response:
        """``DELETE /ingest/databases/<database>/<table>``."""
        self.tokens.check(request.headers)
        self._check_open()
        database = check_database_name(request.match_info["database"])
        table = request.match_info["table"]
        entry = await self.primary.delete_table(database, table)
        return _json({"removed": f"{database}/{table}", "generation": entry.number})

    async def get_generations(self, request: web.Request) -> web.StreamResponse:
        """``GET /-/generations?after=N``: the log from there on, one entry a line, as it grows."""
        try:
            after = int(request.query.get("after", "0"))
        except ValueError as exc:
            raise Refusal("invalid-option", "after is not a number") from exc
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        entries = self.publisher.follow(after)
        upcoming = asyncio.ensure_future(anext(entries))
        stopping = asyncio.ensure_future(self.stopping.wait())
        self.metrics.followers.inc()
        try:
            while not self.stopping.is_set():
                await asyncio.wait(
                    [upcoming, stopping],
                    timeout=HEARTBEAT_S,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if upcoming.done():
                    await response.write(upcoming.result().encode() + b"\n")
                    upcoming = asyncio.ensure_future(anext(entries))
                else:
                    await response.write(b"\n")
        except ConnectionError:
            log.debug("follower gone")
        finally:
            self.metrics.followers.dec()
            stopping.cancel()
            upcoming.cancel()
            await asyncio.gather(upcoming, stopping, return_exceptions=True)
            await entries.aclose()
        return response

    def _check_open(self) -> None:
        """Refuse writes while they could not be kept.

        Raises:
            Refusal: ``stopping`` or ``replication-down``.
        """
        if self.stopping.is_set():
            raise Refusal("stopping", "the primary is stopping: send it again")
        if not self.litestream.up.is_set():
            raise Refusal(
                "replication-down", "Litestream is down, so nothing could be kept: send it again"
            )

    async def _receive_body(self, request: web.Request) -> _Arrived:
        media_type = request.headers.get("Content-Type")
        filename = request.query.get("filename") or filename_of(request.headers)
        arrived = _Arrived(new_receipt_id(), clean_filename(filename), media_type)
        try:
            read_target(request.query, filename)  # refuse before the body is sent
            check_announced_size(request.content_length, self.max_upload_bytes)
        except Refusal as refusal:
            arrived.refusal = refusal
            return arrived
        await self._spool(arrived, _body(request))
        if arrived.spooled is not None:
            try:
                check_digest(request.headers, arrived.spooled.sha256)
            except Refusal as refusal:
                arrived.refusal = refusal
        return arrived

    async def _receive_form(self, request: web.Request) -> tuple[list[_Arrived], dict[str, str]]:
        """Spool every file of a form; its other fields are options, before or after the files."""
        arrived: list[_Arrived] = []
        fields = dict(request.query)
        broken: Refusal | None = None
        try:
            async for part in _parts(await request.multipart()):
                if part.name == "file" or part.filename is not None:
                    arrived.append(await self._receive_part(part, len(arrived)))
                elif part.name is not None:
                    fields[part.name] = await _field(part)
        except Refusal as refusal:
            broken = refusal
        except (ValueError, ConnectionError, ClientError) as exc:
            broken = Refusal("bad-request", f"the form cannot be read: {exc}")
        if not arrived:
            broken = broken or Refusal("bad-request", "the form has no field 'file'")
            arrived.append(_Arrived(new_receipt_id(), "", None))
        for each in arrived:
            each.refusal = each.refusal or broken
        return arrived, fields

    async def _receive_part(self, part: BodyPartReader, files: int) -> _Arrived:
        if files == MAX_FILES:
            raise Refusal("bad-request", f"one form takes {MAX_FILES} files at most")
        media_type = part.headers.get("Content-Type")
        arrived = _Arrived(new_receipt_id(), clean_filename(part.filename), media_type)
        await self._spool(arrived, _part(part))
        return arrived

    async def _spool(self, arrived: _Arrived, chunks: AsyncIterator[bytes]) -> None:
        path = self.paths.spool / arrived.receipt_id
        try:
            arrived.spooled = await receive(chunks, path, limit_bytes=self.max_upload_bytes)
        except Refusal as refusal:
            arrived.refusal = refusal

    async def _start(self, arrived: _Arrived, fields: Mapping[str, str]) -> None:
        """Journal one file of a request, and send it on its way if nothing speaks against it."""
        target: Target | None = None
        try:
            target = read_target(fields, arrived.filename)
            self._check_create(target)
        except Refusal as refusal:
            arrived.refusal = arrived.refusal or refusal
        receipt = Receipt(
            id=arrived.receipt_id,
            state=UploadState.RECEIVED,
            filename=target.filename if target else arrived.filename,
            bytes=arrived.spooled.bytes if arrived.spooled else 0,
            sha256=arrived.spooled.sha256 if arrived.spooled else None,
            database=target.database if target else None,
            mode=target.mode if target else fields.get("mode", "replace")[:16],
            warnings=target.warnings if target else (),
            created_at=datetime.now(UTC),
        )
        options = Options(table=target.table if target else None, media_type=arrived.media_type)
        if arrived.refusal is None:
            await self.uploads.start(receipt, options)
            return
        if arrived.spooled is not None:
            arrived.spooled.path.unlink(missing_ok=True)
        receipt = replace(receipt, bytes=arrived.refusal.extra.pop("bytes", receipt.bytes))
        await self.uploads.refuse(receipt, options, arrived.refusal)

    def _check_create(self, target: Target) -> None:
        """Refuse mode=create early where the table is there already; merge has the last word."""
        cut = self.primary.state.databases.get(target.database)
        if target.mode == "create" and cut is not None and target.table in cut.tables:
            raise Refusal("table-exists", f"the table {target.table!r} exists already")

    @web.middleware
    async def _with_generation(self, request: web.Request, handler: Any) -> web.StreamResponse:
        response: web.StreamResponse = await handler(request)
        if not response.prepared:
            response.headers["Headrace-Generation"] = str(self.primary.state.number)
        return response


async def _body(request: web.Request) -> AsyncIterator[bytes]:
    """Give a request's body in pieces.

    Raises:
        Refusal: ``incomplete-body``.
    """
    try:
        async for chunk in request.content.iter_chunked(CHUNK_BYTES):
            yield chunk
    except (ConnectionError, ClientError, web.RequestPayloadError) as exc:
        raise Refusal("incomplete-body", "the connection ended before the file did") from exc


async def _parts(reader: MultipartReader) -> AsyncIterator[BodyPartReader]:
    """Give a form's parts.

    Raises:
        Refusal: ``bad-request``.
    """
    async for part in reader:
        if not isinstance(part, BodyPartReader):
            raise Refusal("bad-request", "a part of the form has parts itself")
        yield part


async def _part(part: BodyPartReader) -> AsyncIterator[bytes]:
    """Give a form's file in pieces.

    Raises:
        Refusal: ``incomplete-body``.
    """
    try:
        while chunk := await part.read_chunk(CHUNK_BYTES):
            yield chunk
    except (ConnectionError, ClientError, web.RequestPayloadError, ValueError) as exc:
        raise Refusal("incomplete-body", "the connection ended before the file did") from exc


async def _field(part: BodyPartReader) -> str:
    """Read a form field that is not a file.

    Raises:
        Refusal: ``bad-request``.
    """
    body = bytearray()
    while chunk := await part.read_chunk(MAX_FIELD_BYTES):
        body += chunk
        if len(body) > MAX_FIELD_BYTES:
            raise Refusal("bad-request", f"the field {part.name!r} is too long")
    try:
        return body.decode()
    except UnicodeDecodeError as exc:
        raise Refusal("bad-request", f"the field {part.name!r} is not UTF-8") from exc


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
    return _json(document, status=201 if published else 202, headers=location)


def _json(
    document: Any, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    headers = {"Cache-Control": "no-store", **(headers or {})}
    text = json.dumps(document, ensure_ascii=False) + "\n"  # a newline, for people's terminals
    return web.json_response(text=text, status=status, headers=headers)
