"""What Litestream asked of the object store, read off its own metrics.

They are on a private port, and begin anew with each process: here they go on.

Source: Litestream 0.5.17, ``internal/internal.go``: ``litestream_replica_operation_…``. Its client
for S3 counts PUT and DELETE alone, those for other stores GET and LIST as well.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from headrace.store_counts import Operation, StoreCounts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prometheus_client.metrics_core import Metric

_LINEAGE = re.compile(r'[{,]db="(?:[^"]*/)?([0-9a-f]{16})"')
_TYPE = re.compile(r"^# TYPE (\S+)", re.MULTILINE)
_OPERATIONS = {
    "GET": Operation.GET,
    "LIST": Operation.LIST,
    "PUT": Operation.PUT,
    "DELETE": Operation.DELETE,
}


class LitestreamCounts:
    """Counts over all processes of Litestream.

    Attributes:
        counts: What they asked in all.
        databases: Those that are looked at, by lineage.
        families: All metrics of the process that runs now, by their names as it tells them; none
            while it does not answer. (The parser has the samples of counters end in ``_total``.)
    """

    def __init__(self) -> None:
        self.counts = StoreCounts()
        self.databases: Mapping[str, str] = {}
        self.families: dict[str, Metric] = {}
        self._told = Counter[tuple[str, Operation]]()  # by the process that runs now

    def take(self, text: str, databases: Mapping[str, str] | None = None) -> None:
        """Take the metrics of the process that runs now.

        Args:
            text: In Prometheus's text format; empty while it does not answer.
            databases: Those that are looked at, by lineage: there may be thousands of others.
        """
        self.databases = databases or {}
        families = list(text_string_to_metric_families(self._leave_others(text)))
        names = set(_TYPE.findall(text))
        self.families = {
            each.name if each.name in names else f"{each.name}_total": each for each in families
        }
        if not text:
            return
        told = Counter[tuple[str, Operation]]()
        for family in families:
            for sample in family.samples:
                operation = _OPERATIONS.get(sample.labels.get("operation", ""))
                if operation is not None:  # errors have one sample for each code
                    told[sample.name.removesuffix("_total"), operation] += int(sample.value)
        places = {
            "litestream_replica_operation": self.counts.requests,
            "litestream_replica_operation_errors": self.counts.errors,
            "litestream_replica_operation_bytes": self.counts.transferred_bytes,
        }
        for (name, operation), value in told.items():
            if name in places:
                before = self._told[name, operation]
                places[name][operation] += value - before if value >= before else value
        self._told = told

    def _leave_others(self, text: str) -> str:
        lines = []
        for line in text.splitlines():
            of_lineage = _LINEAGE.search(line)
            if of_lineage is None or of_lineage[1] in self.databases:
                lines.append(line)
        return "\n".join([*lines, ""])
