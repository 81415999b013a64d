"""Traces of uploads: from the POST to the switch that shows it in each region.

Off unless ``OTEL_EXPORTER_OTLP_ENDPOINT`` says where they go: then each call here is a look at one
variable, and nothing of OpenTelemetry is imported. What else can be set, its SDK reads itself.

A span begins under the one that its task is in. Between processes, and in receipts and the log, a
span is carried as a ``traceparent``. Source: W3C Trace Context.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from datetime import datetime

    from headrace.spans import Spans

TRACEPARENT = "traceparent"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
FLUSH_S = 2.0  # for what is not sent yet at the end

_spans: Spans | None = None  # None: they are off
_OFF = nullcontext()


def is_on() -> bool:
    """Say whether spans go anywhere."""
    return _spans is not None


@asynccontextmanager
async def tracing(node: str, **attributes: str) -> AsyncIterator[None]:
    """Send the spans of the block, if the environment says where to.

    Args:
        node: ``ingest`` or ``reader``.
        attributes: Of all spans.
    """
    global _spans  # noqa: PLW0603 - a process is one node
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        yield
        return
    from headrace.spans import Spans  # noqa: PLC0415 - nobody else needs what it imports

    _spans = spans = Spans(node, attributes)
    try:
        yield
    finally:
        _spans = None
        # Whoever receives them may be away, and is waited for by the exporter for long.
        closing = threading.Thread(target=spans.close, daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, FLUSH_S)


def span(
    name: str, *, links: Iterable[str | None] = (), **attributes: str
) -> AbstractContextManager[None]:
    """Have a span while the block runs; what the block raises is its failure.

    Args:
        name: What is done.
        links: Other spans that it is about; None: of what is not traced.
        attributes: With what.
    """
    return _OFF if _spans is None else _spans.span(name, links, attributes)


def continued(traceparent: str | None) -> AbstractContextManager[None]:
    """Have the spans of the block begin under one of elsewhere; None: under none."""
    return _OFF if _spans is None else _spans.continued(traceparent)


def tell(**attributes: str) -> None:
    """Say more about the span that this task is in."""
    if _spans is not None:
        _spans.tell(attributes)


def carried() -> dict[str, str]:
    """Give the span that this task is in, as headers and the log carry it; else nothing."""
    return {} if _spans is None else _spans.carried()


def record(
    name: str,
    traceparent: str,
    *,
    begun_at: datetime,
    ended_at: datetime,
    parts: Mapping[str, float],
    **attributes: str,
) -> None:
    """Have a span of what is over.

    Args:
        name: What was done.
        traceparent: The span that it belongs to.
        begun_at: When it began.
        ended_at: When it ended.
        parts: Seconds of each of its parts, which were done one after another until it ended.
        attributes: With what.
    """
    if _spans is not None:
        _spans.record(
            name,
            traceparent,
            begun_at=begun_at,
            ended_at=ended_at,
            parts=parts,
            attributes=attributes,
        )


def trace_id_of(traceparent: str) -> str:
    """Give the id of the trace that a span belongs to: 32 hex digits."""
    return traceparent[3:35]
