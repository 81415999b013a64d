"""tus 1.0 at ``/ingest/tus``: uploads that are gone on with where they broke off."""

from __future__ import annotations

from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING

from aiohttp import hdrs, web

from headrace.arriving import check_announced_size, too_large
from headrace.errors import Refusal
from headrace.idempotency import read_key
from headrace.operation import Answer, Body, Who, header, in_path, operation
from headrace.options import read_target
from headrace.web import problem_response
from ingest.api.allowing import key_of_writer
from ingest.api.declared import BYTES, KEY, NOT_ARRIVED, NOT_TAKEN
from ingest.api.node import DATABASE, NODE
from ingest.api.tus_headers import headers_of, options_headers
from ingest.api.uploads import invite
from ingest.disk import refusal_of_full
from ingest.tus import protocol
from ingest.tus.append import append
from ingest.tus.finish import settle
from ingest.tus.join import begin_final
from ingest.tus.record import TusUpload
from ingest.tus.turns import locked
from ingest.tus.uploads import new_upload_id, turn_of

if TYPE_CHECKING:
    import asyncio

    from headrace.web import Handler
    from ingest.api.node import Node
    from ingest.writer import Writer

_GONE = frozenset({404, 410})
_ONE = f"{protocol.PATH}/{{id}}"

_ID = in_path("id", "Id of the upload.", pattern="^[0-9a-f]{32}$", example="0" * 32)
_VERSION = header(
    "Tus-Resumable",
    "The version of tus.",
    required=True,
    enum=[protocol.VERSION],
    example=protocol.VERSION,
)
_COUNT = "^[0-9]{1,18}$"
_LENGTH = header("Upload-Length", "Bytes of the file.", pattern=_COUNT, example="4096")
_OFFSET = header("Upload-Offset", "Where the bytes go.", required=True, pattern=_COUNT, example="0")
_DEFERRED = header("Upload-Defer-Length", "The length is told later.", enum=["1"], example="1")
_METADATA = header(
    "Upload-Metadata",
    "`filename`, `filetype` and options, each in base64.",
    example="filename b3JkZXJzLmNzdg==",
)
_CONCAT = header("Upload-Concat", "`partial`, or `final;` and the URLs of its parts.")
_CHECKSUM = header("Upload-Checksum", "`sha256`, `sha1` or `md5`, and the sum in base64.")
_METHOD = header(
    "X-HTTP-Method-Override",
    "The method that is meant.",
    required=True,
    enum=[hdrs.METH_DELETE, hdrs.METH_HEAD, hdrs.METH_PATCH],
    example=hdrs.METH_PATCH,
)
_BYTES = Body(kind=protocol.MEDIA_TYPE, schema=BYTES)
_SAID = {
    "Upload-Offset": "How many bytes are there, durably.",
    "Upload-Expires": "When it is dropped if it is not finished.",
    "Headrace-Receipt": "Id of the receipt, once it is finished.",
}
_FOUND = {200: Answer(what="How far it is.", headers=_SAID)}
_TAKEN = {204: Answer(what="The bytes are there, durably; or it is gone.", headers=_SAID)}
_ALL = ("bad-request", "tus-version", "not-found", "upload-locked", "bytes-gone")
_WRITES = (*_ALL, *NOT_TAKEN, *NOT_ARRIVED, "wrong-media-type", "checksum-mismatch", "overloaded")
_APPENDS = (*_WRITES, "wrong-offset", "final-upload")

routes = web.RouteTableDef()


def _tus(handler: Handler) -> Handler:
    """Check the version of a request, and say it in every answer. Section Tus-Resumable."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            protocol.check_version(request.headers)
            response = await handler(request)
        except Refusal as refusal:
            response = _problem(request, refusal)
        except OSError as exc:
            full = refusal_of_full(exc)
            if full is None:
                raise
            response = _problem(request, full)
        response.headers["Tus-Resumable"] = protocol.VERSION
        return response

    return answer


def _problem(request: web.Request, refusal: Refusal) -> web.Response:
    request.app[NODE].note_denied(request, refusal)
    response = problem_response(request, refusal.document())
    if refusal.code == "tus-version":
        response.headers["Tus-Version"] = protocol.VERSION
    return response


@routes.options(protocol.PATH)
@routes.options(_ONE)
@operation(
    in_path("id", "Anything: no upload is looked at.", example="0" * 32),
    answers={
        204: Answer(
            what="Version, extensions, algorithms, and the largest file.",
            headers={
                "Tus-Version": "The versions that are spoken.",
                "Tus-Extension": "The extensions.",
                "Tus-Max-Size": "The largest file, in bytes.",
            },
        )
    },
)
async def get_options(request: web.Request) -> web.Response:
    """Say what of the protocol there is."""
    return web.Response(status=204, headers=options_headers(request.app[NODE]))


@routes.post(protocol.PATH, expect_handler=invite)
@operation(
    *(_VERSION, _LENGTH, _DEFERRED, _METADATA, _CONCAT, _CHECKSUM, KEY),
    bodies=(_BYTES,),
    body_required=False,
    answers={
        201: Answer(
            what="The upload is there.", headers={**_SAID, "Location": "Path of the upload."}
        )
    },
    refuses=_WRITES,
    who=Who.WRITER,
)
@_tus
async def post_upload(request: web.Request) -> web.Response:
    """Make a resumable upload; with its first bytes, if the request has some; or out of others."""
    node = request.app[NODE]
    writer = node.check_writer(request)
    node.uploads.places.require(writer.id)
    wanted = TusUpload(
        id=new_upload_id(),
        owner=writer.id,
        address=writer.address,
        metadata=request.headers.get("Upload-Metadata", ""),
        length=protocol.read_length(request.headers),
        concat=request.headers.get("Upload-Concat"),
        key=key_of_writer(writer, read_key(request.headers)),
        touched_at=node.now(),
    )
    _check_target(request, writer, wanted)
    if wanted.parts:
        upload = await _join(node, wanted)
    else:
        upload = await _begin(request, wanted)
    headers = {**headers_of(node, upload), "Location": upload.path}
    return web.Response(status=201, headers=headers)


@routes.head(_ONE)
@operation(_ID, _VERSION, answers=_FOUND, refuses=_ALL)
@_tus
async def head_upload(request: web.Request) -> web.Response:
    """Say how far a resumable upload is.

    Whatever else is in the way is ``upload-locked``: tus-js-client 4.3 takes every other answer
    that is no success, also a 503, for the end of this upload, and begins a new one.
    """
    node = request.app[NODE]
    upload = _find(node, request)
    try:
        async with node.tus.turns.take(turn_of(upload)):
            upload = await settle(node, _find(node, request))
    except Refusal as refusal:
        if refusal.status in _GONE:
            raise
        raise locked(refusal.detail) from refusal
    return web.Response(headers=headers_of(node, upload, full=True))


@routes.patch(_ONE, expect_handler=invite)
@operation(
    *(_ID, _VERSION, _OFFSET, _LENGTH, _CHECKSUM),
    bodies=(_BYTES,),
    body_required=False,
    answers=_TAKEN,
    refuses=_APPENDS,
    who=Who.WRITER,
)
@_tus
async def patch_upload(request: web.Request) -> web.Response:
    """Append bytes to a resumable upload."""
    node = request.app[NODE]
    _check_owner(request, _find(node, request))
    _check_body(request)
    offset = protocol.read_count(request.headers, "Upload-Offset")
    if offset is None:
        raise Refusal("bad-request", "Upload-Offset is missing")
    upload = _find(node, request)
    if upload.parts:
        raise Refusal("final-upload", "it was put together out of parts")
    async with node.tus.turns.take(turn_of(upload)) as give_way:
        upload = await _set_length(node, request, _find(node, request))
        if offset != upload.offset:
            raise Refusal(
                "wrong-offset", f"the upload is at {upload.offset}", extra={"offset": upload.offset}
            )
        upload = await _append(request, upload, give_way)
    return web.Response(status=204, headers=headers_of(node, upload))


@routes.delete(_ONE)
@operation(_ID, _VERSION, answers=_TAKEN, refuses=_ALL, who=Who.WRITER)
@_tus
async def delete_upload(request: web.Request) -> web.Response:
    """Forget a resumable upload; what was made of its bytes stays.

    Section Termination.
    """
    node = request.app[NODE]
    upload = _find(node, request)
    _check_owner(request, upload)
    async with node.tus.turns.take(turn_of(upload)):
        await node.tus.remove(_find(node, request))
    return web.Response(status=204)


@routes.post(_ONE)
@operation(
    *(_ID, _METHOD, _VERSION, _LENGTH, _CHECKSUM),
    bodies=(_BYTES,),
    body_required=False,
    answers={**_FOUND, **_TAKEN},
    refuses=(*_APPENDS, "method-not-allowed"),
    who=Who.WRITER,
)
async def post_method(request: web.Request) -> web.StreamResponse:
    """Do what ``X-HTTP-Method-Override`` says."""
    method = request.headers.get("X-HTTP-Method-Override", "").upper()
    handlers: dict[str, Handler] = {
        hdrs.METH_PATCH: patch_upload,
        hdrs.METH_DELETE: delete_upload,
        hdrs.METH_HEAD: head_upload,
    }
    if method not in handlers:
        raise web.HTTPMethodNotAllowed(request.method, ["DELETE", "HEAD", "OPTIONS", "PATCH"])
    return await handlers[method](request)


async def _begin(request: web.Request, wanted: TusUpload) -> TusUpload:
    """Make an upload, with what the request has of it. Section Creation With Upload.

    Raises:
        Refusal: And there is no such upload: its client did not hear where it is.
    """
    node = request.app[NODE]
    if wanted.length == 0 and not wanted.is_partial:
        raise Refusal("empty-file", "the file has no bytes")
    check_announced_size(wanted.length, node.max_upload_bytes)
    node.require_room(wanted.length or 0)
    if not request.body_exists:
        return await node.tus.shelf.create(wanted)
    _check_body(request)
    async with node.tus.turns.take(wanted.id) as give_way:
        upload = await node.tus.shelf.create(wanted)
        try:
            return await _append(request, upload, give_way)
        except Refusal:
            await node.tus.remove(upload)
            raise


async def _join(node: Node, wanted: TusUpload) -> TusUpload:
    """Make an upload out of its parts; it is finished then."""
    async with node.tus.turns.take(turn_of(wanted)):
        parts = [node.tus.shelf.find(each) for each in wanted.parts]
        own = [each for each in parts if each is not None and each.owner == wanted.owner]
        if len(own) < len(parts):
            raise _unknown()
        return await settle(node, await begin_final(node, wanted, own))


async def _append(request: web.Request, upload: TusUpload, give_way: asyncio.Event) -> TusUpload:
    node = request.app[NODE]
    checksum = protocol.read_checksum(request.headers)
    left = node.max_upload_bytes if upload.length is None else upload.length - upload.offset
    if (request.content_length or 0) > left:
        raise too_large(upload.length or left)
    if request.body_exists and not upload.is_whole:
        upload = await append(
            node, upload, request.content.read, give_way=give_way, checksum=checksum
        )
    return await settle(node, upload)


async def _set_length(node: Node, request: web.Request, upload: TusUpload) -> TusUpload:
    """Take the length of an upload that had none. Section Creation.

    Raises:
        Refusal: ``bad-request``: it has another one, or more bytes already; ``too-large``.
    """
    length = protocol.read_count(request.headers, "Upload-Length")
    if length is None or length == upload.length:
        return upload
    if upload.length is not None or length < upload.offset:
        raise Refusal("bad-request", "Upload-Length is not that of the upload")
    check_announced_size(length, node.max_upload_bytes)
    node.require_room(length - upload.offset)
    return await node.tus.shelf.save(replace(upload, length=length))


def _check_body(request: web.Request) -> None:
    """Refuse what is no part of a file.

    Raises:
        Refusal: ``wrong-media-type``.
    """
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if request.content_type != protocol.MEDIA_TYPE or encoding != "identity":
        raise Refusal("wrong-media-type", f"it takes {protocol.MEDIA_TYPE}, and no encoding")


def _check_target(request: web.Request, writer: Writer, wanted: TusUpload) -> None:
    """Refuse options that cannot be used, and a database that its maker may not write to.

    Before any byte is sent; of a part nobody knows where it goes.

    Raises:
        Refusal: ``bad-request``, ``invalid-option``, ``invalid-name`` or ``forbidden``.
    """
    said = wanted.description  # of a part, too: its metadata have to be such
    if wanted.is_partial:
        return
    database = read_target(said.fields, said.filename).database
    request[DATABASE] = database
    writer.require(database)


def _check_owner(request: web.Request, upload: TusUpload) -> None:
    """Refuse whoever did not make an upload, as if there was none.

    Raises:
        Refusal: ``not-found``, or those of ``Node.check_writer``.
    """
    if request.app[NODE].check_writer(request).id != upload.owner:
        raise _unknown()


def _find(node: Node, request: web.Request) -> TusUpload:
    """Find the upload that a request is about.

    Raises:
        Refusal: ``not-found``.
    """
    upload = node.tus.shelf.find(request.match_info["id"])
    if upload is None:
        raise _unknown()
    return upload


def _unknown() -> Refusal:
    return Refusal("not-found", "there is no such upload, or not any more: begin a new one")
