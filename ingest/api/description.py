"""The interface itself, as an OpenAPI document."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from functools import cache

from aiohttp import web

from headrace.operation import Answer, header, operation
from ingest.openapi import make_document

_IF_NONE_MATCH = header("If-None-Match", "The `ETag` of the document that one has.")
_ETAG = {"ETag": "Changes with the document."}


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """The document.

    Attributes:
        body: Its JSON.
        etag: Changes with it.
    """

    body: bytes
    etag: str


routes = web.RouteTableDef()


@routes.get("/ingest/openapi.json")
@operation(
    _IF_NONE_MATCH,
    answers={
        200: Answer(what="An OpenAPI 3.1 document.", schema={"type": "object"}, headers=_ETAG),
        304: Answer(what="The one that is known is still good.", headers=_ETAG),
    },
)
async def get_openapi(request: web.Request) -> web.Response:
    """Describe all of this, for programs.

    It is made of what the handlers declare, when somebody asks for the first time.
    """
    made = await asyncio.to_thread(describe)
    headers = {"ETag": made.etag, "Cache-Control": "public, no-cache"}
    if made.etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    return web.Response(body=made.body, content_type="application/json", headers=headers)


@cache
def describe() -> Description:
    """Make the document, once."""
    from ingest.api import PUBLIC  # noqa: PLC0415 - which has this module in it

    body = json.dumps(make_document(PUBLIC), ensure_ascii=False).encode() + b"\n"
    return Description(body=body, etag=f'"{hashlib.sha256(body).hexdigest()[:32]}"')
