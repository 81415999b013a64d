"""The socket side of the edge: aiohttp's parser, and an end to heads that never end."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from headrace.errors import PROBLEM, problem_document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aiohttp import StreamReader
    from aiohttp.http_parser import RawRequestMessage

MAX_LINE_BYTES = 64 * 1024  # Datasette's pages have their SQL in the URL
HEAD_TIMEOUT_S = 10.0  # from a request's first byte to the end of its headers
_SWEEP_S = 2.0

_server_log = logging.getLogger("headrace.edge")
_server_log.addFilter(lambda record: not _is_malformed_request(record))


class EdgeProtocol(web.RequestHandler):
    """One connection; knows since when it waits for the rest of a head."""

    __slots__ = ("answering", "head_began_s")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.answering = False
        self.head_began_s = 0.0

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        if not self.answering and not self.head_began_s:
            self.head_began_s = asyncio.get_running_loop().time()
        super().data_received(data)

    def handle_error(self, *args: Any, **options: Any) -> web.StreamResponse:
        """Answer what is no request in the form of every other refusal."""
        answer = super().handle_error(*args, **options)
        if answer.status != HTTPStatus.BAD_REQUEST:
            return answer
        document = problem_document("bad-request", "the request cannot be read as HTTP")
        response = web.json_response(document, status=400, content_type=PROBLEM)
        response.headers["Server"] = "Headrace"
        response.force_close()
        return response

    def is_late(self, began_before_s: float) -> bool:
        """Tell whether it waits for a head that began before a time; not while it sends."""
        if self.answering or self.transport is None:
            return False
        sending = self.transport.get_write_buffer_size() > 0
        return not sending and 0 < self.head_began_s < began_before_s


class EdgeServer(web.Server):
    """Makes the connections.

    Args:
        handler: Answers a request.
        is_stopping: Tells whether each answer is to be the last of its connection.
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        is_stopping: Callable[[], bool],
    ) -> None:
        super().__init__(handler, request_factory=self._begin_request, handler_cancellation=True)
        self._is_stopping = is_stopping

    def _begin_request(
        self, message: RawRequestMessage, payload: StreamReader, *connection: Any
    ) -> web.BaseRequest:
        if self._is_stopping():
            message = message._replace(should_close=True)  # as if the client had said so
        return self._make_request(message, payload, *connection)

    def __call__(self) -> web.RequestHandler:
        """Make a connection's protocol."""
        return EdgeProtocol(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,
            logger=_server_log,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            auto_decompress=False,  # bodies go on as they are
        )

    @asynccontextmanager
    async def sweeping(self) -> AsyncIterator[None]:
        """Close connections whose head takes too long, while the block runs."""
        task = asyncio.create_task(self._sweep())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_S)
            began_before_s = loop.time() - HEAD_TIMEOUT_S
            for connection in self.connections:
                if isinstance(connection, EdgeProtocol) and connection.is_late(began_before_s):
                    connection.force_close()


def _is_malformed_request(record: logging.LogRecord) -> bool:
    """Tell a stranger's mistake, answered with 400: aiohttp would log a traceback for each."""
    return record.exc_info is not None and isinstance(record.exc_info[1], HttpProcessingError)
