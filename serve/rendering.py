"""Having a worker make a page of what the edge knows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from headrace.errors import Refusal
from serve.headers import response_headers
from serve.page_header import PAGE_HEADER

if TYPE_CHECKING:
    from multidict import CIMultiDict

    from serve.upstream import Upstream
    from serve.workers import WorkerSet

_ABOUT_A_BODY = ("Content-Length", "Content-Encoding", "Accept-Encoding")
# Where a person comes from: Datasette 1.0 refuses what another site's page sends. This is ours.
_ABOUT_ITS_WAY = ("Origin", "Sec-Fetch-Site")
# About the worker's answer alone, or made anew here.
_OF_THE_WORKER = ("Content-Length", "Date", "Server", "Cache-Control")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A page.

    Attributes:
        status: 200, unless a template of the user's is broken.
        headers: Without those about length and caching.
        html: Its bytes.
    """

    status: int
    headers: CIMultiDict[str]
    html: bytes


async def render(
    upstream: Upstream,
    held: WorkerSet,
    target: str,
    headers: CIMultiDict[str],
    said: dict[str, Any],
) -> Rendered:
    """Have a page rendered.

    Args:
        upstream: The way to Datasette.
        held: The set that is asked.
        target: The page's path and query.
        headers: Those of who asks.
        said: What the page is made of.

    Raises:
        Refusal: A worker did not answer.
    """
    for name in (*_ABOUT_A_BODY, *_ABOUT_ITS_WAY):
        headers.popall(name, None)
    headers[PAGE_HEADER] = "1"
    headers["Content-Type"] = "application/json"
    async with upstream.limited():
        answer = await upstream.ask(held, "POST", target, headers, json.dumps(said).encode())
        try:
            html = await answer.response.read()
        except aiohttp.ClientError as exc:
            raise Refusal("worker-failed", "Datasette broke off its answer") from exc
        finally:
            answer.close()
    back = response_headers(answer.response.headers)
    for name in _OF_THE_WORKER:
        back.popall(name, None)
    return Rendered(status=answer.response.status, headers=back, html=html)
