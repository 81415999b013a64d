"""Prometheus metrics of the primary."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
)

from headrace import __version__
from headrace.exposition import MOST_DATABASES
from headrace.headroom import Headroom
from headrace.keys import JOURNAL_DATABASE
from headrace.receipt import UploadState
from headrace.store_costs import StoreMetrics
from ingest.buckets.metrics import BucketMetrics
from ingest.database_metrics import DatabaseMetrics
from ingest.replication_metrics import ReplicationMetrics
from ingest.rows.metrics import RowMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headrace.generation import Cut
    from headrace.store_costs import Prices
    from headrace.store_counts import StoreCounts

# Codes of problems that are about who asks, and how often.
DENIALS = ("unauthorized", "forbidden", "cross-site", "too-many-requests")
_STEP_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class IngestMetrics:
    """The metrics of one primary, on a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.headroom = Headroom(self.registry)
        Info("headrace_build", "Version of Headrace.", registry=self.registry).info(
            {"version": __version__, "node": "ingest"}
        )
        self.uploads = Counter(
            "headrace_ingest_uploads",
            "Uploads that reached a state.",
            ["state"],
            registry=self.registry,
        )
        for state in UploadState:
            self.uploads.labels(state.value)
        self.rows = RowMetrics(self.registry)
        self.ended = Counter(
            "headrace_ingest_ended_uploads",
            "Uploads that ended, by format and outcome.",
            ["format", "outcome"],
            registry=self.registry,
        )
        self.refusals = Counter(
            "headrace_ingest_refusals",
            "Uploads that failed, by the step that they failed in and by code of the problem.",
            ["step", "code"],
            registry=self.registry,
        )
        self.plugin_failures = Counter(
            "headrace_ingest_plugin_failures",
            "Times that a plugin could not be loaded, or failed at looking at a file.",
            ["plugin"],
            registry=self.registry,
        )
        self.incoming = Counter(
            "headrace_ingest_incoming",
            "Requests taken that a reader had taken in while no primary was there.",
            registry=self.registry,
        )
        self.fetches = Counter(
            "headrace_ingest_fetches",
            "Files that were fetched from URLs, by what came of it.",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in ("fetched", "unchanged", "failed"):
            self.fetches.labels(outcome)
        self.in_flight = Gauge(
            "headrace_ingest_uploads_in_flight",
            "Uploads between their last byte and their end.",
            registry=self.registry,
        )
        self.queued = Gauge(
            "headrace_ingest_uploads_queued",
            "Uploads that wait for their turn to be converted.",
            registry=self.registry,
        )
        self.oldest_s = Gauge(
            "headrace_ingest_oldest_upload_seconds",
            "Time since the oldest of the uploads in flight had arrived; 0 without any.",
            registry=self.registry,
        )
        self.denied = Counter(
            "headrace_ingest_denied",
            "Requests that were refused for who sent them, or how often, by code of the problem.",
            ["code"],
            registry=self.registry,
        )
        for code in DENIALS:
            self.denied.labels(code)
        self.received_bytes = Counter(
            "headrace_ingest_received_bytes",
            "Bytes of uploads that arrived whole.",
            registry=self.registry,
        )
        self.tus_uploads = Gauge(
            "headrace_ingest_tus_uploads", "Resumable uploads that are not finished.",
            registry=self.registry,
        )  # fmt: skip
        self.tus_expired = Counter(
            "headrace_ingest_tus_expired",
            "Resumable uploads that were dropped because nothing more came.",
            registry=self.registry,
        )
        self.watchers = Gauge(
            "headrace_ingest_watchers",
            "Streams of events, and requests that wait for a receipt to change.",
            registry=self.registry,
        )
        self.step_seconds = Histogram(
            "headrace_ingest_step_seconds",
            "Seconds that each step of an upload took.",
            ["step"],
            buckets=_STEP_BUCKETS_S,
            registry=self.registry,
        )
        self.lease_held = Gauge(
            "headrace_ingest_lease_held",
            "Whether this node holds the lease, and may write.",
            registry=self.registry,
        )
        self.lease_epoch = Gauge(
            "headrace_ingest_lease_epoch",
            "Epoch of the lease that this node took last.",
            registry=self.registry,
        )
        self.lease_failures = Counter(
            "headrace_ingest_lease_failures",
            "Renewals of the lease that the store did not take.",
            registry=self.registry,
        )
        self.rebuilds = Counter(
            "headrace_ingest_rebuilds",
            "Databases made anew from the store, because the volume did not hold them.",
            registry=self.registry,
        )
        self.generation = Gauge(
            "headrace_ingest_generation", "The newest generation.", registry=self.registry
        )
        self.published_at = Gauge(
            "headrace_ingest_published_timestamp_seconds",
            "When the newest generation was published.",
            registry=self.registry,
        )
        self.databases = Gauge(
            "headrace_ingest_databases", "Databases in the newest generation.",
            registry=self.registry,
        )  # fmt: skip
        self.disk_free_bytes = Gauge(
            "headrace_ingest_disk_free_bytes", "Free on the primary's volume.",
            registry=self.registry,
        )  # fmt: skip
        self.disk_reserve_bytes = Gauge(
            "headrace_ingest_disk_reserve_bytes",
            "What uploads leave free on the primary's volume, for Litestream.",
            registry=self.registry,
        )
        self.followers = Gauge(
            "headrace_ingest_followers", "Readers on the push stream.", registry=self.registry
        )
        self.reader_generation = Gauge(
            "headrace_ingest_reader_generation",
            "The generation that all readers of a region serve, as they report it.",
            ["region"],
            registry=self.registry,
        )
        self.verifications = Counter(
            "headrace_ingest_verifications",
            "Live databases compared with what was replicated of them.",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in ("equal", "differs"):
            self.verifications.labels(outcome)
        self.pruned = Counter(
            "headrace_ingest_pruned",
            "Objects of the store that nobody needed any more and that were deleted, by kind.",
            ["kind"],
            registry=self.registry,
        )
        for kind in (
            "entry",
            "checkpoint",
            "lineage",
            "ltx",
            "archive",
            "lease",
            "probe",
            "report",
            "incoming",
        ):
            self.pruned.labels(kind)
        self.pruned_bytes = Counter(
            "headrace_ingest_pruned_bytes",
            "Bytes of lineages and archived uploads that were deleted.",
            registry=self.registry,
        )
        self.checksum_rebuilds = Counter(
            "headrace_ingest_checksum_rebuilds",
            "Times that a checksum could not be followed, and its replica was read whole.",
            registry=self.registry,
        )
        self.buckets = BucketMetrics(self.registry)
        self.replication = ReplicationMetrics(self.registry)
        self._find: Callable[[], Mapping[str, Cut]] = dict
        self._journal = ""
        self.by_database = DatabaseMetrics(self._find_shown)
        self.registry.register(self.by_database)

    def watch_databases(self, find: Callable[[], Mapping[str, Cut]], journal: str) -> None:
        """Show what is known of each database, and what Litestream says of it.

        Args:
            find: Gives the newest cut of each.
            journal: Lineage of the journal.
        """
        self._find, self._journal = find, journal

    def _find_shown(self) -> dict[str, Cut]:
        """Give the cuts of the databases that have metrics."""
        return dict(islice(self._find().items(), MOST_DATABASES))

    def _find_lineages(self) -> dict[str, str]:
        """Give the databases that have metrics, and the journal, by lineage."""
        shown = {cut.lineage: name for name, cut in self._find_shown().items()}
        return {**shown, self._journal: JOURNAL_DATABASE}

    def watch_store(self, counts: StoreCounts, prices: Prices) -> None:
        """Show what is asked of the object store, by this program and by Litestream."""
        both = {"headrace": counts, "litestream": self.replication.counts.counts}
        self.registry.register(StoreMetrics(both, prices))

    async def refresh(self) -> None:
        """Bring up to date what has to be asked for."""
        await self.replication.refresh(self._find_lineages())
