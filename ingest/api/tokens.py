"""Tokens: making one, listing them, revoking one."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from aiohttp import web

from headrace.errors import Refusal
from headrace.operation import Who, in_path, operation
from headrace.web import answer_json
from ingest.api.declared import answers_json
from ingest.api.fields import bodies_of, read_fields
from ingest.api.node import NODE
from ingest.documents import NewToken, Token, TokenList, TokenWish
from ingest.token_store import MAX_NAME
from ingest.writer import read_scopes

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_LIFETIME = "90d"
MAX_LIFETIME = timedelta(days=3650)
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_LIFETIME = re.compile(r"(\d{1,6})([mhd])")

_ID = in_path("id", "Id of the token.", pattern="^[0-9a-f]{12}$", example="0123456789ab")

routes = web.RouteTableDef()


@routes.get("/ingest/tokens")
@operation(answers=answers_json(TokenList, "All of them."), who=Who.ADMIN_READER)
async def get_tokens(request: web.Request) -> web.Response:
    """List the tokens; the text of none can be read again."""
    node = request.app[NODE]
    node.identify(request).require_admin()
    found: TokenList = {"tokens": [token.encode() for token in node.tokens.list_all()]}
    return answer_json(found)


@routes.post("/ingest/tokens")
@operation(
    bodies=bodies_of(TokenWish),
    answers=answers_json(NewToken, "The token. Its text is shown this once.", 201),
    refuses=("bad-request", "invalid-option", "invalid-name", "too-large"),
    who=Who.ADMIN,
)
async def post_token(request: web.Request) -> web.Response:
    """Make a token, and show it this once."""
    node = request.app[NODE]
    writer = node.check_writer(request)
    writer.require_admin()
    fields = await read_fields(request)
    scopes = read_scopes(fields.get("scopes", fields.get("scope", [])))
    token, text = await node.tokens.create(
        writer,
        name=_read_name(fields.get("name", sorted(scopes))),
        scopes=scopes,
        lifetime=_read_lifetime(fields.get("expires", [])),
    )
    try:
        await node.journal_replica.keep()
    except Refusal:  # nobody will ever know it, so it must not count
        await node.tokens.revoke(writer, token.id)
        raise
    made: NewToken = {"token": text, **token.encode()}
    return answer_json(made, status=201)


@routes.delete("/ingest/tokens/{id}")
@operation(
    _ID,
    answers=answers_json(Token, "The token, which has ended."),
    refuses=("not-found",),
    who=Who.ADMIN,
)
async def delete_token(request: web.Request) -> web.Response:
    """Revoke a token: from now on it does not count, here and on every later primary."""
    node = request.app[NODE]
    writer = node.check_writer(request)
    writer.require_admin()
    token = await node.tokens.revoke(writer, request.match_info["id"])
    await node.journal_replica.keep()
    return answer_json(token.encode())


def _read_name(values: Sequence[str]) -> str:
    name = " ".join(values).strip()
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise Refusal(
            "invalid-option", f"a token needs a name of 1 to {MAX_NAME} printable characters"
        )
    return name


def _read_lifetime(values: Sequence[str]) -> timedelta | None:
    text = values[0] if values else DEFAULT_LIFETIME
    if text == "never":
        return None
    found = _LIFETIME.fullmatch(text)
    lifetime = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta()
    if not timedelta() < lifetime <= MAX_LIFETIME:
        raise Refusal(
            "invalid-option",
            f"expires={text!r} is no time that a token can be good for",
            hint=f"such as 12h, 30d or never; at most {MAX_LIFETIME.days}d",
        )
    return lifetime
