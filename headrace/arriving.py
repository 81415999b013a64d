"""The files of a request: its body is one, or a form holds several; each goes where it is kept."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from aiohttp import BodyPartReader, ClientError, web
from aiohttp.http_exceptions import HttpProcessingError

from headrace.errors import Refusal
from headrace.metadata_text import MAX_TEXT_BYTES
from headrace.options import check_digest, clean_filename, database_of, filename_of, read_target
from headrace.receipt import new_receipt_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from datetime import datetime
    from pathlib import Path

    from headrace.errors import HeadraceError

CHUNK_BYTES = 64 * 1024
MAX_FIELD_BYTES = 4096  # of a form field that is not a file
MAX_FILES = 100  # in one form
STALL_S = 60.0  # for a client to send the next bytes

Done = TypeVar("Done")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """A body that has arrived whole, and is durable.

    Attributes:
        path: Where it lies on the volume; None: in the object store alone.
        bytes: Its size.
        sha256: 64 hex digits.
    """

    path: Path | None
    bytes: int
    sha256: str


@dataclass(slots=True, kw_only=True)
class ArrivedFile:
    """One file of a request: kept whole, or refused.

    Attributes:
        receipt_id: Of its receipt.
        filename: Its name without folders.
        media_type: As the client sent it; None if it said nothing.
        spooled: The file itself; None if it did not arrive whole.
        archive: Its key in the object store; None if it is not there.
        from_receipt: Id of the receipt whose archived bytes it is; None if it was sent.
        source_url: Where it was fetched from, as it is shown; None if it was sent.
        refusal: What speaks against it.
        cut: Whether the request that it came in did not arrive whole.
        arrived_at: When it had arrived; None: now.
    """

    receipt_id: str
    filename: str = ""
    media_type: str | None = None
    spooled: Spooled | None = None
    archive: str | None = None
    from_receipt: str | None = None
    source_url: str | None = None
    refusal: Refusal | None = None
    cut: bool = False
    arrived_at: datetime | None = None


def name_and_sha256(arrived: ArrivedFile) -> tuple[str, str | None]:
    """Give what tells a file from others."""
    return arrived.filename, arrived.spooled.sha256 if arrived.spooled else None


class Keeper(Protocol):
    """Keeps the files of requests."""

    @property
    def max_upload_bytes(self) -> int:
        """The largest file that is taken."""

    def now(self) -> datetime:
        """Give the time, by a clock that never jumps."""

    def require_room(self, size_bytes: int) -> None:
        """Refuse a file for which there is no room.

        Raises:
            Refusal: ``disk-full``.
        """

    async def keep(self, arrived: ArrivedFile, chunks: AsyncIterator[bytes]) -> None:
        """Keep a file: sets ``spooled`` and ``archive``, unless it raises.

        Raises:
            Refusal: It did not arrive whole, is too large or empty, or cannot be kept.
        """


def find_database(request: web.BaseRequest) -> str | None:
    """Tell where an upload goes, if that stands before its body; of a form it may be a field."""
    if request.content_type == "multipart/form-data":
        return request.query.get("database")
    return database_of(request.query, filename_of(request.headers))


def check_announced_size(content_length: int | None, limit_bytes: int) -> None:
    """Refuse a body before it is sent, if its announced length is over the limit.

    Raises:
        Refusal: ``too-large``.
    """
    if content_length is not None and content_length > limit_bytes:
        raise too_large(limit_bytes)


def too_large(limit_bytes: int) -> Refusal:
    """Give the refusal of a file that is larger than that."""
    return Refusal("too-large", f"the limit is {limit_bytes} bytes", extra={"limit": limit_bytes})


async def receive_body(request: web.BaseRequest, keeper: Keeper) -> ArrivedFile:
    """Keep a request's body."""
    filename = request.query.get("filename") or filename_of(request.headers)
    arrived = ArrivedFile(
        receipt_id=new_receipt_id(keeper.now()),
        filename=clean_filename(filename),
        media_type=request.headers.get("Content-Type"),
    )
    try:
        read_target(request.query, filename)  # refuse before the body is sent
        check_announced_size(request.content_length, keeper.max_upload_bytes)
        keeper.require_room(request.content_length or 0)
        # One with a Content-Encoding comes unpacked: that is not the length that was announced.
        packed = request.headers.get("Content-Encoding", "identity").lower() != "identity"
        announced_bytes = None if packed else request.content_length
        await _keep(keeper, arrived, request.content.read, announced_bytes)
        if arrived.spooled is not None:
            check_digest(request.headers, arrived.spooled.sha256)
    except Refusal as refusal:
        arrived.refusal = refusal
    return arrived


async def receive_form(
    request: web.BaseRequest, keeper: Keeper
) -> tuple[list[ArrivedFile], dict[str, str]]:
    """Keep every file of a form; its other fields are options, before or after the files."""
    arrived: list[ArrivedFile] = []
    fields = dict(request.query)
    broken: Refusal | None = None
    try:
        keeper.require_room(request.content_length or 0)
        form = await request.multipart()
        while (part := await _in_time(form.next())) is not None:
            if not isinstance(part, BodyPartReader):
                raise Refusal("bad-request", "a part of the form has parts itself")
            if part.name != "metadata" and (part.name == "file" or part.filename is not None):
                if len(arrived) == MAX_FILES:
                    raise Refusal("bad-request", f"one form takes {MAX_FILES} files at most")
                arrived.append(await _receive_part(keeper, part))
            elif part.name is not None:
                fields[part.name] = await _read_field(part)
    except Refusal as refusal:
        broken = refusal
    except (HttpProcessingError, ValueError, ConnectionError, ClientError) as exc:
        why = getattr(exc, "message", exc)  # the head of a part has a status as well
        broken = Refusal("bad-request", f"the form cannot be read: {why}")
    if not arrived:
        broken = broken or Refusal("bad-request", "the form has no field 'file'")
        arrived.append(ArrivedFile(receipt_id=new_receipt_id(keeper.now())))
    for each in arrived:
        each.refusal = each.refusal or broken
        each.cut = broken is not None
    # A browser sends every field of a form: one that was left empty is no wish.
    return arrived, {name: value for name, value in fields.items() if value}


async def _receive_part(keeper: Keeper, part: BodyPartReader) -> ArrivedFile:
    media_type = part.headers.get("Content-Type")
    arrived = ArrivedFile(
        receipt_id=new_receipt_id(keeper.now()),
        filename=clean_filename(part.filename),
        media_type=media_type,
    )
    await _keep(keeper, arrived, part.read_chunk)
    return arrived


async def _keep(
    keeper: Keeper,
    arrived: ArrivedFile,
    read: Callable[[int], Awaitable[bytes]],
    announced_bytes: int | None = None,
) -> None:
    try:
        await keeper.keep(arrived, read_chunks(read, announced_bytes))
    except Refusal as refusal:
        arrived.refusal = refusal


async def read_chunks(
    read: Callable[[int], Awaitable[bytes]], announced_bytes: int | None = None
) -> AsyncIterator[bytes]:
    """Give a file in pieces.

    Args:
        read: Gives some bytes of it, none at its end.
        announced_bytes: Its size, if the client said it.

    Raises:
        Refusal: ``incomplete-body``.
    """
    size_bytes = 0
    try:
        while chunk := await _in_time(read(CHUNK_BYTES)):
            size_bytes += len(chunk)
            yield chunk
    except (ConnectionError, ClientError, web.RequestPayloadError, ValueError) as exc:
        raise Refusal("incomplete-body", "the connection ended before the file did") from exc
    if announced_bytes not in {None, size_bytes}:
        raise Refusal("incomplete-body", f"{size_bytes} of {announced_bytes} bytes are there")


async def read_small(
    request: web.BaseRequest, limit_bytes: int, too_long: HeadraceError | None = None
) -> bytes:
    """Read a body that is held in memory whole.

    Raises:
        Refusal: ``too-large``, if no other error is given for that; ``incomplete-body``.
    """
    too_long = too_long or too_large(limit_bytes)
    if (request.content_length or 0) > limit_bytes:
        raise too_long
    body = bytearray()
    async for chunk in read_chunks(request.content.read):
        body += chunk
        if len(body) > limit_bytes:
            raise too_long
    return bytes(body)


async def _read_field(part: BodyPartReader) -> str:
    """Read a form field that is not a file.

    Raises:
        Refusal: ``bad-request``.
    """
    body = bytearray()
    most_bytes = MAX_TEXT_BYTES if part.name == "metadata" else MAX_FIELD_BYTES
    while chunk := await _in_time(part.read_chunk(MAX_FIELD_BYTES)):
        body += chunk
        if len(body) > most_bytes:
            raise Refusal("bad-request", f"the field {part.name!r} is too long")
    try:
        return body.decode()
    except UnicodeDecodeError as exc:
        raise Refusal("bad-request", f"the field {part.name!r} is not UTF-8") from exc


async def _in_time(reading: Awaitable[Done]) -> Done:
    """Wait for what a client sends.

    Raises:
        Refusal: ``incomplete-body``.
    """
    try:
        async with asyncio.timeout(STALL_S):
            return await reading
    except TimeoutError as exc:
        raise Refusal("incomplete-body", f"nothing came for {STALL_S:g} s") from exc
