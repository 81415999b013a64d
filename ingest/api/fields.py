"""The fields of a small request: JSON, or a form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp.http_exceptions import HttpProcessingError

from headrace.errors import Refusal
from headrace.operation import JSON, Body

if TYPE_CHECKING:
    from aiohttp import web

MAX_BYTES = 64 * 1024
_FORM = "application/x-www-form-urlencoded"


def bodies_of(fields: type) -> tuple[Body, ...]:
    """Declare a body of such fields."""
    return Body(kind=JSON, schema=fields), Body(kind=_FORM, schema=fields)


async def read_fields(request: web.Request) -> dict[str, list[str]]:
    """Read the fields of a request: each a list, as a form may give one several times.

    Raises:
        Refusal: ``bad-request``: it cannot be read; ``too-large``.
    """
    if (request.content_length or 0) > MAX_BYTES:
        raise Refusal("too-large", f"the limit here is {MAX_BYTES} bytes")
    if request.content_type == JSON:
        return await _read_json(request)
    fields: dict[str, list[str]] = {}
    try:
        for name, value in (await request.post()).items():
            if not isinstance(value, str):
                raise Refusal("bad-request", f"the field {name!r} is a file")
            fields.setdefault(name, []).append(value)
    except (ValueError, HttpProcessingError) as exc:
        raise Refusal("bad-request", "the form cannot be read") from exc
    return fields


async def _read_json(request: web.Request) -> dict[str, list[str]]:
    try:
        document = await request.json()
    except (ValueError, RecursionError) as exc:
        raise Refusal("bad-request", "the body is not JSON") from exc
    if not isinstance(document, dict):
        raise Refusal("bad-request", "the body is not a JSON object")
    fields = {
        name: value if isinstance(value, list) else [value] for name, value in document.items()
    }
    for name, values in fields.items():
        if not all(isinstance(value, str) for value in values):
            raise Refusal("bad-request", f"{name!r} is not text, or a list of texts")
    return fields
