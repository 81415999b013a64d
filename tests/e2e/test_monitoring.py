"""What people on call see of the running system: its metrics, dashboards and alerts."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import threading
import time
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from headrace import __version__
from headrace.exposition import MOST_DATABASES
from tests.conftest import wait_for
from tests.e2e.conftest import System
from tests.e2e.prometheus_kit import DEPLOY, Prometheus, Stranger, scraping
from tests.faults.processes import command_of, descendants, parent_of, send
from tests.integration.slots_kit import flip
from tests.samples import find_sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.metrics_core import Metric

READERS = 2
READER = ("--workers", "1", "--request-timeout", "3")
CROWD = ("--worker-concurrency", "4", "--queue-length", "4")  # few are too many
ASKERS = 12
ASK_S = 0.05  # between two requests of each
HASTY = ("--lease-duration", "3", "--lease-renewal", "0.5")  # seconds
LOOKS = ("--incoming-interval", "1")  # seconds
DEAR = ("--store-prices", "0,0,1000")  # dollars; only for what is read
BOARDS = sorted((DEPLOY.parent / "grafana").glob("*.json"))
# What Grafana puts into queries.
VALUES = {
    "$__rate_interval": "10s",
    "$__range": "1m",
    "$region": ".+",
    "$database": "sales",
}
DOCS = Path(__file__).parents[2] / "docs"
NOTHING = " or on () vector(0)"  # of panels of faults, for while there is none
# What use() did: as the primary says it, and as each reader does, which is read twice.
DONE = {
    'ended_uploads_total{format="csv",outcome="published"}': 3,
    'ended_uploads_total{format="json",outcome="published"}': 1,
    'ended_uploads_total{format="csv",outcome="refused"}': 1,
    'ended_uploads_total{format="unknown",outcome="failed"}': 1,
    'uploads_total{state="received"}': 6,
    'uploads_total{state="published"}': 4,
    'uploads_total{state="failed"}': 2,
    'refusals_total{code="invalid-file",step="convert"}': 1,
    'refusals_total{code="internal-error",step="detect"}': 1,
    'denied_total{code="unauthorized"}': 1,
    'denied_total{code="forbidden"}': 0,
    "received_bytes_total": 70,
    "uploads_in_flight": 0,
    'step_seconds_count{step="convert"}': 4,
    'step_seconds_count{step="publish"}': 4,
    'row_batches_total{outcome="published"}': 1,
    'row_requests_total{outcome="published"}': 1,
    'rows_total{outcome="published"}': 1,
    "row_batch_requests_count": 1,
    "row_batch_seconds_count": 1,
    "generation": 5,
    "databases": 2,
    "followers": READERS,
    "reader_generation": 5,
    'database_rows{database="sales"}': 2,
    'database_rows{database="events"}': 1,
    'database_tables{database="sales"}': 1,
    'database_uploads_total{database="sales",outcome="published"}': 3,
    'database_uploads_total{database="events",outcome="published"}': 1,
    "lease_held": 1,
    "lease_epoch": 1,
}
READ = {
    "generation": 5,
    "newest_generation": 5,
    "live_seconds_count": 5,
    "lag_seconds": 0,
    "push_connected": 1,
    "workers": 1,
    "workers_wanted": 1,
    "worker_restarts_total": 0,
    "proof_failures_total": 0,
    'requests_total{code="200",kind="datasette"}': 8,
    'requests_total{code="404",kind="datasette"}': 2,
    'request_seconds_count{kind="datasette"}': 10,
    'database_requests_total{database="sales"}': 6,
    'cache_requests_total{result="miss"}': 4,
    'cache_requests_total{result="hit"}': 6,
    "cache_entries": 4,
}
# What is said by a standby in good health; and by a node as it must not be.
STANDBY = f"""\
headrace_build_info{{version="{__version__}",node="ingest"}} 1
headrace_ingest_lease_held 0
headrace_ingest_verifications_total{{outcome="differs"}} 0
headrace_store_seconds_total{{client="headrace",operation="get"}} 0
headrace_store_requests_total{{client="headrace",operation="get"}} 0
"""
STRANGE = """\
headrace_build_info{version="0.0.0",node="ingest"} 1
headrace_ingest_lease_held 1
headrace_ingest_verifications_total{outcome="differs"} 1
headrace_store_seconds_total{client="headrace",operation="get"} 20
headrace_store_requests_total{client="headrace",operation="get"} 10
"""
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
# Of labels that are not a list of words: what else their values must be.
OPEN_LABELS = {
    "code": r"[a-z-]+|[1-5][0-9][0-9]",
    "database": r"[a-z0-9_]+",
    "format": r"[a-z0-9_-]+",
    "le": r"[0-9.]+|\+Inf",
    "place": r"file:///.+/(incoming|dropped)",
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
def system(folder: Path) -> System:
    """Give a system with two readers, on a store that can be taken away; it does not run yet."""
    (folder / "store").mkdir()
    (folder / "view").symlink_to(folder / "store")
    (folder / "dropped").mkdir()
    places = ("--store", str(folder / "view"), "--watch", str(folder / "dropped"))
    flags = (*places, *READER, *CROWD, *HASTY, *LOOKS, *DEAR)
    return System(folder / "data", *flags, readers=READERS)


@pytest.fixture(scope="module")
def stranger() -> Stranger:
    """Give a target that is no node, and says that it is a standby."""
    return Stranger(STANDBY)


@pytest.fixture(scope="module")
def prometheus(system: System, folder: Path, stranger: Stranger) -> Iterator[Prometheus]:
    """Give a Prometheus that watches the system, which is started meanwhile."""
    with stranger.listening() as port, scraping(system, folder, port) as prometheus:
        try:
            system.start()
            prometheus.begin()
            yield prometheus
        finally:
            system.stop()
            system.client.close()


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
    rows = {"rows": [{"id": 7, "name": "Eve"}]}
    inserted = system.client.post("/sales/sales/-/insert", json=rows, headers=system.auth)
    assert inserted.status_code == 201, inserted.text
    for reader in range(READERS):
        system.wait_until_live({"generation": 4}, reader=reader)
    system.upload(b'[{"id": 1}]', "events.json", wait_for="regions")
    assert system.post(b"a,b\n1\n2,3,4\n", "broken.csv").status_code == 422
    assert system.client.post("/ingest", content=b"a\n1\n").status_code == 401
    with instead_of(system.data / "primary" / "staging"):
        assert system.post(b"id\n1\n", "unlucky.csv").status_code == 500
    read(system)


@contextmanager
def instead_of(folder: Path) -> Iterator[None]:
    """Have a file in the place of a folder while the block runs."""
    away = folder.rename(folder.with_name(f"{folder.name}-away"))
    folder.touch()
    try:
        yield
    finally:
        folder.unlink()
        away.rename(folder)


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


def test_what_is_shown_is_what_was_done(watched: System) -> None:
    """Whoever counts what was done comes to what the metrics say.

    It is the first test: what the others do is not in it.
    """
    primary, *readers = [httpx.get(url).text for url in nodes(watched)]
    assert values(primary, "headrace_ingest_", DONE) == DONE
    size = 'headrace_ingest_database_bytes{database="%s"}'
    sales, events = (find_sample(primary, size % name) or 0 for name in ("sales", "events"))
    for reader in readers:
        assert values(reader, "headrace_reader_", READ) == READ
        restored = find_sample(reader, "headrace_reader_restored_bytes_total")
        assert restored == 4 * sales + events
        fetched = find_sample(reader, "headrace_reader_fetched_bytes_total")
        of_store = 'client="headrace",operation="get"'
        assert fetched
        assert fetched == find_sample(
            reader, f"headrace_store_transferred_bytes_total{{{of_store}}}"
        )
        cost = find_sample(
            reader, 'headrace_store_cost_dollars_total{charge="egress",client="headrace"}'
        )
        assert cost == pytest.approx(fetched * 1000 / 1e9)


def values(text: str, prefix: str, samples: Iterable[str]) -> dict[str, float | None]:
    """Give the values of samples whose names begin with a prefix."""
    return {sample: find_sample(text, prefix + sample) for sample in samples}


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


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
def test_every_panel_shows_something(prometheus: Prometheus, board: Path) -> None:
    """The running system has an answer to each question of each dashboard."""
    for query in queries(board):
        wait_for(partial(prometheus.has_shown, query))


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
def test_everything_can_be_chosen(prometheus: Prometheus, board: Path) -> None:
    """What can be chosen above a dashboard is every region, and every database."""
    variables = json.loads(board.read_text())["templating"]["list"]
    for variable in (each for each in variables if each["type"] == "query"):
        asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"])
        assert asked
        wait_for(partial(has_values, prometheus, asked[1], asked[2]))


def queries(board: Path) -> list[str]:
    """Give what the panels of a dashboard ask."""
    panels = json.loads(board.read_text())["panels"]
    found = [target["expr"] for each in panels for target in each.get("targets", ())]
    for name, value in VALUES.items():
        found = [query.replace(name, value) for query in found]
    assert not any("$" in query for query in found)
    return found


def has_values(prometheus: Prometheus, metric: str, label: str) -> bool:
    """Say whether a label has each value that it can have here."""
    every = {"region": {"a", "b"}, "database": {"sales", "events"}}
    return prometheus.label_values(metric, label) == every[label]


def test_no_alert_fires_while_all_is_well(watched: System, prometheus: Prometheus) -> None:
    """Nobody is called for a system that is used, some of whose uploads are refused."""
    prometheus.wait_for_scrapes()
    assert prometheus.ask("count(up == 1)")[0]["value"][1] == str(2 + READERS)
    assert len(prometheus.ask("region:headrace_uploads_late:ratio_rate5m")) == READERS
    assert prometheus.alerts() == set()


# What follows breaks things, one after another.


def test_reader_that_stands_still_calls(watched: System, prometheus: Prometheus) -> None:
    """Its workers answer nobody, and nothing new comes into service: budgets are at stake.

    Meanwhile more ask than may wait: the others are turned away.
    """
    since = time.time()
    with stopped(*find(watched, "nursery_main", "reader-1")):
        for number in range(3):
            watched.upload(b"id,name\n%d,Bob\n" % number, "sales.csv")
        with crowd(f"http://127.0.0.1:{watched.port + 1}/sales/sales"):
            prometheus.wait_for_alerts("NearLimit", "RequestsShed", since=since)
        prometheus.wait_for_alerts(
            "ReaderBehind", "ReadsBudgetBurnsFast", "ReadsBudgetBurnsSlowly", since=since
        )
    prometheus.wait_for_alerts("FreshBudgetBurnsFast", "FreshBudgetBurnsSlowly", since=since)


def test_workers_that_crash_call(watched: System, prometheus: Prometheus) -> None:
    """Workers that are started again and again are not well."""
    since = time.time()
    restarts = "headrace_reader_worker_restarts_total"
    for _ in range(5):
        before = first_reader(watched, restarts)
        family = find(watched, "nursery_main", "reader-0")
        for worker in (pid for pid in family if parent_of(pid) in family):
            send(worker, signal.SIGKILL)
        wait_for(partial(has_grown, watched, restarts, before))
    prometheus.wait_for_alerts("WorkersCrash", since=since)


def test_nodes_without_their_folders_and_a_strange_one_call(
    watched: System, prometheus: Prometheus, folder: Path, stranger: Stranger
) -> None:
    """The primary converts nothing, and does not see what others drop; a reader makes no copy.

    What was read of the store before was dear. And there is a second node that takes itself for the
    primary, is of another version, damaged, and far from the store. It is no node, but says what
    one would say: two never hold the lease of one store, there is one version here, a folder is
    never slow, and the first look at a database comes after minutes. That one that differs is
    counted, tests/integration/test_verify.py shows.
    """
    since = time.time()
    watched.upload(noise(), "noise.csv", wait_for="regions")
    stranger.lines = STRANGE
    with instead_of(watched.data / "reader-1" / "slots"), instead_of(folder / "dropped"):
        watched.upload(b"id,name\n1,Bob\n", "sales.csv")
        with instead_of(watched.data / "primary" / "staging"):
            for _ in range(4):
                assert watched.post(b"id\n1\n", "unlucky.csv").status_code == 500
        prometheus.wait_for_alerts("StoreCost", "UploadsFail", "DroppedFilesNotTaken", since=since)
    prometheus.wait_for_alerts(
        "TwoPrimaries", "VersionsDiffer", "ReplicaDiffers", "StoreSlow", since=since
    )
    stranger.lines = STANDBY


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
    """Who cannot be scraped is down; and who is started again looks at what it has."""
    since = time.time()
    reader = find(watched, "headrace serve", "reader-1")
    with stopped(*find(watched, "headrace ingest"), *reader):
        down = 'ALERTS{alertname="HeadraceNodeDown",alertstate="firing"}'
        wait_for(lambda: len(prometheus.ask(down)) == 2, timeout_s=60)
        for slot in (watched.data / "reader-1" / "slots").glob("*/*.db"):
            slot.write_bytes(flip(slot.read_bytes(), -1))
        for pid in reader:
            send(pid, signal.SIGKILL)
    prometheus.wait_for_alerts("CopiesNotProven", since=since)


@pytest.mark.usefixtures("watched")
def test_every_alert_was_seen(prometheus: Prometheus) -> None:
    """The faults of the tests above are all that there are alerts for."""
    texts = [path.read_text() for path in (DEPLOY / "rules").iterdir()]
    rules = [
        rule
        for text in texts
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
    ]
    assert prometheus.alerts() == {rule["alert"] for rule in rules if "alert" in rule}


@pytest.mark.usefixtures("watched")
def test_panels_of_faults_have_shown_them(prometheus: Prometheus) -> None:
    """What is 0 on a dashboard while all is well was something else when there was a fault."""
    of_faults = [query for board in BOARDS for query in queries(board) if NOTHING in query]
    assert of_faults
    for query in of_faults:
        wait_for(partial(prometheus.has_shown, query.removesuffix(NOTHING)))


@contextmanager
def crowd(url: str) -> Iterator[None]:
    """Have many ask for pages of rows, each for others, while the block runs."""
    numbers, done = count(), threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=30) as client:
            while not done.wait(ASK_S):
                client.get(f"{url}/{next(numbers)}")

    askers = [threading.Thread(target=ask) for _ in range(ASKERS)]
    for asker in askers:
        asker.start()
    try:
        yield
    finally:
        done.set()
        for asker in askers:
            asker.join()


def noise() -> bytes:
    """Give a table that cannot be packed: readers fetch some megabytes for it."""
    rng = random.Random(1)
    return b"noise\n" + b"".join(rng.randbytes(500).hex().encode() + b"\n" for _ in range(4000))


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
