"""The primary: the way of an upload, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.grafana.panels import (
    NOTHING,
    RATE,
    dashboard,
    each_minute,
    increase,
    lines,
    quantile,
    rate,
)

if TYPE_CHECKING:
    from grafana_foundation_sdk.models.dashboard import Dashboard


def make() -> Dashboard:
    """Make it."""
    steps = "headrace_ingest_step_seconds"
    return dashboard(
        "ingest",
        "ingest",
        "The way of uploads and of writes of rows on the primary, and Litestream.",
        {
            "Uploads": [
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
                    "Uploads by format",
                    "Packed files count by the outermost packing.",
                    "cpm",
                    {"{{format}}": each_minute("headrace_ingest_ended_uploads_total", by="format")},
                    stacked=True,
                ),
                lines(
                    "Why uploads fail",
                    "By the step and the code of the problem (the reference of errors).",
                    "cpm",
                    {
                        "{{step}}: {{code}}": each_minute(
                            "headrace_ingest_refusals_total", by="step, code"
                        )
                        + NOTHING
                    },
                ),
                lines(
                    "Time of each step, at the median",
                    "What an upload waits for.",
                    "s",
                    {"{{step}}": quantile(0.5, steps, by="step")},
                ),
                lines(
                    "Time of each step, at the 95th percentile",
                    "What the slow ones wait for.",
                    "s",
                    {"{{step}}": quantile(0.95, steps, by="step")},
                ),
                lines(
                    "On their way",
                    "Uploads between their last byte and their end; and of those, who wait.",
                    "none",
                    {
                        "in flight": "sum(headrace_ingest_uploads_in_flight)",
                        "waiting": "sum(headrace_ingest_uploads_queued)",
                        "resumable, unfinished": "sum(headrace_ingest_tus_uploads)",
                    },
                ),
                lines(
                    "Age of the oldest upload",
                    "A large file takes its time; one that is stuck grows with the clock.",
                    "s",
                    {"oldest": "max(headrace_ingest_oldest_upload_seconds)"},
                    limit=900,
                ),
                lines(
                    "Bytes received",
                    "Of uploads that arrived whole.",
                    "Bps",
                    {"received": rate("headrace_ingest_received_bytes_total")},
                ),
                lines(
                    "Turned away",
                    "For who sends, or how often.",
                    "cpm",
                    {"{{code}}": each_minute("headrace_ingest_denied_total", by="code")},
                ),
            ],
            "Rows": [
                lines(
                    "Requests by outcome of their batch",
                    "Of the write API.",
                    "reqps",
                    {"{{outcome}}": rate("headrace_ingest_row_requests_total", by="outcome")},
                    stacked=True,
                ),
                lines(
                    "Time of a batch",
                    "From its beginning to its publication: a writer waits for one or two.",
                    "s",
                    {
                        "p50": quantile(0.5, "headrace_ingest_row_batch_seconds"),
                        "p95": quantile(0.95, "headrace_ingest_row_batch_seconds"),
                    },
                ),
                lines(
                    "Requests in a batch",
                    "The more at once, the cheaper each is.",
                    "none",
                    {
                        "mean": f"sum(rate(headrace_ingest_row_batch_requests_sum{RATE})) / "
                        f"(sum(rate(headrace_ingest_row_batch_requests_count{RATE})) > 0)"
                    },
                ),
            ],
            "Primary": [
                lines(
                    "Lease",
                    "Which node holds it.",
                    "bool",
                    {"{{instance}}": "headrace_ingest_lease_held"},
                    at_most=1,
                ),
                lines(
                    "Renewals that the store did not take",
                    "A few are tried again in time; many in a row end the lease.",
                    "cpm",
                    {"failed": each_minute("headrace_ingest_lease_failures_total")},
                ),
                lines(
                    "How much of a limit is used",
                    "Of the primary's; at 1 something is refused.",
                    "percentunit",
                    {
                        "{{limit}}": "max by (limit) (headrace_limit_used_ratio "
                        "and on (instance) headrace_ingest_lease_held)"
                    },
                    at_most=1,
                    limit=0.9,
                ),
                lines(
                    "Cores used",
                    "By ingest and by Litestream; converters are processes of their own.",
                    "none",
                    {
                        "ingest": f"sum(rate(process_cpu_seconds_total{RATE}) "
                        "and on (instance) headrace_ingest_lease_held)",
                        "litestream": rate("litestream_process_cpu_seconds_total"),
                    },
                ),
                lines(
                    "Memory",
                    "Of the same processes.",
                    "bytes",
                    {
                        "ingest": "sum(process_resident_memory_bytes "
                        "and on (instance) headrace_ingest_lease_held)",
                        "litestream": "sum(litestream_process_resident_memory_bytes)",
                    },
                ),
                lines(
                    "Files that others drop",
                    "By what came of them; and those fetched from URLs.",
                    "cpm",
                    {
                        "{{outcome}}": each_minute(
                            "headrace_ingest_dropped_files_total", by="outcome"
                        ),
                        "{{outcome}} from a URL": each_minute(
                            "headrace_ingest_fetches_total", by="outcome"
                        ),
                    },
                ),
            ],
            "Litestream": [
                lines(
                    "Replication lag",
                    "Since the oldest commit that is not in the object store yet.",
                    "s",
                    {"lag": "max(headrace_ingest_replication_lag_seconds)"},
                    limit=60,
                ),
                lines(
                    "Is it up?",
                    "Whether it answers on its control socket, and how often it was started again.",
                    "none",
                    {
                        "up": "min(headrace_litestream_up)",
                        "restarts": increase("headrace_litestream_restarts_total"),
                    },
                ),
                lines(
                    "Syncs",
                    "Of all databases and the journal, and those that failed.",
                    "ops",
                    {
                        "syncs": rate("litestream_sync_count"),
                        "failed": rate("litestream_sync_error_count"),
                    },
                ),
                lines(
                    "Comparisons with the replica",
                    "One database a minute is compared with what was replicated of it.",
                    "cpm",
                    {
                        "{{outcome}}": each_minute(
                            "headrace_ingest_verifications_total", by="outcome"
                        )
                    },
                    span=12,
                ),
                lines(
                    "WAL",
                    "What lies in front of databases, all together.",
                    "bytes",
                    {"WAL": "sum(litestream_wal_size)"},
                    span=12,
                ),
            ],
        },
    )
