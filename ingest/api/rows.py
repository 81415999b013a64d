"""Datasette's write API, and the older one of datasette-insert."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from headrace.arriving import read_small
from headrace.errors import Refusal, RowsError
from headrace.names import check_database_name
from headrace.operation import JSON, Answer, Body, Parameter, Who, in_path, operation
from headrace.row_answers import answer_refusal, answer_rows, error_document
from headrace.row_paths import RowPath, find_row_path
from ingest.api.declared import IN_DATABASE, IN_TABLE
from ingest.api.node import DATABASE, NODE
from ingest.audit_actions import ACTION, action_of
from ingest.audit_rows import ACCEPTED, AuditRow
from ingest.rows.documents import (
    OLDER_ROWS,
    DropWish,
    NewTable,
    OlderWritten,
    RowsProblem,
    RowsWish,
    RowsWritten,
    RowUpdate,
    TableDropped,
    TableMade,
    UpsertWish,
)
from ingest.rows.parse import parse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headrace.operation import Handler
    from ingest.api.node import Node
    from ingest.rows.writer import Written

_TOO_LARGE = 413
_PKS = in_path("pks", "Key of the row: values with commas between them.", example="1")
_OLDER = (
    Parameter(name="pk", what="The column of the key; an upsert needs it."),
    Parameter(name="alter", what="Add columns that are missing, if anything is said."),
)
_REFUSED = {
    400: Answer(what="The request cannot be done, as Datasette says it.", schema=RowsProblem),
    403: Answer(what="It may not be done.", schema=RowsProblem),
    404: Answer(what="There is no such database, table or row.", schema=RowsProblem),
    413: Answer(what="It is too large.", schema=RowsProblem),
    429: Answer(what="They are too many at once.", schema=RowsProblem),
    500: Answer(what="It went wrong here.", schema=RowsProblem),
    503: Answer(what="Nothing can be kept now.", schema=RowsProblem),
    504: Answer(what="It took too long.", schema=RowsProblem),
    507: Answer(what="The disk is full.", schema=RowsProblem),
}
_SAID = {"Headrace-Receipt": "Id of the receipt of what was written."}

routes = web.RouteTableDef()


def _rows(
    *takes: Parameter, body: Any = None, answer: type, status: int = 200
) -> Callable[[Handler], Handler]:
    """Declare a request of the write API."""
    made = Answer(what="It is replicated and published.", schema=answer, headers=_SAID)
    return operation(
        *takes,
        bodies=() if body is None else (Body(kind=JSON, schema=body),),
        answers={status: made, **_REFUSED},
        who=Who.ROWS,
        checked=False,
    )


@routes.post("/{database}/-/create")
@_rows(IN_DATABASE, body=NewTable, answer=TableMade, status=201)
async def create_table(request: web.Request) -> web.Response:
    """Make a table."""
    return await _post(request)


@routes.post("/{database}/{table}/-/insert")
@_rows(IN_DATABASE, IN_TABLE, body=RowsWish, answer=RowsWritten, status=201)
async def insert_rows(request: web.Request) -> web.Response:
    """Add rows."""
    return await _post(request)


@routes.post("/{database}/{table}/-/upsert")
@_rows(IN_DATABASE, IN_TABLE, body=UpsertWish, answer=RowsWritten)
async def upsert_rows(request: web.Request) -> web.Response:
    """Add rows, or change those whose key is there."""
    return await _post(request)


@routes.post("/{database}/{table}/-/drop")
@_rows(IN_DATABASE, IN_TABLE, body=DropWish, answer=TableDropped)
async def drop_table(request: web.Request) -> web.Response:
    """Drop a table, or count its rows."""
    return await _post(request)


@routes.post("/{database}/{table}/{pks}/-/update")
@_rows(IN_DATABASE, IN_TABLE, _PKS, body=RowUpdate, answer=RowsWritten)
async def update_row(request: web.Request) -> web.Response:
    """Change a row."""
    return await _post(request)


@routes.post("/{database}/{table}/{pks}/-/delete")
@_rows(IN_DATABASE, IN_TABLE, _PKS, answer=RowsWritten)
async def delete_row(request: web.Request) -> web.Response:
    """Delete a row."""
    return await _post(request)


@routes.post("/-/insert/{database}/{table}")
@_rows(IN_DATABASE, IN_TABLE, *_OLDER, body=OLDER_ROWS, answer=OlderWritten)
async def insert_older(request: web.Request) -> web.Response:
    """Add rows, as datasette-insert does; the table is made if it is missing."""
    return await _post(request)


@routes.post("/-/upsert/{database}/{table}")
@_rows(IN_DATABASE, IN_TABLE, *_OLDER, body=OLDER_ROWS, answer=OlderWritten)
async def upsert_older(request: web.Request) -> web.Response:
    """Add rows, or change those whose key is there, as datasette-insert does."""
    return await _post(request)


async def _post(request: web.Request) -> web.Response:
    return await write_rows(request, lambda: _read_body(request, request.app[NODE]))


async def write_rows(
    request: web.Request, read_body: Callable[[], Awaitable[bytes]]
) -> web.Response:
    """Write rows, and answer as Datasette does once they are replicated and published.

    Args:
        request: Asks for it; one of a bundle has no route of its own.
        read_body: Gives its body, once it is known who sends it.
    """
    path = find_row_path(request.raw_path.partition("?")[0])
    if path is None:
        raise web.HTTPNotFound
    request[ACTION], request[DATABASE] = f"{path.verb}-rows", path.database
    try:
        written = await _write(request, path, read_body)
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


async def _write(
    request: web.Request, path: RowPath, read_body: Callable[[], Awaitable[bytes]]
) -> Written:
    """Apply one request.

    Raises:
        RowsError: It is none of the write API.
        Refusal: It may not be written, or could not be kept.
    """
    node = request.app[NODE]
    writer = node.check_writer(request)
    check_database_name(path.database)
    writer.require(path.database)
    audit = AuditRow.of(
        writer, action_of(request), node.now(), database=path.database, outcome=ACCEPTED
    )
    body = await read_body()
    if len(body) > node.row_limits.bytes:
        raise _too_large(node)
    write = parse(
        path,
        body,
        query=request.query,
        url=_url_of(request),
        max_rows=node.row_limits.rows,
    )
    return await node.rows.write(path.database, write, len(body), audit)


async def _read_body(request: web.Request, node: Node) -> bytes:
    async with node.receiving():
        return await read_small(request, node.row_limits.bytes, _too_large(node))


def _too_large(node: Node) -> RowsError:
    limit = node.row_limits.bytes
    return RowsError(f"Request body exceeded maximum size of {limit} bytes", status=_TOO_LARGE)


def _url_of(request: web.Request) -> str:
    """Give scheme and host that the client asked, as the reader says."""
    scheme = request.headers.get("X-Forwarded-Proto", request.scheme)
    return f"{scheme}://{request.headers.get('X-Forwarded-Host') or request.host}"
