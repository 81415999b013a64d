"""Prometheus metrics of places where files are dropped; as many labels as there are places."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class BucketMetrics:
    """What became of dropped files."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.files = Counter(
            "headrace_ingest_dropped_files",
            "Dropped files: `taken`, `failed` at once, or `deleted`, which was mirrored.",
            ["place", "outcome"],
            registry=registry,
        )
        self.take_seconds = Histogram(
            "headrace_ingest_dropped_take_seconds",
            "Seconds from a dropped file's turn to its receipt.",
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self.looked_at = Gauge(
            "headrace_ingest_dropped_looked_timestamp_seconds",
            "When all of a place was last looked at.",
            ["place"],
            registry=registry,
        )
        self.look_failures = Counter(
            "headrace_ingest_dropped_look_failures",
            "Looks at a place that failed.",
            ["place"],
            registry=registry,
        )
        self.deletions_refused = Gauge(
            "headrace_ingest_dropped_deletions_refused",
            "Files that are gone, too many at once for their deletion to be mirrored.",
            ["place"],
            registry=registry,
        )
        self.events = Counter(
            "headrace_ingest_bucket_events",
            "Events of object stores, by whether they are about a place that is looked at.",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("used", "ignored"):
            self.events.labels(outcome)

    def watch(self, place: str) -> None:
        """Show a place from the start."""
        for outcome in ("taken", "failed", "deleted"):
            self.files.labels(place, outcome)
        self.look_failures.labels(place)
        self.deletions_refused.labels(place)
