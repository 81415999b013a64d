"""The metrics that nodes show, as they are registered."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import Mock

from docs.made.table import code, phrase, table
from headrace.store_costs import Prices
from headrace.store_counts import StoreCounts
from ingest.metrics import IngestMetrics
from serve.metrics import ReaderMetrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric
    from prometheus_client.registry import CollectorRegistry

SUFFIXES = {"counter": "_total", "info": "_info"}
OF_STORE = ("headrace_store_",)
OF_BOTH = ("headrace_limit_", "process_")
# What it can be is said where it is a label's, since it is another one each time.
TOLD = "outcome"


def of_both() -> str:
    """Give the table of what both kinds of node show of themselves."""
    return _table(each for each in _of_primary() if each[0].name.startswith(OF_BOTH))


def of_store() -> str:
    """Give the table of what both show of the object store."""
    return _table(each for each in _of_primary() if each[0].name.startswith(OF_STORE))


def of_primary() -> str:
    """Give the table of what a primary shows besides."""
    return _table(each for each in _of_primary() if not each[0].name.startswith(OF_STORE + OF_BOTH))


def of_reader() -> str:
    """Give the table of what a reader shows besides."""
    metrics = ReaderMetrics("a")
    metrics.watch_workers(Mock(current=None), Mock(count=1, memory_bytes=1))
    return _table(
        each for each in _families(metrics.registry) if not each[0].name.startswith(OF_BOTH)
    )


def _of_primary() -> Iterator[tuple[Metric, tuple[str, ...]]]:
    metrics = IngestMetrics()
    metrics.watch_store(StoreCounts(), Prices())
    return _families(metrics.registry)


def _families(registry: CollectorRegistry) -> Iterator[tuple[Metric, tuple[str, ...]]]:
    """Give each metric with the names of its labels, also where it has no value yet.

    Source: prometheus_client 0.26, which tells these names in private only.
    """
    for collector in registry._collector_to_names:  # noqa: SLF001
        for family in collector.collect():
            declared = getattr(family, "_labelnames", ()) or getattr(collector, "_labelnames", ())
            shown = family.samples[0].labels if family.type == "info" else ()
            yield family, tuple(declared or shown)


def _table(families: Iterator[tuple[Metric, tuple[str, ...]]]) -> str:
    rows = (
        (
            code(family.name + SUFFIXES.get(family.type, "")),
            family.type,
            code(*labels),
            phrase(family.documentation) + _told(family),
        )
        for family, labels in families
    )
    return table(("name", "kind", "labels", "what"), rows)


def _told(family: Metric) -> str:
    """Name what the outcomes of a metric can be, if they are there from the start."""
    values = dict.fromkeys(each.labels[TOLD] for each in family.samples if TOLD in each.labels)
    return f": {code(*values)}" if values else ""
