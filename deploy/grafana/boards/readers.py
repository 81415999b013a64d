"""The readers: how they answer, and how they come to each generation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.grafana.panels import (
    IN,
    NOTHING,
    RATE,
    REGION,
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
    seconds = "headrace_reader_request_seconds"
    steps = "headrace_reader_step_seconds"
    cached = f"headrace_reader_cache_requests_total{IN}"
    hits = 'headrace_reader_cache_requests_total{region=~"$region",result="hit"}'
    return dashboard(
        "readers",
        "readers",
        "How readers answer, and how they come to each generation.",
        {
            "Requests": [
                lines(
                    "Requests a second, by kind",
                    "datasette: pages; ingest: uploads that are handed on; rows: the write API.",
                    "reqps",
                    {"{{kind}}": rate("headrace_reader_requests_total", IN, by="kind")},
                    stacked=True,
                ),
                lines(
                    "Requests a second, by status",
                    "hung-up: the client was gone before.",
                    "reqps",
                    {"{{code}}": rate("headrace_reader_requests_total", IN, by="code")},
                    stacked=True,
                ),
                lines(
                    "Refused to protect the others",
                    "By the code of the problem.",
                    "cpm",
                    {
                        "{{reason}}": each_minute("headrace_reader_shed_total", IN, by="reason")
                        + NOTHING
                    },
                ),
                lines(
                    "Time of a request, at the median",
                    "By kind. That of ingest is mostly the client's.",
                    "s",
                    {"{{kind}}": quantile(0.5, seconds, IN, by="kind")},
                ),
                lines(
                    "Time of a request, at the 95th percentile",
                    "The same for the slow ones.",
                    "s",
                    {"{{kind}}": quantile(0.95, seconds, IN, by="kind")},
                ),
                lines(
                    "Bytes answered",
                    "Of bodies, by kind.",
                    "Bps",
                    {"{{kind}}": rate("headrace_reader_response_bytes_total", IN, by="kind")},
                ),
            ],
            "Cache": [
                lines(
                    "Hits",
                    "Of all requests for Datasette, those that were answered from memory.",
                    "percentunit",
                    {
                        "{{region}}": f"sum by (region) (rate({hits}{RATE})) / "
                        f"(sum by (region) (rate({cached}{RATE})) > 0)"
                    },
                    at_most=1,
                ),
                lines(
                    "What it holds",
                    "It is full when it lets go of pages.",
                    "bytes",
                    {"{{region}}": f"sum by (region) (headrace_reader_cache_bytes{IN})"},
                ),
                lines(
                    "Pages that made room, and that were warmed",
                    "A small cache renders the same pages again and again.",
                    "cpm",
                    {
                        "made room": each_minute("headrace_reader_cache_evictions_total", IN),
                        "warmed": each_minute("headrace_reader_cache_warmed_total", IN),
                    },
                ),
            ],
            "Workers": [
                lines(
                    "Workers missing",
                    "Between those that there should be and those in service.",
                    "none",
                    {
                        "{{region}}": f"sum by (region) (headrace_reader_workers_wanted{IN} - "
                        f"headrace_reader_workers{IN})"
                    },
                ),
                lines(
                    "Workers replaced",
                    "Crashed, or because they held too much memory.",
                    "none",
                    {
                        "crashed": increase("headrace_reader_worker_restarts_total", IN),
                        "too large": increase("headrace_reader_memory_replacements_total", IN),
                    },
                ),
                lines(
                    "Memory of the largest worker",
                    "In each region.",
                    "bytes",
                    {"{{region}}": f"max by (region) (headrace_reader_worker_memory_bytes{IN})"},
                ),
                lines(
                    "Requests that wait for Datasette",
                    "At --queue-length the next one is refused.",
                    "none",
                    {"{{region}}": f"sum by (region) (headrace_reader_queue_length{IN})"},
                ),
                lines(
                    "Cores used",
                    "By the readers themselves; workers are processes of their own.",
                    "none",
                    {"{{region}}": rate("process_cpu_seconds_total", IN, by="region")},
                ),
                lines(
                    "How much of a limit is used",
                    "By the worst reader.",
                    "percentunit",
                    {"{{limit}}": f"max by (limit) (headrace_limit_used_ratio{IN})"},
                    at_most=1,
                    limit=0.9,
                ),
            ],
            "Generations": [
                lines(
                    "Switches",
                    "To new generations; and those whose workers were ready before.",
                    "cpm",
                    {
                        "{{region}}": each_minute(
                            "headrace_reader_switches_total", IN, by="region"
                        ),
                        "{{region}}, with spares": each_minute(
                            "headrace_reader_dressed_switches_total", IN, by="region"
                        ),
                    },
                ),
                lines(
                    "Time of each step of a switch",
                    "At the 95th percentile.",
                    "s",
                    {"{{step}}": quantile(0.95, steps, IN, by="step")},
                ),
                lines(
                    "Switches that were given up",
                    "By the step that failed. The old generation is served on.",
                    "none",
                    {
                        "{{step}}": increase("headrace_reader_switch_failures_total", IN, by="step")
                        + NOTHING
                    },
                ),
                lines(
                    "What was heard of and is not shown",
                    "Since the oldest such upload had arrived.",
                    "s",
                    {"{{region}}": f"max by (region) (headrace_reader_lag_seconds{IN})"},
                ),
                lines(
                    "Failures to hear of generations",
                    "From the primary (push) or the object store (log).",
                    "none",
                    {
                        "{{source}}": increase(
                            "headrace_reader_follow_errors_total", IN, by="source"
                        )
                        + NOTHING
                    },
                ),
                lines(
                    "Fetched and restored",
                    "Bytes of transactions fetched, and of databases made of them.",
                    "Bps",
                    {
                        "fetched": rate("headrace_reader_fetched_bytes_total", IN),
                        "restored": rate("headrace_reader_restored_bytes_total", IN),
                    },
                ),
                lines(
                    "Copies that could not be proven",
                    "They are thrown away, and made again.",
                    "none",
                    {
                        "{{region}}": increase(
                            "headrace_reader_proof_failures_total", IN, by="region"
                        )
                    },
                    span=12,
                ),
                lines(
                    "Is the primary heard?",
                    "Whether it pushes generations; without it the log is polled.",
                    "bool",
                    {"{{region}}": f"min by (region) (headrace_reader_push_connected{IN})"},
                    span=12,
                    at_most=1,
                ),
            ],
        },
        REGION,
    )
