"""A receiver of OpenTelemetry's traces, as collectors are: OTLP over HTTP."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A span, as it came.

    Attributes:
        trace: Id of its trace, 32 hex digits.
        id: Its own, 16.
        parent: Of the span that it is in; "" if it is in none.
        links: Ids of spans that it is about.
        service: Who sent it.
        name: What was done.
        begins_ns: When it began, since 1970.
        ends_ns: When it ended.
        attributes: What is said of it.
    """

    trace: str
    id: str
    parent: str
    links: tuple[str, ...]
    service: str
    name: str
    begins_ns: int
    ends_ns: int
    attributes: dict[str, str]


class Receiver:
    """Keeps every span.

    Attributes:
        spans: Those that came so far.
        url: Where they are sent to.
    """

    def __init__(self, port: int) -> None:
        self.spans: list[Received] = []
        self.url = f"http://127.0.0.1:{port}"

    def take(self, body: bytes) -> None:
        """Take one request."""
        asked = ExportTraceServiceRequest.FromString(body)
        for resource in asked.resource_spans:
            told = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [
                    Received(
                        trace=span.trace_id.hex(),
                        id=span.span_id.hex(),
                        parent=span.parent_span_id.hex(),
                        links=tuple(link.span_id.hex() for link in span.links),
                        service=told["service.name"],
                        name=span.name,
                        begins_ns=span.start_time_unix_nano,
                        ends_ns=span.end_time_unix_nano,
                        attributes={
                            each.key.removeprefix("headrace."): each.value.string_value
                            for each in span.attributes
                        },
                    )
                    for span in scope.spans
                ]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Receive spans while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(server.server_port)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
