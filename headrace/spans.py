"""Spans by OpenTelemetry's SDK, sent by OTLP over HTTP. Imported only where traces are on."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from headrace import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from opentelemetry.context import Context

_NS = 1e9

_carrier = TraceContextTextMapPropagator()


class Spans:
    """The spans of one process.

    Args:
        node: ``ingest`` or ``reader``.
        attributes: Of all spans.
    """

    def __init__(self, node: str, attributes: Mapping[str, str]) -> None:
        name = os.environ.get("OTEL_SERVICE_NAME", f"headrace-{node}")
        resource = Resource.create({SERVICE_NAME: name, "service.version": __version__})
        self._attributes = _named(attributes)
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("headrace", __version__)

    def close(self) -> None:
        """Send what is not sent yet, however long that takes."""
        self._provider.shutdown()

    @contextmanager
    def span(
        self, name: str, links: Iterable[str | None], attributes: Mapping[str, str]
    ) -> Iterator[None]:
        """Have a span while the block runs."""
        others = (trace.get_current_span(_context_of(each)) for each in links if each)
        with self._tracer.start_as_current_span(
            name,
            attributes={**self._attributes, **_named(attributes)},
            links=[Link(other.get_span_context()) for other in others],
        ):
            yield

    @contextmanager
    def continued(self, traceparent: str | None) -> Iterator[None]:
        """Have the spans of the block begin under one of elsewhere, or under none."""
        token = context.attach(_context_of(traceparent))
        try:
            yield
        finally:
            context.detach(token)

    def tell(self, attributes: Mapping[str, str]) -> None:
        """Say more about the current span."""
        trace.get_current_span().set_attributes(_named(attributes))

    def carried(self) -> dict[str, str]:
        """Give the current span as a header carries it; nothing if there is none."""
        headers: dict[str, str] = {}
        _carrier.inject(headers)
        return {name: value for name, value in headers.items() if name == "traceparent"}

    def record(
        self,
        name: str,
        traceparent: str,
        *,
        begun_at: datetime,
        ended_at: datetime,
        parts: Mapping[str, float],
        attributes: Mapping[str, str],
    ) -> None:
        """Have a span of what is over, and one of each of its parts."""
        told = {**self._attributes, **_named(attributes)}
        ends_ns = int(ended_at.timestamp() * _NS)
        whole = self._tracer.start_span(
            name,
            context=_context_of(traceparent),
            start_time=int(begun_at.timestamp() * _NS),
            attributes=told,
        )
        inside = trace.set_span_in_context(whole)
        begins_ns = ends_ns - int(sum(parts.values()) * _NS)
        for part, took_s in parts.items():
            each = self._tracer.start_span(
                part, context=inside, start_time=begins_ns, attributes=told
            )
            begins_ns += int(took_s * _NS)
            each.end(begins_ns)
        whole.end(ends_ns)


def _context_of(traceparent: str | None) -> Context:
    """Give the context that a header carries; an empty one if there is none, or it is nonsense."""
    return _carrier.extract({"traceparent": traceparent} if traceparent else {}, context.Context())


def _named(attributes: Mapping[str, str]) -> dict[str, str]:
    """Give attributes under names of our own, as OpenTelemetry wants those that it has none for."""
    return {f"headrace.{name}": value for name, value in attributes.items()}
