"""What a reader counts, on a registry of its own."""

from __future__ import annotations

from contextlib import contextmanager
from time import perf_counter
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
from headrace.exposition import Labelled
from headrace.headroom import Headroom
from headrace.store_costs import StoreMetrics
from serve.database_metrics import DatabaseReads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headrace.generation import Cut
    from headrace.store_costs import Prices
    from headrace.store_counts import StoreCounts
    from serve.cache import PageCache
    from serve.limits import Gate
    from serve.switch import Supervisor
    from serve.workers import WorkerOptions

_LIVE_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0)
_STEP_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
_REQUEST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class ReaderMetrics:
    """Every metric of a reader; one instance a reader, so that several fit into one process.

    Attributes:
        shown: The same as others see them: each has the reader's region.
    """

    def __init__(self, region: str) -> None:
        self.registry = registry = CollectorRegistry()
        self.shown = Labelled(registry, {"region": region})
        ProcessCollector(registry=registry)
        self.headroom = Headroom(registry)
        prefix = "headrace_reader"
        Info(prefix, "Version and region of this reader.", registry=registry).info(
            {"version": __version__, "region": region}
        )
        self.generation = Gauge(f"{prefix}_generation", "Generation in service.", registry=registry)
        self.newest_generation = Gauge(
            f"{prefix}_newest_generation", "Newest generation heard of.", registry=registry
        )
        self.seconds_since_publish = Gauge(
            f"{prefix}_seconds_since_publish",
            "Age of the generation in service.",
            registry=registry,
        )
        self.staleness = Gauge(
            f"{prefix}_staleness_seconds",
            "Time since the generation in service was last known to be the newest.",
            registry=registry,
        )
        self.live_seconds = Histogram(
            f"{prefix}_live_seconds",
            "Seconds from when an upload had arrived until this reader showed it.",
            registry=registry,
            buckets=_LIVE_BUCKETS_S,
        )
        self.lag = Gauge(
            f"{prefix}_lag_seconds",
            "Time since the oldest upload that was heard of and is not shown had arrived; "
            "0 if all are.",
            registry=registry,
        )
        self.push_connected = Gauge(
            f"{prefix}_push_connected",
            "Whether the primary pushes generations to this reader.",
            registry=registry,
        )
        self.follow_errors = Counter(
            f"{prefix}_follow_errors",
            "Failures to hear of generations, by where they were asked for.",
            ["source"],
            registry=registry,
        )
        self.switches = Counter(
            f"{prefix}_switches", "Switches to a new generation.", registry=registry
        )
        self.switch_failures = Counter(
            f"{prefix}_switch_failures",
            "Switches that were given up, by the step that failed.",
            ["step"],
            registry=registry,
        )
        self.step_seconds = Histogram(
            f"{prefix}_step_seconds",
            "Time of each step of a switch.",
            ["step"],
            registry=registry,
            buckets=_STEP_BUCKETS_S,
        )
        self.incoming = Counter(
            f"{prefix}_incoming",
            "Requests to upload that this reader took while the primary was away.",
            registry=registry,
        )
        self.restored_bytes = Counter(
            f"{prefix}_restored_bytes", "Bytes of databases restored.", registry=registry
        )
        self.fetched_bytes = Counter(
            f"{prefix}_fetched_bytes", "Bytes of LTX files fetched.", registry=registry
        )
        self.proof_failures = Counter(
            f"{prefix}_proof_failures",
            "Copies thrown away because they were not what the generation says.",
            registry=registry,
        )
        self.workers = Gauge(
            f"{prefix}_workers", "Datasette workers in service.", registry=registry
        )
        self.workers_wanted = Gauge(
            f"{prefix}_workers_wanted", "Datasette workers that a set has.", registry=registry
        )
        self.worker_memory = Gauge(
            f"{prefix}_worker_memory_bytes",
            "What the largest Datasette worker in service holds.",
            registry=registry,
        )
        self.worker_restarts = Counter(
            f"{prefix}_worker_restarts",
            "Workers started again after they had crashed.",
            registry=registry,
        )
        self.memory_replacements = Counter(
            f"{prefix}_memory_replacements",
            "Workers replaced because they held too much memory.",
            registry=registry,
        )
        self.spares = Gauge(
            f"{prefix}_spares",
            "Datasette workers that are ready for the next switch.",
            registry=registry,
        )
        self.dressed_switches = Counter(
            f"{prefix}_dressed_switches",
            "Switches for which spares were ready, and only told what had changed.",
            registry=registry,
        )
        self.configuration_switches = Counter(
            f"{prefix}_configuration_switches",
            "Switches to workers with a changed Datasette configuration.",
            registry=registry,
        )
        self.hook_runs = Counter(
            f"{prefix}_hook_runs",
            "Runs of `--on-generation`, by how they ended: `ok`, `failed` or `late`.",
            ["outcome"],
            registry=registry,
        )
        self.requests = Counter(
            f"{prefix}_requests", "Requests answered.", ["kind", "code"], registry=registry
        )
        self.request_seconds = Histogram(
            f"{prefix}_request_seconds",
            "Time from a request's first byte to its answer's last.",
            ["kind"],
            registry=registry,
            buckets=_REQUEST_BUCKETS_S,
        )
        self.response_bytes = Counter(
            f"{prefix}_response_bytes", "Bytes of bodies answered.", ["kind"], registry=registry
        )
        self.cache_requests = Counter(
            f"{prefix}_cache_requests",
            "Requests for Datasette: hit, miss, shared (a miss that another led), pass.",
            ["result"],
            registry=registry,
        )
        self.cache_evictions = Counter(
            f"{prefix}_cache_evictions", "Pages that made room for others.", registry=registry
        )
        self.cache_bytes = Gauge(
            f"{prefix}_cache_bytes", "Bytes of the pages in memory.", registry=registry
        )
        self.cache_entries = Gauge(f"{prefix}_cache_entries", "Pages in memory.", registry=registry)
        self.warmed = Counter(
            f"{prefix}_cache_warmed", "Pages rendered before a switch.", registry=registry
        )
        self.queue_length = Gauge(
            f"{prefix}_queue_length", "Requests that wait for Datasette.", registry=registry
        )
        self.shed = Counter(
            f"{prefix}_shed",
            "Requests refused to protect the others.",
            ["reason"],
            registry=registry,
        )

    def watch_store(self, counts: StoreCounts, prices: Prices) -> None:
        """Show what is asked of the object store."""
        self.registry.register(StoreMetrics({"headrace": counts}, prices))

    def watch_cache(self, cache: PageCache, gate: Gate) -> None:
        """Let the sizes be looked up when they are asked for."""
        self.cache_bytes.set_function(lambda: cache.size_bytes)
        self.cache_entries.set_function(lambda: len(cache))
        self.queue_length.set_function(lambda: gate.waiting)
        self.headroom.watch("queue", lambda: gate.used)

    def watch_workers(self, supervisor: Supervisor, options: WorkerOptions) -> DatabaseReads:
        """Let what is in service be looked at; give what counts requests for its databases."""

        def memory_bytes() -> int:
            current = supervisor.current
            return current.find_memory_bytes() if current else 0

        def cuts() -> Mapping[str, Cut]:
            return supervisor.current.state.databases if supervisor.current else {}

        self.workers_wanted.set(options.count)
        self.worker_memory.set_function(memory_bytes)
        if limit_bytes := options.memory_bytes:
            self.headroom.watch("worker_memory", lambda: memory_bytes() / limit_bytes)
        reads = DatabaseReads(cuts)
        self.registry.register(reads)
        return reads

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure one step of a switch, also when it fails."""
        started_s = perf_counter()
        try:
            yield
        finally:
            self.step_seconds.labels(name).observe(perf_counter() - started_s)
