"""What is said about a database: read, changed and set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from headrace.arriving import read_small
from headrace.errors import Refusal
from headrace.metadata import check_metadata, patch_metadata, refuse
from headrace.metadata_text import MAX_TEXT_BYTES, find_section, load_metadata_text
from headrace.names import check_database_name
from headrace.operation import JSON as APPLICATION_JSON
from headrace.operation import Body, Who, operation
from headrace.web import answer_json
from ingest.api.declared import IN_DATABASE, answers_json
from ingest.api.node import NODE
from ingest.documents import Metadata as MetadataDocument
from ingest.documents import Said

if TYPE_CHECKING:
    from collections.abc import Callable

    from ingest.primary import Metadata

_YAML = "application/yaml"
JSON = frozenset({"application/json", "application/merge-patch+json"})
YAML = frozenset({"application/yaml", "application/x-yaml", "text/yaml"})

_SAID = answers_json(Said, "What is said.")
_REFUSES = (
    *("bad-request", "invalid-name", "invalid-metadata", "not-found"),
    *("too-large", "incomplete-body"),
)

routes = web.RouteTableDef()


@routes.get("/ingest/databases/{database}/metadata")
@operation(
    IN_DATABASE,
    answers=_SAID,
    refuses=("invalid-name", "not-found", "forbidden"),
    who=Who.KNOWN,
)
async def get_metadata(request: web.Request) -> web.Response:
    """Show what is said about a database."""
    node = request.app[NODE]
    node.identify(request).require(request.match_info["database"])
    database = check_database_name(request.match_info["database"])
    metadata = dict(node.primary.cut(database).metadata)
    number = node.primary.state.number
    said: Said = {"database": database, "generation": number, "metadata": metadata}
    return answer_json(said)


@routes.patch("/ingest/databases/{database}/metadata")
@operation(
    IN_DATABASE,
    bodies=tuple(Body(kind=kind, schema=MetadataDocument) for kind in sorted(JSON, reverse=True)),
    answers=_SAID,
    refuses=_REFUSES,
    who=Who.WRITER,
)
async def patch(request: web.Request) -> web.Response:
    """Change some of what is said about a database: a JSON Merge Patch (RFC 7396)."""

    def change(document: dict[str, Any]) -> Callable[[Metadata], Metadata]:
        return lambda before: check_metadata(patch_metadata(before, document))

    return await _change(request, change)


@routes.put("/ingest/databases/{database}/metadata")
@operation(
    IN_DATABASE,
    bodies=(
        Body(kind=APPLICATION_JSON, schema=MetadataDocument),
        Body(kind=_YAML, schema=MetadataDocument),
    ),
    answers=_SAID,
    refuses=_REFUSES,
    who=Who.WRITER,
)
async def put(request: web.Request) -> web.Response:
    """Say all about a database anew; also as the ``metadata.yaml`` of a whole instance."""
    database = request.match_info["database"]

    def change(document: dict[str, Any]) -> Callable[[Metadata], Metadata]:
        said = find_section(document, database)
        if said.metadata is None:
            raise refuse("/databases", f"it says nothing about {database!r}")
        wanted = said.metadata
        return lambda _before: wanted

    return await _change(request, change)


async def _change(
    request: web.Request, read: Callable[[dict[str, Any]], Callable[[Metadata], Metadata]]
) -> web.Response:
    node = request.app[NODE]
    writer = node.check_writer(request)
    writer.require(request.match_info["database"])
    database = check_database_name(request.match_info["database"])
    change = read(await _read_document(request))
    async with node.audited(request, writer, database=database):
        outcome = await node.primary.change_metadata(database, change)
    said: Said = {
        "database": database,
        "generation": outcome.generation,
        "metadata": dict(outcome.metadata),
        "warnings": list(outcome.warnings),
    }
    return answer_json(said)


async def _read_document(request: web.Request) -> dict[str, Any]:
    """Read the body.

    Raises:
        Refusal: ``bad-request``, ``too-large``, ``incomplete-body`` or ``invalid-metadata``.
    """
    kind = request.content_type
    if kind not in JSON | (YAML if request.method == "PUT" else frozenset()):
        raise Refusal(
            "bad-request",
            f"the body is {kind}, and has to be application/json",
            hint="PUT takes application/yaml as well",
        )
    body = await read_small(request, MAX_TEXT_BYTES)
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise refuse("", "it is not UTF-8") from exc
    if kind in JSON and not text.lstrip().startswith("{"):
        raise refuse("", "it is no JSON object")
    return load_metadata_text(text)
