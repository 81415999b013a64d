"""What a reader knows of each database, as metrics; of so many that there is an end to them."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from headrace.exposition import MOST_DATABASES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from headrace.generation import Cut

_PREFIX = "headrace_reader_database"


class DatabaseReads(Collector):
    """Counts requests for each database, and shows what is served of it.

    Args:
        find: Gives the cut of each database in service.
    """

    def __init__(self, find: Callable[[], Mapping[str, Cut]]) -> None:
        self._find = find
        self._counts = Counter[str]()

    def count(self, path: str) -> None:
        """Count a request for Datasette."""
        name = path[1:].partition("/")[0].partition(".")[0]
        if name in self._find():
            self._counts[name] += 1

    def collect(self) -> Iterator[Metric]:
        """Give what is there now."""
        reads = CounterMetricFamily(
            f"{_PREFIX}_requests", "Requests for pages of the database.", labels=("database",)
        )
        txid = GaugeMetricFamily(
            f"{_PREFIX}_txid", "Its TXID in the generation in service.", labels=("database",)
        )
        for name, cut in islice(self._find().items(), MOST_DATABASES):
            reads.add_metric((name,), self._counts[name])
            txid.add_metric((name,), cut.txid)
        yield reads
        yield txid
