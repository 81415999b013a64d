"""Signing in by a browser, and out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from headrace.errors import Refusal
from headrace.operation import Answer, operation
from headrace.tokens import SESSION_COOKIE
from headrace.web import answer_json
from ingest.access import EndedTokenRefusal, address_of
from ingest.api.declared import answers_json
from ingest.api.fields import bodies_of, read_fields
from ingest.api.node import NODE
from ingest.audit_actions import SIGN_IN, SIGN_OUT
from ingest.documents import Session, SignIn, SignOut
from ingest.same_origin import require_same_origin
from ingest.sessions import PATH

if TYPE_CHECKING:
    from ingest.writer import Writer

_SIGNED = {
    **answers_json(Session, "Who one is now."),
    303: Answer(
        what="The same, to a browser: it goes on to `next`.", headers={"Location": "`next`"}
    ),
}
_REFUSES = ("bad-request", "invalid-option", "cross-site", "too-large", "too-many-requests")

routes = web.RouteTableDef()


@routes.get("/ingest/session")
@operation(answers=answers_json(Session, "Who one is."))
async def get_session(request: web.Request) -> web.Response:
    """Say who one is, and what one may do."""
    node = request.app[NODE]
    try:
        writer = node.identify(request)
    except Refusal:
        return answer_json({"signed_in": False})
    return answer_json(_encode(writer))


@routes.post("/ingest/session")
@operation(
    bodies=bodies_of(SignIn),
    answers=_SIGNED,
    refuses=(*_REFUSES, "unauthorized"),
)
async def post_session(request: web.Request) -> web.Response:
    """Sign in: make a cookie of a token."""
    node = request.app[NODE]
    node.access.count_address(request)
    require_same_origin(request.headers, said=False)  # nobody is to be signed in as somebody else
    fields = await read_fields(request)
    goes_on = _read_next(fields.get("next", []))
    try:
        writer = node.access.of_token("".join(fields.get("token", [])).strip(), address_of(request))
    except EndedTokenRefusal as refusal:
        node.audit.note_refused(refusal.writer, SIGN_IN, refusal.code)
        raise
    node.access.count(writer)
    await node.audit.add(writer, SIGN_IN)
    value, left_s = node.access.session_of(writer)
    response = _answer(goes_on, _encode(writer))
    response.set_cookie(
        SESSION_COOKIE,
        value,
        max_age=left_s,
        path=PATH,
        httponly=True,
        samesite="Lax",
        secure=request.headers.get("X-Forwarded-Proto", request.scheme) == "https",
    )
    return response


@routes.delete("/ingest/session")
@routes.post("/ingest/session/end")
@operation(
    bodies=bodies_of(SignOut),
    body_required=False,
    answers=_SIGNED,
    refuses=_REFUSES,
)
async def end_session(request: web.Request) -> web.Response:
    """Sign out: take the cookie back."""
    node = request.app[NODE]
    node.access.count_address(request)
    require_same_origin(request.headers, said=False)
    goes_on = None
    if request.method == "POST":
        goes_on = _read_next((await read_fields(request)).get("next", []))
    try:
        writer = node.identify(request)
    except Refusal:
        pass  # the cookie was not good any more
    else:
        await node.audit.add(writer, SIGN_OUT)
    response = _answer(goes_on, {"signed_in": False})
    response.del_cookie(SESSION_COOKIE, path=PATH)
    return response


def _encode(writer: Writer) -> Session:
    return {
        "signed_in": True,
        "id": writer.id,
        "name": writer.name,
        "scopes": sorted(writer.scopes),
        "by": writer.by.value,
    }


def _answer(goes_on: str | None, document: Session) -> web.Response:
    if goes_on is None:
        return answer_json(document)
    headers = {"Location": goes_on, "Cache-Control": "no-store"}
    return web.Response(status=303, headers=headers)


def _read_next(values: list[str]) -> str | None:
    """Read where to go on: a path of this host, whatever a browser makes of it.

    Source: WHATWG URL, "special" schemes: a backslash counts as a slash, and tabs and newlines are
    left out, so two slashes with a tab between them lead to another host.

    Raises:
        Refusal: ``invalid-option``.
    """
    if not values or not values[0]:
        return None
    path = values[0]
    safe = path.startswith("/") and path[1:2] not in {"/", "\\"}
    if not safe or not path.isascii() or not path.isprintable() or "\\" in path:
        raise Refusal("invalid-option", "next is not a path of this host")
    return path
