"""What people on call see of the running system: its metrics, dashboards and alerts."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from headrace.exposition import MOST_DATABASES
from tests.conftest import wait_for
from tests.e2e.conftest import System, running
from tests.e2e.prometheus_kit import DEPLOY, Prometheus, scraping
from tests.faults.processes import command_of, descendants, send
from tests.samples import find_sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

READERS = 2
READER = ("--workers", "1", "--request-timeout", "1")
HASTY = ("--lease-duration", "3", "--lease-renewal", "0.5")  # seconds
BOARDS = sorted((DEPLOY.parent / "grafana").glob("*.json"))
# What Grafana puts into queries.
VALUES = {
    "$__rate_interval": "10s",
    "$__range": "1m",
    "$region": ".+",
    "$database": "sales",
}
DOCS = Path(__file__).parents[2] / "docs"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
# Of labels that are not a list of words: what else their values must be.
OPEN_LABELS = {
    "code": r"[a-z-]+|[1-5][0-9][0-9]",
    "database": r"[a-z0-9_]+",
    "format": r"[a-z0-9_-]+",
    "le": r"[0-9.]+|\+Inf",
    "place": r"file:///.+/incoming",
    "plugin": r"[a-z0-9_-]+",
    "region": r"[a-b]",
    "replica_type": r"file",
    "version": r"[0-9.]+",
    "mode": r"(?i)passive|full|restart|truncate",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder for all of it."""
    return tmp_path_factory.mktemp("watched")


@pytest.fixture(scope="module")
def system(folder: Path) -> Iterator[System]:
    """Give a system with two readers, on a store that can be taken away."""
    (folder / "store").mkdir()
    (folder / "view").symlink_to(folder / "store")
    flags = ("--store", str(folder / "view"), *READER, *HASTY)
    with running(folder / "data", *flags, readers=READERS) as system:
        yield system


@pytest.fixture(scope="module")
def prometheus(system: System, folder: Path) -> Iterator[Prometheus]:
    """Give a Prometheus that has watched it since it is there."""
    with scraping(system, folder) as prometheus:
        yield prometheus


@pytest.fixture(scope="module")
def watched(system: System, prometheus: Prometheus) -> System:
    """Give the system after it was used in every way once."""
    use(system)
    prometheus.wait_for_scrapes()
    read(system)  # Prometheus sees what a counter grows by, and not what it begins with
    return system


def use(system: System) -> None:
    """Upload, write, refuse and read something."""
    for number in range(3):
        system.upload(b"id,name\n%d,Ada\n" % number, "sales.csv", wait_for="regions")
    system.upload(b'[{"id": 1}]', "events.json", wait_for="regions")
    rows = {"rows": [{"id": 7, "name": "Eve"}]}
    inserted = system.client.post("/sales/sales/-/insert", json=rows, headers=system.auth)
    assert inserted.status_code == 201, inserted.text
    assert system.post(b"a,b\n1\n2,3,4\n", "broken.csv").status_code == 422
    assert system.client.post("/ingest", content=b"a\n1\n").status_code == 401
    read(system)


def read(system: System) -> None:
    """Read some pages of each reader."""
    for reader in range(READERS):
        for path in ("/", "/sales/sales", "/sales/sales", "/sales.json", "/none"):
            httpx.get(f"http://127.0.0.1:{system.port + reader}{path}")


def nodes(system: System) -> list[str]:
    """Give the addresses of all metrics."""
    return [f"http://127.0.0.1:{system.port + 200 + n}/metrics" for n in range(1 + READERS)]


def families(system: System) -> list[Metric]:
    """Read all that the nodes show."""
    found: list[Metric] = []
    for url in nodes(system):
        answer = httpx.get(url, headers={"Accept": OPENMETRICS})
        assert answer.headers["Content-Type"].startswith(OPENMETRICS)
        found += text_string_to_metric_families(answer.text)  # type: ignore[no-untyped-call]
    return found


def documented_rows() -> dict[str, tuple[set[str], set[str]]]:
    """Give the labels of each metric, as the reference has them, and the words named beside it."""
    text = (DOCS / "reference" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| \w+ \| ([^|]*) \| (.*) \|$", text, re.MULTILINE)
    return {name: (words_in(labels), words_in(said)) for name, labels, said in rows}


def documented_values() -> dict[str, set[str]]:
    """Give what the reference says that each label can be."""
    text = (DOCS / "reference" / "metrics.md").read_text()
    table = text.partition("## Labels")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE)
    return {name: words_in(said) for name, said in rows}


def words_in(text: str) -> set[str]:
    """Find what stands as code in a text."""
    return set(re.findall(r"`([^`]+)`", text))


def documented_name(family: Metric) -> str:
    """Give the name that a family has in the reference."""
    return family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")


def test_what_is_shown_is_documented_with_its_labels(watched: System) -> None:
    """The running system shows no metric and no label that the reference does not have."""
    documented = documented_rows()
    of_all = {"le", "region"}  # of histograms, and of all that a reader shows
    for family in families(watched):
        labels, _words = documented[documented_name(family)]
        for sample in family.samples:
            assert sample.labels.keys() - of_all == labels - of_all, sample


def test_labels_are_bounded(watched: System) -> None:
    """Each value of each label is one that the reference names, or of a set that is bounded."""
    documented, words = documented_rows(), documented_values()
    words["operation"] |= {operation.upper() for operation in words["operation"]}
    words["state"] |= {"received", "converting", "merging", "replicating", "published", "failed"}
    databases = set()
    for family in families(watched):
        _labels, beside = documented[documented_name(family)]
        for sample in family.samples:
            databases |= {sample.labels.get("database", "sales")}
            for label, value in sample.labels.items():
                open_to = OPEN_LABELS.get(label)
                if open_to is None:
                    assert value in words[label] | beside, (sample.name, label, value)
                else:
                    assert re.fullmatch(open_to, value), (sample.name, label, value)
    assert databases == {"sales", "events", "_headrace"}
    assert len(databases) < MOST_DATABASES


def test_slow_uploads_can_be_found_by_their_receipts(watched: System) -> None:
    """Each region says how long uploads took, and names some of them."""
    receipt = watched.upload(b"id,name\n1,Grace\n", "sales.csv", wait_for="regions")
    assert sorted(receipt["live"]) == ["a", "b"]

    live = [family for family in families(watched) if family.name == "headrace_reader_live_seconds"]
    named = {
        sample.labels["region"]: sample.exemplar.labels["receipt"]
        for family in live
        for sample in family.samples
        if sample.exemplar
    }
    assert named.keys() == {"a", "b"}
    for receipt_id in named.values():
        found = watched.client.get(f"/ingest/receipts/{receipt_id}", headers=watched.auth)
        assert found.json()["state"] == "published"


def test_who_asks_for_no_openmetrics_gets_text(watched: System) -> None:
    """A browser and older tools see Prometheus's text format, which has no exemplars."""
    for url in nodes(watched):
        answer = httpx.get(url, headers={"Accept": "text/html"})
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "# {" not in answer.text
        assert "# EOF" not in answer.text


def test_exemplars_reach_prometheus(watched: System, prometheus: Prometheus) -> None:
    """Whoever looks at a slow upload in Grafana gets its receipt."""
    found = wait_for(lambda: prometheus.exemplars("headrace_reader_live_seconds_bucket"))
    answers = [watched.client.get(f"/ingest/receipts/{each['receipt']}") for each in found]
    assert {answer.status_code for answer in answers} == {200}


@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
def test_every_panel_shows_something(watched: System, prometheus: Prometheus, board: Path) -> None:
    """The running system has an answer to each question of each dashboard."""
    panels = json.loads(board.read_text())["panels"]
    for panel in (each for each in panels if each["type"] != "row"):
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in VALUES.items():
                query = query.replace(name, value)
            assert "$" not in query
            wait_for(partial(prometheus.has_shown, query))


def test_no_alert_fires_while_all_is_well(watched: System, prometheus: Prometheus) -> None:
    """Nobody is called for a system that is used, some of whose uploads are refused."""
    prometheus.wait_for_scrapes()
    assert prometheus.ask("count(up == 1)")[0]["value"][1] == str(1 + READERS)
    assert len(prometheus.ask("region:headrace_uploads_late:ratio_rate5m")) == READERS
    assert prometheus.alerts() == set()


# What follows breaks things, one after another.


def test_reader_that_stands_still_calls(watched: System, prometheus: Prometheus) -> None:
    """Its workers answer nobody, and nothing new comes into service: budgets are at stake."""
    since = time.time()
    with stopped(*find(watched, "nursery_main", "reader-1")):
        for number in range(3):
            watched.upload(b"id,name\n%d,Bob\n" % number, "sales.csv")
        for number in range(5):
            url = f"http://127.0.0.1:{watched.port + 1}/sales/sales?_size={number + 1}"
            assert httpx.get(url, timeout=30).status_code >= 500
        prometheus.wait_for_alerts("ReaderBehind", "ReadsBudgetBurnsFast", since=since)
    prometheus.wait_for_alerts("FreshBudgetBurnsFast", "FreshBudgetBurnsSlowly", since=since)


def test_workers_that_crash_call(watched: System, prometheus: Prometheus) -> None:
    """Workers that are started again and again are not well."""
    since = time.time()
    restarts = "headrace_reader_worker_restarts_total"
    for _ in range(5):
        before = first_reader(watched, restarts)
        nursery = find(watched, "nursery_main", "reader-0")[0]
        for worker in descendants(nursery):
            send(worker, signal.SIGKILL)
        wait_for(partial(has_grown, watched, restarts, before))
    prometheus.wait_for_alerts("WorkersCrash", since=since)


def test_litestream_that_stands_still_calls(watched: System, prometheus: Prometheus) -> None:
    """What is committed does not come into the object store, and an upload does not end."""
    since = time.time()
    with stopped(*find(watched, "litestream", "replicate")):
        answer = watched.post(b"id\n1\n", "late.csv", headers={"Prefer": "respond-async"})
        assert answer.json()["code"] == "replication-down"
        prometheus.wait_for_alerts("ReplicationBehind", "UploadStuck", since=since)


def test_litestream_that_ends_calls(watched: System, prometheus: Prometheus) -> None:
    """It is started again with pauses that grow; meanwhile nothing is replicated."""
    since = time.time()

    def kill() -> bool:
        for pid in find(watched, "litestream", "replicate"):
            send(pid, signal.SIGKILL)
        return "HeadraceLitestreamDown" in prometheus.alerts(since)

    wait_for(kill, timeout_s=60)


def test_store_that_fails_calls(watched: System, prometheus: Prometheus, folder: Path) -> None:
    """The primary cannot renew its lease, and readers do not know what is new."""
    since = time.time()
    wait_for(lambda: watched.post(b"id\n2\n", "late.csv").status_code == 201, timeout_s=60)
    (folder / "view").unlink()
    (folder / "view").touch()
    try:
        prometheus.wait_for_alerts(
            "StoreErrors", "LeaseNotRenewed", "NoPrimary", "ReaderStale", since=since
        )
    finally:
        (folder / "view").unlink()
        (folder / "view").symlink_to(folder / "store")
    wait_for(lambda: watched.post(b"id\n3\n", "late.csv").status_code == 201, timeout_s=60)


def test_primary_and_reader_that_do_not_answer_call(
    watched: System, prometheus: Prometheus
) -> None:
    """Who cannot be scraped is down."""
    prometheus.wait_for_scrapes()
    since = time.time()
    with stopped(*find(watched, "headrace ingest"), *find(watched, "headrace serve", "reader-1")):
        prometheus.wait_for_alerts("NodeDown", "NoPrimary", since=since)
        assert len(prometheus.ask("up == 0")) == 2


def find(system: System, *parts: str) -> list[int]:
    """Find the processes of a system whose commands have some parts."""
    pids = descendants(system.process.pid)
    return [pid for pid in pids if all(part in command_of(pid) for part in parts)]


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Have some processes stand still while the block runs."""
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            send(pid, signal.SIGCONT)


def first_reader(system: System, name: str) -> float:
    """Read a metric of the first reader."""
    return find_sample(httpx.get(nodes(system)[1]).text, name) or 0.0


def has_grown(system: System, name: str, before: float) -> bool:
    """Say whether a metric of the first reader is more than before."""
    return first_reader(system, name) > before
