"""Datasette's write API, and the older one of datasette-insert."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from headrace.errors import Refusal, RowsError
from headrace.names import check_database_name
from headrace.row_answers import answer_refusal, answer_rows, error_document
from headrace.row_paths import RowPath, find_row_path
from ingest.api.node import DATABASE, NODE
from ingest.audit_rows import ACCEPTED, AuditRow
from ingest.rows.parse import parse

if TYPE_CHECKING:
    from ingest.api.node import Node
    from ingest.rows.writer import Written

routes = web.RouteTableDef()

_TOO_LARGE = 413


@routes.post("/{database}/-/create")
@routes.post("/{database}/{table}/-/{verb:insert|upsert|drop}")
@routes.post("/{database}/{table}/{pks}/-/{verb:update|delete}")
@routes.post("/-/{verb:insert|upsert}/{database}/{table}")
async def post_rows(request: web.Request) -> web.Response:
    """Write rows, and answer as Datasette does once they are replicated and published."""
    path = find_row_path(request.raw_path.partition("?")[0])
    if path is None:
        raise web.HTTPNotFound
    try:
        written = await _write(request, path)
    except RowsError as exc:
        document = error_document(exc.errors, exc.status, older=path.older)
        return answer_rows(document, status=exc.status)
    except Refusal as refusal:
        request.app[NODE].note_denied(request, refusal)
        return answer_refusal(refusal, older=path.older)
    headers = {"Headrace-Generation": str(written.generation)}
    if written.receipt_id is not None:
        headers["Headrace-Receipt"] = written.receipt_id
    answer = written.answer
    document = dict(answer.document)
    if path.older and document.get("ok") is False:
        document = error_document(document["errors"], answer.status, older=True)
    return answer_rows(document, status=answer.status, headers=headers)


async def _write(request: web.Request, path: RowPath) -> Written:
    """Apply one request.

    Raises:
        RowsError: It is none of the write API.
        Refusal: It may not be written, or could not be kept.
    """
    node = request.app[NODE]
    writer = node.check_writer(request)
    check_database_name(path.database)
    request[DATABASE] = path.database
    writer.require(path.database)
    audit = AuditRow.of(
        writer, f"{path.verb}-rows", node.now(), database=path.database, outcome=ACCEPTED
    )
    body = await _read_body(request, node)
    write = parse(
        path,
        body,
        query=request.query,
        url=_url_of(request),
        max_rows=node.row_limits.rows,
    )
    return await node.rows.write(path.database, write, len(body), audit)


async def _read_body(request: web.Request, node: Node) -> bytes:
    limit = node.row_limits.bytes
    too_large = RowsError(f"Request body exceeded maximum size of {limit} bytes", status=_TOO_LARGE)
    if (request.content_length or 0) > limit:
        raise too_large
    chunks: list[bytes] = []
    size_bytes = 0
    async with node.receiving():
        async for chunk in request.content.iter_any():
            size_bytes += len(chunk)
            if size_bytes > limit:
                raise too_large
            chunks.append(chunk)
    return b"".join(chunks)


def _url_of(request: web.Request) -> str:
    """Give scheme and host that the client asked, as the reader says."""
    scheme = request.headers.get("X-Forwarded-Proto", request.scheme)
    return f"{scheme}://{request.headers.get('X-Forwarded-Host') or request.host}"
