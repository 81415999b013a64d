"""What requests to a store cost, and what Litestream says of its own."""

from __future__ import annotations

import json

import pytest
from prometheus_client import CollectorRegistry

from headrace.errors import ConfigError
from headrace.store_costs import Prices, StoreMetrics, find_prices
from headrace.store_counts import Operation, StoreCounts
from ingest.litestream_counts import LitestreamCounts

PRICES = Prices(class_a=5.0, class_b=0.4, egress=90.0)


def litestream_says(puts: int, put_bytes: int, *, lists: int = 0, errors: int = 0) -> str:
    """Give the lines of Litestream's metrics that matter, and some of the others."""
    labels = 'operation="{}",replica_type="s3"'
    put = labels.format("PUT")
    return "\n".join(
        [
            "# TYPE litestream_replica_operation_total counter",
            f"litestream_replica_operation_total{{{put}}} {puts}",
            f"litestream_replica_operation_total{{{labels.format('LIST')}}} {lists}",
            "# TYPE litestream_replica_operation_bytes counter",
            f"litestream_replica_operation_bytes{{{put}}} {put_bytes}",
            "# TYPE litestream_replica_operation_errors_total counter",
            f'litestream_replica_operation_errors_total{{code="a",{put}}} {errors}',
            f'litestream_replica_operation_errors_total{{code="b",{put}}} 1',
            'litestream_db_size{db="/data/dbs/sales/0123456789abcdef"} 4096',
            "",
        ]
    )


def test_cost_is_that_of_writes_reads_and_bytes_read() -> None:
    """Lists and all kinds of writes cost the same, deletes nothing."""
    counts = StoreCounts()
    for operation in Operation:
        counts.requests[operation] += 1000
    counts.transferred_bytes[Operation.GET] += 500_000_000
    counts.transferred_bytes[Operation.PUT] += 500_000_000

    assert PRICES.rate(counts) == {"a": 20.0, "b": 0.8, "egress": 45.0}


def test_prices_are_those_of_the_kind_of_store_unless_they_are_set() -> None:
    """A folder costs nothing, whatever is set wins, and what cannot be read is refused."""
    assert find_prices("file:///data/store", None) == Prices()
    assert find_prices("s3://bucket", None).egress > 0
    assert find_prices("s3://bucket", "5,0.4,90") == PRICES
    for text in ("5", "5,0.4", "5,0.4,x", "5,0.4,90,1", "-1,0,0", "nan,0,0"):
        with pytest.raises(ConfigError, match="--store-prices"):
            find_prices("s3://bucket", text)


def test_metrics_tell_both_programs_apart() -> None:
    """Each operation of each has a number from the start, and what it costs."""
    counts = StoreCounts()
    registry = CollectorRegistry()
    registry.register(StoreMetrics({"headrace": counts, "litestream": StoreCounts()}, PRICES))
    counts.requests[Operation.CREATE] += 3
    counts.errors[Operation.CREATE] += 1

    def sample(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"headrace_store_{name}_total", labels)

    assert sample("requests", client="headrace", operation="create") == 3
    assert sample("errors", client="headrace", operation="create") == 1
    assert sample("requests", client="litestream", operation="list") == 0
    assert sample("cost_dollars", client="headrace", charge="a") == 0.015


def test_time_of_requests_is_shown_where_it_is_known() -> None:
    """What was waited for adds up, also that of other processes; Litestream tells nothing of it."""
    counts, other = StoreCounts(), StoreCounts()
    counts.wait(Operation.GET, 0.5)
    other.wait(Operation.GET, 0.25)
    other.requests[Operation.GET] += 1
    counts.add(json.loads(json.dumps(other.encode())))
    registry = CollectorRegistry()
    registry.register(StoreMetrics({"headrace": counts, "litestream": StoreCounts()}, PRICES))

    labels = {"client": "headrace", "operation": "get"}
    assert registry.get_sample_value("headrace_store_seconds_total", labels) == 0.75
    assert registry.get_sample_value("headrace_store_requests_total", labels) == 1
    of_litestream = {**labels, "client": "litestream"}
    assert registry.get_sample_value("headrace_store_seconds_total", of_litestream) is None


def test_counts_of_litestream_go_on_over_its_processes() -> None:
    """What a process that ended had asked is not forgotten, and nothing counts twice."""
    litestream = LitestreamCounts()

    litestream.take(litestream_says(10, 1000, lists=2))
    litestream.take("")
    litestream.take(litestream_says(15, 1500, lists=2, errors=3))
    litestream.take(litestream_says(4, 400))

    counts = litestream.counts
    assert counts.requests == {Operation.PUT: 19, Operation.LIST: 2}
    assert counts.transferred_bytes == {Operation.PUT: 1900}
    assert counts.errors == {Operation.PUT: 4 + 1}
