"""One database: what is in it, what comes into it, and who reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.grafana.panels import DATABASE, RATE, dashboard, each_minute, lines, number, rate

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Dashboard


def make() -> Dashboard:
    """Make it."""
    here = '{database="$database"}'
    published = f"headrace_ingest_database_txid{here}"
    return dashboard(
        "database",
        "one database",
        "What is in a database, what comes into it, and who reads it. The first hundred have one.",
        {
            "What is in it": [
                number(
                    "Rows",
                    "Of its public tables.",
                    "short",
                    {"": f"max(headrace_ingest_database_rows{here})"},
                ),
                number(
                    "Tables",
                    "That are public.",
                    "none",
                    {"": f"max(headrace_ingest_database_tables{here})"},
                ),
                number(
                    "Size",
                    "On the primary.",
                    "bytes",
                    {"": f"max(headrace_ingest_database_bytes{here})"},
                ),
                number(
                    "Last change",
                    "Of its rows.",
                    "s",
                    {"": f"time() - max(headrace_ingest_database_updated_timestamp_seconds{here})"},
                ),
                lines(
                    "Rows",
                    "Over time.",
                    "short",
                    {"rows": f"max(headrace_ingest_database_rows{here})"},
                    span=12,
                ),
                lines(
                    "Size",
                    "Of the database, and of the WAL in front of it.",
                    "bytes",
                    {
                        "database": f"max(litestream_db_size{here})",
                        "WAL": f"max(litestream_wal_size{here})",
                    },
                    span=12,
                ),
            ],
            "What comes into it": [
                lines(
                    "Uploads by outcome",
                    "Refused is what the client can change; failed is ours.",
                    "cpm",
                    {
                        "{{outcome}}": each_minute(
                            "headrace_ingest_database_uploads_total", here, by="outcome"
                        )
                    },
                    stacked=True,
                ),
                lines(
                    "Transactions",
                    "Committed on the volume, and published.",
                    "none",
                    {
                        "on the volume": f"max(litestream_txid{here})",
                        "published": f"max({published})",
                    },
                ),
                lines(
                    "Time of a sync",
                    "On average, of Litestream's.",
                    "s",
                    {
                        "sync": f"sum(rate(litestream_sync_seconds{here}{RATE})) / "
                        f"(sum(rate(litestream_sync_count{here}{RATE})) > 0)"
                    },
                ),
            ],
            "Who reads it": [
                lines(
                    "Requests a second",
                    "For its pages, by region.",
                    "reqps",
                    {
                        "{{region}}": rate(
                            "headrace_reader_database_requests_total", here, by="region"
                        )
                    },
                    span=12,
                ),
                lines(
                    "Transactions behind",
                    "Between what is published and what the last reader of a region serves.",
                    "none",
                    {
                        "{{region}}": f"clamp_min(scalar(max({published})) - "
                        f"min by (region) (headrace_reader_database_txid{here}), 0)"
                    },
                    span=12,
                ),
            ],
        },
        DATABASE,
    )
