"""A request to fetch a file from a URL, instead of a body that is the file.

It is ``POST /ingest`` with ``{"url": "https://…", "database": "sales"}`` as ``application/json``,
and with neither ``database`` nor a file name beside it. An upload has one of these, so no JSON
document that is sent as a file is ever taken for such a request.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from yarl import URL

from headrace.arriving import read_small
from headrace.errors import Refusal
from headrace.options import FIELDS, filename_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

MEDIA_TYPE = "application/json"
MAX_BYTES = 512 * 1024  # of such a request; it may bring metadata along
MAX_URL = 8000  # characters
SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRequest:
    """What is to be fetched, and what is to become of it.

    Attributes:
        url: Whole, with what is secret in it: never to be shown or logged.
        fields: Options of an upload.
    """

    url: str
    fields: Mapping[str, str]

    @property
    def shown_url(self) -> str:
        """The URL without what may be secret."""
        return show_url(URL(self.url))

    def encode(self) -> dict[str, Any]:
        """Give the JSON form, secrets and all."""
        return {"url": self.url, "fields": dict(self.fields)}


def is_fetch(request: web.BaseRequest) -> bool:
    """Say whether a request asks to fetch a file, by its head alone."""
    return (
        request.content_type == MEDIA_TYPE
        and not {"database", "filename"} & request.query.keys()
        and filename_of(request.headers) is None
    )


async def read_fetch(request: web.BaseRequest) -> dict[str, Any]:
    """Read the document of such a request; options in its query count as well.

    Raises:
        Refusal: ``bad-request``, ``too-large`` or ``incomplete-body``.
    """
    too_long = Refusal(
        "too-large",
        f"a request to fetch a URL has {MAX_BYTES} bytes at most",
        hint="to send this JSON as a file, add ?filename=… or ?database=…",
    )
    body = await read_small(request, MAX_BYTES, too_long)
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError) as exc:
        raise Refusal("bad-request", "the body is no JSON") from exc
    if not isinstance(document, dict):
        raise Refusal(
            "bad-request",
            "the body is no JSON object with a member 'url'",
            hint="to send this JSON as a file, add ?filename=… or ?database=…",
        )
    return {**request.query, **document}


def decode_fetch(document: Mapping[str, Any]) -> FetchRequest:
    """Read what is to be fetched. Options may be JSON values: lists, objects, true and false.

    Raises:
        Refusal: ``invalid-option``.
    """
    if "url" not in document:
        raise Refusal(
            "invalid-option",
            "there is no 'url' to fetch",
            hint="to send this JSON as a file, add ?filename=… or ?database=…",
        )
    fields = {}
    for name, value in document.items():
        if name == "url":
            continue
        if name not in FIELDS:
            known = ", ".join(sorted(FIELDS | {"url"}))
            raise Refusal("invalid-option", f"the option {name!r} is not known: there are {known}")
        fields[name] = _text(value)
    return FetchRequest(url=str(read_url(document["url"])), fields=fields)


def read_url(value: Any) -> URL:
    """Check a URL by itself.

    Raises:
        Refusal: ``invalid-option``.
    """
    try:
        if not isinstance(value, str) or len(value) > MAX_URL:
            raise ValueError("no text")
        url = URL(value)
        fits = url.scheme in SCHEMES and bool(url.host) and url.port is not None
    except ValueError:
        fits = False
    if not fits:
        raise Refusal("invalid-option", "url: it is no URL that begins with http:// or https://")
    return url.with_fragment(None)


def show_url(url: URL) -> str:
    """Give a URL for receipts and logs: without user, password and query, which may be secrets."""
    shown = url.with_user(None).with_query(None).with_fragment(None)
    return f"{shown}?…" if url.query_string else str(shown)


def _text(value: Any) -> str:
    """Give an option as a form has it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "1" if value else "0"
    return json.dumps(value, ensure_ascii=False)
