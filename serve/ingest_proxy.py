"""``/ingest``: to the primary and back; who uploaded is made to wait for what he uploaded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import aiohttp
import yarl

from headrace.errors import Refusal
from serve.arrivals import min_generation_cookie
from serve.headers import request_headers, response_headers
from serve.proxy import body_of, finish, forward, hand_back

if TYPE_CHECKING:
    from aiohttp import web

    from serve.callers import Caller

RECEIPT_AT_MOST_BYTES = 256 * 1024
_PUBLISHED = 201


class IngestProxy:
    """Hands uploads on.

    Args:
        primary: Its URL.
        session: For requests to it.
    """

    def __init__(self, primary: str, session: aiohttp.ClientSession) -> None:
        self._primary = yarl.URL(primary)
        self._session = session

    async def answer(
        self, request: web.BaseRequest, target: str, caller: Caller, generation: int
    ) -> web.StreamResponse:
        """Hand a request on, and the primary's answer back.

        Raises:
            Refusal: ``primary-away``.
        """
        headers = request_headers(request.headers, caller)
        try:
            answer = await forward(
                self._session,
                self._primary,
                method=request.method,
                target=target,
                headers=headers,
                body=body_of(request),
            )
        except aiohttp.ClientError as exc:
            raise Refusal(
                "primary-away",
                "the primary did not answer",
                hint="what is published can be read all the while; send the file again later",
            ) from exc
        try:
            back = response_headers(answer.headers)
            back["Headrace-Generation"] = str(generation)
            back["Server"] = "Headrace"
            begun = []
            if request.method == "POST" and _may_be_receipt(answer):
                begun = [await answer.content.read()]
                if published := _read_generation(begun[0]):
                    back.add("Set-Cookie", min_generation_cookie(published))
            return await hand_back(request, answer, headers=back, begun=begun)
        finally:
            finish(answer)


def _may_be_receipt(answer: aiohttp.ClientResponse) -> bool:
    length = answer.content_length
    return (
        answer.status == _PUBLISHED
        and answer.content_type == "application/json"
        and length is not None
        and length <= RECEIPT_AT_MOST_BYTES
    )


def _read_generation(body: bytes) -> int:
    """Give the generation of a receipt, or the newest of several; 0 if there is none."""
    try:
        document = json.loads(body)
        receipts = document.get("receipts", [document])
        return max(int(receipt.get("generation") or 0) for receipt in receipts)
    except (ValueError, TypeError, AttributeError):
        return 0
