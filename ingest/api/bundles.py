"""For readers: several writes of rows in one request (``headrace/row_bundles.py``).

Each is asked for its token, counted, noted and answered as if it had come by itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import yarl
from aiohttp import web

from headrace import tracing
from headrace.row_bundles import PATH, Answered, decode_bundle, encode_answer
from headrace.web import problems
from ingest.api.node import NODE
from ingest.api.rows import write_rows

if TYPE_CHECKING:
    from headrace.row_bundles import Asked

SILENCE_S = 30.0  # of a reader that takes no answers
MOST_BYTES = (
    16 * 1024**2
)  # of a bundle; a reader whose bundle is refused sends each write by itself

routes = web.RouteTableDef()


@routes.post(PATH)
async def post_bundle(request: web.Request) -> web.StreamResponse:
    """Write the rows of all, and give the answer to each as soon as it is there."""
    bundle = decode_bundle(await _read(request))
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    if request.app[NODE].stop.asked.is_set():
        response.force_close()
    await response.prepare(request)
    waiting = {
        asyncio.create_task(_answer(request, number, asked)) for number, asked in enumerate(bundle)
    }
    try:
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            async with asyncio.timeout(SILENCE_S):
                await response.write(b"".join(each.result() for each in done))
    finally:
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return response


async def _read(request: web.Request) -> bytes:
    """Read the body; not by the request's own way, after which it could not be cloned."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > MOST_BYTES:
            raise web.HTTPRequestEntityTooLarge(MOST_BYTES, len(body))
    return bytes(body)


async def _answer(request: web.Request, number: int, asked: Asked) -> bytes:
    """Give the line that answers one."""

    async def read_body() -> bytes:
        return asked.body

    async def write(one: web.Request) -> web.StreamResponse:
        return await write_rows(one, read_body)

    one = request.clone(rel_url=yarl.URL(asked.target, encoded=True), headers=asked.headers)
    with (
        tracing.continued(one.headers.get(tracing.TRACEPARENT)),
        tracing.span("POST rows"),
    ):
        response = await problems(one, write)
        tracing.tell(status=str(response.status))
    generation = str(request.app[NODE].primary.state.number)
    response.headers.setdefault("Headrace-Generation", generation)
    assert isinstance(response, web.Response)  # noqa: S101 - what both give
    answered = Answered(
        status=response.status,
        headers=[*response.headers.items()],
        body=response.body if isinstance(response.body, bytes) else b"",
    )
    return encode_answer(number, answered)
