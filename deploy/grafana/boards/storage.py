"""The object store, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.grafana.panels import (
    BAD,
    FAIR,
    GOOD,
    RATE,
    dashboard,
    each_minute,
    lines,
    number,
    rate,
)

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Dashboard

MONTH_S = 30 * 24 * 3600


def make() -> Dashboard:
    """Make it."""
    requests, errors = "headrace_store_requests_total", "headrace_store_errors_total"
    cost = "headrace_store_cost_dollars_total"
    return dashboard(
        "storage",
        "storage and cost",
        "What is asked of the object store, how it answers, and an estimate of its price.",
        {
            "Cost": [
                number(
                    "A month, at the pace of the last hour",
                    "Requests and bytes read, at the list prices or --store-prices; what is stored "
                    "is not in it.",
                    "currencyUSD",
                    {"": f"sum(rate({cost}[1h])) * {MONTH_S}"},
                ),
                number(
                    "In the time that is shown",
                    "The same.",
                    "currencyUSD",
                    {"": f"sum(increase({cost}[$__range]))"},
                ),
                number(
                    "Databases",
                    "All together, on the primary.",
                    "bytes",
                    {"": "sum(headrace_ingest_database_bytes)"},
                ),
                number(
                    "Errors",
                    "Of all requests in the time that is shown.",
                    "percentunit",
                    {
                        "": f"sum(increase({errors}[$__range])) / "
                        f"(sum(increase({requests}[$__range])) > 0)"
                    },
                    steps=((0, GOOD), (0.001, FAIR), (0.05, BAD)),
                    decimals=2,
                ),
                lines(
                    "Dollars an hour, by what is charged",
                    "a: writing and listing; b: reading; egress: bytes read.",
                    "currencyUSD",
                    {"{{charge}}": rate(cost, by="charge") + " * 3600"},
                    stacked=True,
                    span=12,
                ),
                lines(
                    "Dollars an hour, by who asks",
                    "Headrace's nodes, and Litestream.",
                    "currencyUSD",
                    {"{{client}}": rate(cost, by="client") + " * 3600"},
                    stacked=True,
                    span=12,
                ),
            ],
            "Requests": [
                lines(
                    "Requests, by operation",
                    "create is a put that fails if there is such an object: the log and the lease.",
                    "cpm",
                    {"{{operation}}": each_minute(requests, by="operation")},
                    stacked=True,
                ),
                lines(
                    "Errors, by operation",
                    "That there is no such object, or one already, is an answer.",
                    "cpm",
                    {"{{operation}}": each_minute(errors, by="operation")},
                ),
                lines(
                    "Time of a request",
                    "On average; that of multipart is also the client's who sends.",
                    "s",
                    {
                        "{{operation}}": "sum by (operation) "
                        f"(rate(headrace_store_seconds_total{RATE})) / "
                        f'(sum by (operation) (rate({requests}{{client="headrace"}}{RATE})) > 0)'
                    },
                ),
                lines(
                    "Bytes, by operation",
                    "Read and written.",
                    "Bps",
                    {
                        "{{operation}}": rate(
                            "headrace_store_transferred_bytes_total", by="operation"
                        )
                    },
                    span=12,
                ),
                lines(
                    "Deleted",
                    "Objects that no generation that is kept needs, by kind.",
                    "cpm",
                    {"{{kind}}": each_minute("headrace_ingest_pruned_total", by="kind")},
                    span=12,
                ),
            ],
            "Volumes": [
                lines(
                    "How full volumes are",
                    "Of the primary (without the reserve), and of the fullest reader of a region.",
                    "percentunit",
                    {
                        "{{region}} {{instance}}": "max by (region, instance) "
                        '(headrace_limit_used_ratio{limit="disk"})'
                    },
                    at_most=1,
                    limit=0.9,
                    span=12,
                ),
                lines(
                    "Databases and their WALs",
                    "On the primary.",
                    "bytes",
                    {
                        "databases": "sum(litestream_db_size)",
                        "WALs": "sum(litestream_wal_size)",
                    },
                    stacked=True,
                    span=12,
                ),
            ],
        },
    )
