"""Asking the primary for JSON on behalf of a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from headrace.errors import Refusal
from serve.proxy import finish

if TYPE_CHECKING:
    from typing import Any

_ABOUT_A_COPY = ("If-None-Match", "If-Modified-Since", "Range")


def as_program(request: web.BaseRequest, **changes: Any) -> web.BaseRequest:
    """Give a browser's request as a program would send it.

    Args:
        request: That of the browser.
        changes: What else is different (``web.BaseRequest.clone``).
    """
    headers = CIMultiDict(request.headers)
    headers["Accept"] = "application/json"
    for name in _ABOUT_A_COPY:
        headers.popall(name, None)
    return request.clone(headers=headers, **changes)


async def read_body(answer: aiohttp.ClientResponse | web.Response) -> bytes:
    """Give an answer's body, which is a document of ours.

    Raises:
        Refusal: ``primary-lost``: the primary broke off.
    """
    if isinstance(answer, web.Response):
        return bytes(answer.body)  # type: ignore[arg-type] # it was made of text
    try:
        return await answer.read()
    except aiohttp.ClientError as exc:
        raise Refusal("primary-lost", "the primary broke off its answer") from exc
    finally:
        finish(answer)
