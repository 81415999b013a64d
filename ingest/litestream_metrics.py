"""Litestream's own metrics among ours: under its names, by database instead of by path.

It counts lineages, and shows those that are gone until it ends. A database's counts are the sum of
its lineages'; of what else there is, only the live lineage tells.

Source: Litestream 0.5.17, ``db.go``: ``litestream_…`` with the label ``db``, which is a path, or in
one of them the file's name alone.
"""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from headrace.exposition import MOST_DATABASES
from headrace.keys import JOURNAL_DATABASE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from headrace.generation import Cut
    from ingest.litestream_counts import LitestreamCounts

Labels: TypeAlias = tuple[tuple[str, str], ...]

# Of its process: ours has the same names.
_OF_PROCESS = {"process_cpu_seconds_total", "process_open_fds", "process_resident_memory_bytes"}
_LINEAGE = re.compile(r"([^/]+)/([0-9a-f]{16})$")


class LitestreamMetrics(Collector):
    """Shows what Litestream last said.

    Args:
        find: Gives the newest cut of each database.
        counts: Has what it said.
    """

    def __init__(self, find: Callable[[], Mapping[str, Cut]], counts: LitestreamCounts) -> None:
        self._find = find
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """Give what is there now.

        Only histograms are told to be such: OpenMetrics wants a counter's name to end in a way that
        those of Litestream do not, and people look for them by their own.
        """
        families = self._counts.families
        cuts = islice(self._find().items(), MOST_DATABASES)
        live = {name: cut.lineage for name, cut in cuts}
        names = _find_names(families)
        for told, family in families.items():
            name = f"litestream_{told}" if told in _OF_PROCESS else told
            if not name.startswith("litestream_"):
                continue
            is_histogram = family.type == "histogram"
            shown = Metric(name, family.documentation, "histogram" if is_histogram else "unknown")
            for (sample, labels), value in _add_up(family, live, names):
                shown.add_sample(sample if is_histogram else name, dict(labels), value)
            yield shown


def _find_names(families: Mapping[str, Metric]) -> dict[str, str]:
    """Find the database of each lineage that a path tells."""
    samples = (sample for family in families.values() for sample in family.samples)
    found = (_LINEAGE.search(sample.labels.get("db", "")) for sample in samples)
    return {each[2]: each[1] for each in found if each}


def _add_up(
    family: Metric, live: Mapping[str, str], names: Mapping[str, str]
) -> Iterable[tuple[tuple[str, Labels], float]]:
    """Add up the samples of each database; give each by its name and labels."""
    sums = defaultdict[tuple[str, Labels], float](float)
    for sample in family.samples:
        labels = dict(sample.labels)
        if "db" in labels:
            lineage = labels.pop("db").rpartition("/")[2]
            database = names.get(lineage, "")
            counted = family.type == "counter" and database in live
            if not (counted or live.get(database) == lineage or database == JOURNAL_DATABASE):
                continue
            labels["database"] = database
        sums[sample.name, tuple(labels.items())] += sample.value
    return sums.items()
