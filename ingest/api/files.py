"""The files of a request: its body is one, or a form holds several; each goes to the spool."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from aiohttp import BodyPartReader, ClientError, web

from headrace.errors import Refusal
from headrace.receipt import new_receipt_id
from ingest.api.node import NODE
from ingest.options import check_digest, clean_filename, filename_of, read_target
from ingest.receive import Spooled, check_announced_size

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

Read = TypeVar("Read")

CHUNK_BYTES = 256 * 1024
SILENCE_S = 60.0  # of a client that has not sent all of its file
MAX_FIELD_BYTES = 4096  # of a form field that is not a file
MAX_FILES = 100  # in one form


@dataclass(slots=True, kw_only=True)
class ArrivedFile:
    """One file of a request: spooled whole, or refused."""

    receipt_id: str
    filename: str = ""
    media_type: str | None = None
    spooled: Spooled | None = None
    archive: str | None = None
    from_receipt: str | None = None
    refusal: Refusal | None = None


async def receive_body(request: web.Request) -> ArrivedFile:
    """Spool a request's body."""
    node = request.app[NODE]
    filename = request.query.get("filename") or filename_of(request.headers)
    arrived = ArrivedFile(
        receipt_id=_new_id(request),
        filename=clean_filename(filename),
        media_type=request.headers.get("Content-Type"),
    )
    try:
        read_target(request.query, filename)  # refuse before the body is sent
        check_announced_size(request.content_length, node.max_upload_bytes)
        node.disk.require(request.content_length or 0)
        await _spool(request, arrived, request.content.read)
        if arrived.spooled is not None:
            check_digest(request.headers, arrived.spooled.sha256)
    except Refusal as refusal:
        arrived.refusal = refusal
    return arrived


async def receive_form(request: web.Request) -> tuple[list[ArrivedFile], dict[str, str]]:
    """Spool every file of a form; its other fields are options, before or after the files."""
    arrived: list[ArrivedFile] = []
    fields = dict(request.query)
    broken: Refusal | None = None
    try:
        request.app[NODE].disk.require(request.content_length or 0)
        parts = aiter(await request.multipart())
        while (part := await _in_time(anext(parts, None))) is not None:
            if not isinstance(part, BodyPartReader):
                raise Refusal("bad-request", "a part of the form has parts itself")
            if part.name == "file" or part.filename is not None:
                if len(arrived) == MAX_FILES:
                    raise Refusal("bad-request", f"one form takes {MAX_FILES} files at most")
                arrived.append(await _receive_part(request, part))
            elif part.name is not None:
                fields[part.name] = await _read_field(part)
    except Refusal as refusal:
        broken = refusal
    except (ValueError, ConnectionError, ClientError) as exc:
        broken = Refusal("bad-request", f"the form cannot be read: {exc}")
    if not arrived:
        broken = broken or Refusal("bad-request", "the form has no field 'file'")
        arrived.append(ArrivedFile(receipt_id=_new_id(request)))
    for each in arrived:
        each.refusal = each.refusal or broken
    return arrived, fields


def _new_id(request: web.Request) -> str:
    return new_receipt_id(request.app[NODE].clock.now())


async def _receive_part(request: web.Request, part: BodyPartReader) -> ArrivedFile:
    media_type = part.headers.get("Content-Type")
    arrived = ArrivedFile(
        receipt_id=_new_id(request), filename=clean_filename(part.filename), media_type=media_type
    )
    await _spool(request, arrived, part.read_chunk)
    return arrived


async def _spool(
    request: web.Request, arrived: ArrivedFile, read: Callable[[int], Awaitable[bytes]]
) -> None:
    node = request.app[NODE]
    path = node.paths.spool / arrived.receipt_id
    try:
        key = node.archive.key(arrived.receipt_id, arrived.filename)
        arrived.spooled = await node.archive.receive(
            _chunks(read), path, key=key, limit_bytes=node.max_upload_bytes
        )
        arrived.archive = key
    except Refusal as refusal:
        arrived.refusal = refusal


async def _chunks(read: Callable[[int], Awaitable[bytes]]) -> AsyncIterator[bytes]:
    """Give a file in pieces.

    Raises:
        Refusal: ``incomplete-body``.
    """
    try:
        while chunk := await _in_time(read(CHUNK_BYTES)):
            yield chunk
    except (ConnectionError, ClientError, web.RequestPayloadError, ValueError) as exc:
        raise Refusal("incomplete-body", "the connection ended before the file did") from exc


async def _in_time(reading: Awaitable[Read]) -> Read:
    """Wait for a client that sends something.

    Raises:
        Refusal: ``incomplete-body``.
    """
    try:
        async with asyncio.timeout(SILENCE_S):
            return await reading
    except TimeoutError as exc:
        raise Refusal("incomplete-body", f"nothing came for {SILENCE_S:g} s") from exc


async def _read_field(part: BodyPartReader) -> str:
    """Read a form field that is not a file.

    Raises:
        Refusal: ``bad-request``.
    """
    body = bytearray()
    while chunk := await _in_time(part.read_chunk(MAX_FIELD_BYTES)):
        body += chunk
        if len(body) > MAX_FIELD_BYTES:
            raise Refusal("bad-request", f"the field {part.name!r} is too long")
    try:
        return body.decode()
    except UnicodeDecodeError as exc:
        raise Refusal("bad-request", f"the field {part.name!r} is not UTF-8") from exc
