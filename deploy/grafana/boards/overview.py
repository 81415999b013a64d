"""The one to look at first: is all well, in each region?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.grafana.panels import (
    BAD,
    FAIR,
    GOOD,
    IN,
    NOTHING,
    RATE,
    REGION,
    dashboard,
    each_minute,
    lines,
    number,
    quantile,
    rate,
    rows,
)

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Dashboard

FRESH_S = 5  # within which an upload is to be live (deploy/prometheus/rules/objectives.yml)
READS = 'headrace_reader_requests_total{region=~"$region",kind="datasette"}'
FAILED_READS = 'headrace_reader_requests_total{region=~"$region",kind="datasette",code=~"5.."}'
LIVE = "headrace_reader_live_seconds"


def make() -> Dashboard:
    """Make it."""
    fresh = f'{LIVE}_bucket{{region=~"$region",le="{FRESH_S}.0"}}[$__range]'
    every = f"{LIVE}_count{IN}[$__range]"
    return dashboard(
        "overview",
        "overview by region",
        "Is the data fresh in each region, are people answered, do uploads go through?",
        {
            "Now": [
                number(
                    f"Uploads live within {FRESH_S} s",
                    "Of those in the time that is shown, in each region. The objective is 99.9 %.",
                    "percentunit",
                    {
                        "{{region}}": f"sum by (region) (increase({fresh})) / "
                        f"(sum by (region) (increase({every})) > 0)"
                    },
                    steps=((0, BAD), (0.99, FAIR), (0.999, GOOD)),
                    decimals=2,
                ),
                number(
                    "Reads answered",
                    "Requests for Datasette's pages that were not answered with a 5xx. "
                    "The objective is 99.95 %.",
                    "percentunit",
                    {
                        "{{region}}": f"1 - (sum by (region) (increase({FAILED_READS}[$__range])) "
                        f"or 0 * sum by (region) (increase({READS}[$__range]))) "
                        f"/ (sum by (region) (increase({READS}[$__range])) > 0)"
                    },
                    steps=((0, BAD), (0.999, FAIR), (0.9995, GOOD)),
                    decimals=3,
                ),
                number(
                    "Primaries",
                    "Nodes that hold the lease. None: uploads wait. Two: one cannot publish.",
                    "none",
                    {"": "sum(headrace_ingest_lease_held)" + NOTHING},
                    steps=((0, BAD), (1, GOOD), (2, BAD)),
                    span=4,
                ),
                number(
                    "Readers",
                    "That answer Prometheus.",
                    "none",
                    {"": f"count(headrace_reader_info{IN})" + NOTHING},
                    steps=((0, BAD), (1, GOOD)),
                    span=4,
                ),
                number(
                    "Alerts",
                    "That fire now. Their descriptions name what to do.",
                    "none",
                    {"": f'count(ALERTS{{alertstate="firing",alertname=~"Headrace.*"}}) {NOTHING}'},
                    steps=((0, GOOD), (1, BAD)),
                    span=4,
                ),
            ],
            "Is it fresh?": [
                lines(
                    "Seconds until an upload is live",
                    "From its arrival at the primary until a reader of the region shows it. The "
                    "dots are uploads, each with its receipt.",
                    "s",
                    {
                        "{{region}} p50": quantile(0.5, LIVE, IN, by="region"),
                        "{{region}} p99": quantile(0.99, LIVE, IN, by="region"),
                    },
                    limit=FRESH_S,
                    span=12,
                ),
                lines(
                    "Since the data was known to be the newest",
                    "Staleness of the worst reader: while the primary is heard it stays under some "
                    "seconds, also if nothing is uploaded.",
                    "s",
                    {"{{region}}": f"max by (region) (headrace_reader_staleness_seconds{IN})"},
                    limit=60,
                    span=12,
                ),
                lines(
                    "Generations behind",
                    "Between what is published and what the last reader of the region serves.",
                    "none",
                    {
                        "{{region}}": "clamp_min(scalar(max(headrace_ingest_generation)) - "
                        f"min by (region) (headrace_reader_generation{IN}), 0)"
                    },
                    span=12,
                ),
                lines(
                    "Replication lag",
                    "Since the oldest commit that is not in the object store yet.",
                    "s",
                    {"primary": "max(headrace_ingest_replication_lag_seconds)"},
                    limit=60,
                    span=12,
                ),
            ],
            "Are people answered?": [
                lines(
                    "Requests a second",
                    "All that readers were asked.",
                    "reqps",
                    {"{{region}}": rate("headrace_reader_requests_total", IN, by="region")},
                ),
                lines(
                    "Reads that failed",
                    "Of all requests for Datasette's pages, those answered with a 5xx.",
                    "percentunit",
                    {
                        "{{region}}": f"(sum by (region) (rate({FAILED_READS}{RATE})) or "
                        f"0 * sum by (region) (rate({READS}{RATE}))) "
                        f"/ (sum by (region) (rate({READS}{RATE})) > 0)"
                    },
                    limit=0.0005,
                ),
                lines(
                    "Time of a read",
                    "19 of 20 are faster.",
                    "s",
                    {
                        "{{region}}": quantile(
                            0.95,
                            "headrace_reader_request_seconds",
                            '{region=~"$region",kind="datasette"}',
                            by="region",
                        )
                    },
                ),
            ],
            "Do uploads go through?": [
                lines(
                    "Uploads by outcome",
                    "Refused is what the client can change; failed is ours.",
                    "cpm",
                    {
                        "{{outcome}}": each_minute(
                            "headrace_ingest_ended_uploads_total", by="outcome"
                        )
                    },
                    stacked=True,
                ),
                lines(
                    "How much of a limit is used",
                    "The five that are nearest. At 1 something is refused, or replaced.",
                    "percentunit",
                    {
                        "{{limit}} {{region}}": "topk(5, max by (limit, region) "
                        "(headrace_limit_used_ratio))"
                    },
                    at_most=1,
                    limit=0.9,
                ),
                rows(
                    "Versions",
                    "What runs where.",
                    "count by (region, version) (headrace_reader_info)",
                    {"region": "Region", "version": "Version", "Value": "Readers"},
                    span=8,
                ),
            ],
        },
        REGION,
    )
