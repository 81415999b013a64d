"""Writes of rows that have come at one moment go to the primary in one request.

Most of what a small write costs is HTTP between reader and primary.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp

from headrace.errors import LogError
from headrace.row_bundles import PATH, decode_answer, encode_bundle
from serve.follow import split_lines

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.row_bundles import Answered, Asked

MOST_BYTES = 4096  # of a body; a larger one is worth a request of its own
_OK = 200


class NotTakenError(Exception):
    """The primary takes no bundles: nothing was done."""


class RowBundles:
    """Those that are on their way.

    Args:
        primary: Its URL.
        session: For requests to it.
        answer_s: How long it may take for all answers of a bundle.
    """

    def __init__(self, primary: str, session: aiohttp.ClientSession, *, answer_s: float) -> None:
        self._url = primary.rstrip("/") + PATH
        self._session = session
        self._answer_s = answer_s
        self._waiting: list[tuple[Asked, asyncio.Future[Answered]]] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def ask(self, asked: Asked) -> Answered:
        """Send one, with others; give its answer.

        Raises:
            NotTakenError: It has to be sent by itself.
            aiohttp.ClientError: No answer came.
            TimeoutError: The same.
        """
        answered: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, answered))
        if len(self._waiting) == 1:
            sending = asyncio.create_task(self._send())
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)
        return await answered

    async def _send(self) -> None:
        await asyncio.sleep(0)  # for those that have come by now; to wait longer gains nothing
        waiting, self._waiting = self._waiting, []
        try:
            await self._exchange([asked for asked, _ in waiting], [each for _, each in waiting])
            raise aiohttp.ClientPayloadError("answers are missing")
        except (aiohttp.ClientError, NotTakenError, TimeoutError) as exc:
            _fail(waiting, exc)
        except (LogError, ValueError) as exc:  # no answer of the primary's looks like that
            _fail(waiting, aiohttp.ClientPayloadError(str(exc)))

    async def _exchange(
        self, bundle: list[Asked], answered: list[asyncio.Future[Answered]]
    ) -> None:
        """Send a bundle, and give each its answer as it comes."""
        async with (
            asyncio.timeout(self._answer_s),
            self._session.post(self._url, data=encode_bundle(bundle)) as response,
        ):
            if response.status != _OK:
                raise NotTakenError
            async for line in split_lines(response.content.iter_any()):
                number, answer = decode_answer(line)
                if not answered[number].done():
                    answered[number].set_result(answer)


def _fail(waiting: Iterable[tuple[Asked, asyncio.Future[Answered]]], exc: Exception) -> None:
    for _, answered in waiting:
        if not answered.done():  # or whoever asked is gone
            answered.set_exception(exc)
