"""Prometheus metrics of replication: Litestream's health and its own metrics, and what it lacks."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge

from ingest.litestream_counts import LitestreamCounts
from ingest.litestream_metrics import LitestreamMetrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from prometheus_client import CollectorRegistry


class ReplicationMetrics:
    """What is known of replication, on a primary's registry.

    Attributes:
        counts: What Litestream asked of the object store.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.up = Gauge(
            "headrace_litestream_up",
            "Whether Litestream answers on its control socket.",
            registry=registry,
        )
        self.restarts = Counter(
            "headrace_litestream_restarts",
            "Times that Litestream ended and was started again.",
            registry=registry,
        )
        lag_s = Gauge(
            "headrace_ingest_replication_lag_seconds",
            "Time since the oldest commit that is not known to be in the object store; "
            "0 if all are.",
            registry=registry,
        )
        lag_s.set_function(self._lag_s)
        self._since_s: dict[object, float] = {}  # of each such commit, in their order
        self.counts = LitestreamCounts()
        registry.register(LitestreamMetrics(self.counts))
        self._ask: Callable[[], Awaitable[str]] | None = None

    def watch(self, ask: Callable[[], Awaitable[str]]) -> None:
        """Have Litestream asked for its own metrics whenever these are looked at."""
        self._ask = ask

    async def refresh(self, databases: Mapping[str, str]) -> None:
        """Look at Litestream's own metrics.

        Args:
            databases: Those that are shown, by lineage.
        """
        if self._ask is not None:
            self.counts.take(await self._ask(), databases)

    @contextmanager
    def commit(self) -> Iterator[None]:
        """Count a commit as not replicated while the block runs."""
        commit = object()
        self._since_s[commit] = time.monotonic()
        try:
            yield
        finally:
            del self._since_s[commit]

    def _lag_s(self) -> float:
        oldest_s = next(iter(self._since_s.values()), None)
        return 0.0 if oldest_s is None else time.monotonic() - oldest_s
