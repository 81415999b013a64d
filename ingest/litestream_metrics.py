"""Litestream's own metrics among ours: under its names, by database instead of by path.

It counts lineages, and shows those that are gone until it ends: of each database the live one is
shown.

Source: Litestream 0.5.17, ``db.go``: ``litestream_…`` with the label ``db``, which is a path, or in
one of them the file's name alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.litestream_counts import LitestreamCounts

# Of its process: ours has the same names.
_OF_PROCESS = {"process_cpu_seconds_total", "process_open_fds", "process_resident_memory_bytes"}


class LitestreamMetrics(Collector):
    """Shows what Litestream last said.

    Args:
        counts: Has it.
    """

    def __init__(self, counts: LitestreamCounts) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """Give what is there now.

        Only histograms are told to be such: OpenMetrics wants a counter's name to end in a way that
        those of Litestream do not, and people look for them by their own.
        """
        for told, family in self._counts.families.items():
            name = f"litestream_{told}" if told in _OF_PROCESS else told
            if not name.startswith("litestream_"):
                continue
            is_histogram = family.type == "histogram"
            shown = Metric(name, family.documentation, "histogram" if is_histogram else "unknown")
            for sample in family.samples:
                labels = dict(sample.labels)
                if "db" in labels:
                    lineage = labels.pop("db").rpartition("/")[2]
                    labels["database"] = self._counts.databases[lineage]
                shown.add_sample(sample.name if is_histogram else name, labels, sample.value)
            yield shown
