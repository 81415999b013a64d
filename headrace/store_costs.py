"""What was asked of an object store, as metrics, and an estimate of what it costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from headrace.errors import ConfigError
from headrace.store_counts import Operation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headrace.store_counts import StoreCounts

GB = 1e9  # bytes, as stores bill them

_CLASS_B = (Operation.GET, Operation.HEAD)
_CLASS_A = (Operation.PUT, Operation.CREATE, Operation.MULTIPART, Operation.LIST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What a store takes, in dollars.

    Attributes:
        class_a: For 1,000 requests that write or list.
        class_b: For 1,000 requests that read.
        egress: For 10^9 bytes read.
    """

    class_a: float = 0.0
    class_b: float = 0.0
    egress: float = 0.0

    @classmethod
    def decode(cls, text: str) -> Prices:
        """Read the setting: ``class A,class B,egress``.

        Raises:
            ConfigError: It is something else.
        """
        try:
            class_a, class_b, egress = (float(part) for part in text.split(","))
            if not all(0 <= each < math.inf for each in (class_a, class_b, egress)):
                raise ValueError(text)
        except ValueError as exc:
            raise ConfigError(
                f"cannot use --store-prices {text!r}: it is not three numbers",
                hint="dollars for 1,000 writes or lists, 1,000 reads, and a GB read: "
                "0.005,0.0004,0.09",
            ) from exc
        return cls(class_a=class_a, class_b=class_b, egress=egress)

    def rate(self, counts: StoreCounts) -> dict[str, float]:
        """Give what some requests cost, by what is charged; deleting is free everywhere."""
        return {
            "a": self.class_a * sum(counts.requests[each] for each in _CLASS_A) / 1000,
            "b": self.class_b * sum(counts.requests[each] for each in _CLASS_B) / 1000,
            "egress": self.egress * counts.transferred_bytes[Operation.GET] / GB,
        }


# Standard storage in a region of the United States, out to the internet, first tier.
# Source: aws.amazon.com/s3/pricing, cloud.google.com/storage/pricing and
# azure.microsoft.com/pricing/details/storage/blobs (hot, locally redundant), as of 2025.
_LIST_PRICES = {
    "s3": Prices(class_a=0.005, class_b=0.0004, egress=0.09),
    "gs": Prices(class_a=0.005, class_b=0.0004, egress=0.12),
    "az": Prices(class_a=0.005, class_b=0.0004, egress=0.087),
}


def find_prices(url: str, chosen: str | None) -> Prices:
    """Give the prices of a store: those that are set, else its kind's; nothing for a folder.

    Args:
        url: The store's.
        chosen: What is set.

    Raises:
        ConfigError: What is set cannot be read.
    """
    if chosen is not None:
        return Prices.decode(chosen)
    return _LIST_PRICES.get(url.partition(":")[0], Prices())


class StoreMetrics(Collector):
    """Shows counts as metrics.

    Args:
        counts: By the program that sent the requests.
        prices: What is paid for them.
    """

    def __init__(self, counts: Mapping[str, StoreCounts], prices: Prices) -> None:
        self._counts = counts
        self._prices = prices

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Give what is counted now."""
        families = {
            "requests": "Requests to the object store.",
            "errors": "Requests that the object store did not answer as it should.",
            "transferred_bytes": "Bytes of objects read from and written to the object store.",
        }
        for name, text in families.items():
            family = CounterMetricFamily(
                f"headrace_store_{name}", text, labels=("client", "operation")
            )
            for client, counts in self._counts.items():
                for operation in Operation:
                    family.add_metric((client, operation), getattr(counts, name)[operation])
            yield family
        waited = CounterMetricFamily(
            "headrace_store_seconds",
            "Seconds that were waited for the object store.",
            labels=("client", "operation"),
        )
        for client, counts in self._counts.items():
            for operation, seconds in counts.seconds.items():
                waited.add_metric((client, operation), seconds)
        yield waited
        cost = CounterMetricFamily(
            "headrace_store_cost_dollars",
            "Estimate of what these requests cost, by what is charged.",
            labels=("client", "charge"),
        )
        for client, counts in self._counts.items():
            for charge, dollars in self._prices.rate(counts).items():
                cost.add_metric((client, charge), dollars)
        yield cost
