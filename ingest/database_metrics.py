"""What the primary knows of each database, as metrics; of so many that there is an end to them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from headrace.generation import Cut

_PREFIX = "headrace_ingest_database"
_SIZES: dict[str, tuple[str, Callable[[Cut], float]]] = {
    "bytes": ("Size of the database.", lambda cut: cut.pages * cut.page_size),
    "rows": ("Rows of its public tables.", lambda cut: sum(cut.tables.values())),
    "tables": ("Its public tables.", lambda cut: len(cut.tables)),
    "txid": ("Its TXID in the newest generation.", lambda cut: cut.txid),
    "updated_timestamp_seconds": (
        "When it was last changed.",
        lambda cut: cut.updated_at.timestamp(),
    ),
}


class DatabaseMetrics(Collector):
    """Shows the newest cut of each database, and its uploads.

    Args:
        find: Gives the cuts of those that are shown.
    """

    def __init__(self, find: Callable[[], Mapping[str, Cut]]) -> None:
        self._find = find
        self._uploads = Counter[tuple[str, str]]()  # by database and outcome

    def count_upload(self, database: str, outcome: str) -> None:
        """Count an upload that ended."""
        if database in self._find():
            self._uploads[database, outcome] += 1

    def collect(self) -> Iterator[Metric]:
        """Give what is there now."""
        cuts = self._find()
        for name, (text, measure) in _SIZES.items():
            family = GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=("database",))
            for database, cut in cuts.items():
                family.add_metric((database,), measure(cut))
            yield family
        ended = CounterMetricFamily(
            f"{_PREFIX}_uploads", "Uploads into it that ended.", labels=("database", "outcome")
        )
        for (database, outcome), count in self._uploads.items():
            if database in cuts:
                ended.add_metric((database, outcome), count)
        yield ended
