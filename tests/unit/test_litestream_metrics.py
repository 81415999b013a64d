"""Litestream's own metrics among the primary's."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice

from prometheus_client import CollectorRegistry

from headrace.exposition import MOST_DATABASES
from headrace.generation import Cut
from ingest.litestream_counts import LitestreamCounts
from ingest.litestream_metrics import LitestreamMetrics
from ingest.metrics import IngestMetrics

OLD, LIVE, OTHER, JOURNAL = "0" * 15 + "1", "0" * 15 + "2", "0" * 15 + "3", "0" * 15 + "4"
DATABASES = {LIVE: "sales", JOURNAL: "_headrace"}

TOOK = "litestream_replica_operation_duration_seconds"
PUT = 'operation="PUT",replica_type="s3"'
SAYS = f"""\
# TYPE litestream_db_size gauge
litestream_db_size{{db="/data/dbs/sales/{OLD}"}} 4096
litestream_db_size{{db="/data/dbs/sales/{LIVE}"}} 8192
litestream_db_size{{db="/data/dbs/gone/{OTHER}"}} 1
litestream_db_size{{db="/data/dbs/_headrace/{JOURNAL}"}} 512
# TYPE litestream_sync_count counter
litestream_sync_count{{db="/data/dbs/sales/{OLD}"}} 2
litestream_sync_count{{db="/data/dbs/sales/{LIVE}"}} 3
# TYPE litestream_l0_retention_files_total gauge
litestream_l0_retention_files_total{{db="{OLD}",status="eligible"}} 7
litestream_l0_retention_files_total{{db="{LIVE}",status="eligible"}} 5
# TYPE litestream_replica_operation_total counter
litestream_replica_operation_total{{{PUT}}} 9
# TYPE {TOOK} histogram
{TOOK}_bucket{{{PUT},le="+Inf"}} 9
{TOOK}_sum{{{PUT}}} 1.5
{TOOK}_count{{{PUT}}} 9
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 0.5
# TYPE go_goroutines gauge
go_goroutines 20
"""


def registry_of(counts: LitestreamCounts) -> CollectorRegistry:
    """Give a registry with what Litestream said."""
    registry = CollectorRegistry()
    registry.register(LitestreamMetrics(counts))
    return registry


def test_metrics_are_of_databases_under_the_names_that_litestream_gives() -> None:
    """Of each database the live lineage is shown; the journal is there as well."""
    counts = LitestreamCounts()
    counts.take(SAYS, DATABASES)
    find = registry_of(counts).get_sample_value

    assert find("litestream_db_size", {"database": "sales"}) == 8192
    assert find("litestream_db_size", {"database": "_headrace"}) == 512
    assert find("litestream_db_size", {"database": "gone"}) is None
    assert find("litestream_sync_count", {"database": "sales"}) == 3
    retained = {"database": "sales", "status": "eligible"}
    assert find("litestream_l0_retention_files_total", retained) == 5
    put = {"operation": "PUT", "replica_type": "s3"}
    assert find("litestream_replica_operation_total", put) == 9
    assert find(f"{TOOK}_sum", put) == 1.5
    assert find("litestream_process_cpu_seconds_total") == 0.5
    assert find("go_goroutines") is None


def test_nothing_is_shown_of_a_litestream_that_does_not_answer() -> None:
    """What it said before is not repeated as if it were still so."""
    counts = LitestreamCounts()
    counts.take(SAYS, DATABASES)
    counts.take("", DATABASES)

    assert list(registry_of(counts).collect()) == []


async def test_only_so_many_databases_have_metrics() -> None:
    """Those that were there first are shown: a thousand more make no more of them."""
    cuts = {f"d{n}": cut(f"{n:016x}") for n in range(MOST_DATABASES + 50)}
    lines = [f'litestream_txid{{db="/dbs/{name}/{each.lineage}"}} 1' for name, each in cuts.items()]

    async def ask() -> str:
        return "\n".join(["# TYPE litestream_txid gauge", *lines, ""])

    metrics = IngestMetrics()
    metrics.watch_databases(lambda: cuts, "f" * 16)
    metrics.replication.watch(ask)
    await metrics.refresh()

    families = {family.name: family for family in metrics.registry.collect()}
    for name in ("litestream_txid", "headrace_ingest_database_txid"):
        shown = {sample.labels["database"] for sample in families[name].samples}
        assert shown == set(islice(cuts, MOST_DATABASES))


def cut(lineage: str) -> Cut:
    """Give a cut of a lineage."""
    return Cut(
        lineage=lineage,
        txid=1,
        page_size=4096,
        pages=1,
        tables={},
        updated_at=datetime.now(UTC),
        source=None,
    )
