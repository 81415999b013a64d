"""What people on call see of the running system: its metrics, dashboards and alerts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from headrace.exposition import MOST_DATABASES
from tests.e2e.conftest import System, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

READERS = 2
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
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give a system with two readers that was used in every way once."""
    data = tmp_path_factory.mktemp("watched") / "data"
    with running(data, "--workers", "1", readers=READERS) as system:
        use(system)
        yield system


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
