"""Prometheus metrics of the write API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class RowMetrics:
    """What is counted of batches, on a primary's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.batches = Counter(
            "headrace_ingest_row_batches",
            "Batches of the write API, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.requests = Counter(
            "headrace_ingest_row_requests",
            "Requests of the write API, by the outcome of their batch.",
            ["outcome"],
            registry=registry,
        )
        self.rows = Counter(
            "headrace_ingest_rows",
            "Rows that requests of the write API held, by the outcome of their batch.",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("published", "unchanged", "failed"):
            self.batches.labels(outcome)
        self.batch_requests = Histogram(
            "headrace_ingest_row_batch_requests",
            "Requests that each batch of the write API held.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 1024),
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "headrace_ingest_row_batch_seconds",
            "Seconds that each batch of the write API took, from its beginning to its publication.",
            buckets=_BUCKETS_S,
            registry=registry,
        )
