"""A real Prometheus that scrapes a system of the tests, with the rules of deploy/prometheus."""

from __future__ import annotations

import math
import re
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import yaml

from headrace.leash import leashed
from tests.conftest import wait_for
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import System

DEPLOY = Path(__file__).parents[2] / "deploy" / "prometheus"
SCRAPE_S = 2  # between two scrapes, and for each: the machine may be busy
LOOK_S = 1  # between two looks at the rules
# What stands for minutes and more in the rules, so that a test need not wait as long.
HASTE = {
    r"^( +)for: .*$": r"\1for: 3s",
    r"> (60|4500)$": "> 8",  # seconds; a reader at rest hears of the primary every 5
}


class Stranger:
    """A target that is no node: what it says of itself is what a test has it say.

    Attributes:
        lines: What is scraped.
    """

    def __init__(self, lines: str) -> None:
        self.lines = lines

    @contextmanager
    def listening(self) -> Iterator[int]:
        """Answer while the block runs; give the port."""
        stranger = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(stranger.lines.encode())

            def log_message(self, *_args: object) -> None:
                """Say nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
            answering = threading.Thread(target=server.serve_forever)
            answering.start()
            try:
                yield server.server_port
            finally:
                server.shutdown()
                answering.join()


class Prometheus:
    """What Prometheus knows.

    Attributes:
        began: Since when it watches.
    """

    def __init__(self, port: int, nodes: int) -> None:
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30)
        self.began = time.time()
        self._nodes = nodes

    def close(self) -> None:
        """Let go of its connections."""
        self._client.close()

    def is_ready(self) -> bool:
        """Say whether it answers."""
        try:
            return self._client.get("/query", params={"query": "1"}).is_success
        except httpx.TransportError:
            return False

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Give the samples of a query, as they are now; those that are no number are left out."""
        found = self._get("/query", query=query)["result"]
        return [each for each in found if not math.isnan(float(each["value"][1]))]

    def has_shown(self, query: str) -> bool:
        """Say whether a query gave any number, at any time so far."""
        times = {"start": self.began, "end": time.time(), "step": LOOK_S}
        found = self._get("/query_range", query=query, **times)["result"]
        return any(not math.isnan(float(value)) for each in found for _, value in each["values"])

    def alerts(self, since: float | None = None) -> set[str]:
        """Name the alerts that have fired since a time, or ever."""
        passed_s = max(int(time.time() - (since or self.began)), 1)
        fired = f'max_over_time(ALERTS{{alertstate="firing"}}[{passed_s}s])'
        query = f"max by (alertname, limit) ({fired})"
        # How full the disk and the memory are of the machine that the tests run on is its own.
        of_machine = {"disk", "memory"}
        return {
            each["metric"]["alertname"]
            for each in self.ask(query)
            if each["metric"].get("limit") not in of_machine
        }

    def wait_for_alerts(self, *names: str, since: float) -> None:
        """Wait until alerts have fired since a time; their names begin with the project's."""
        wanted = {f"Headrace{name}" for name in names}
        wait_for(lambda: self.alerts(since) >= wanted, timeout_s=60)

    def begin(self) -> None:
        """Forget what was before the system ran, which has to by now."""
        self.wait_for_scrapes()  # it takes some seconds until it has found its targets
        wait_for(lambda: not self.ask('ALERTS{alertstate="firing"}'))  # of that time
        self.began = time.time()

    def wait_for_scrapes(self) -> None:
        """Wait until all nodes were scraped twice more: so the rules have looked at it once."""
        began = time.time()
        query = f"count(timestamp(up) > {began + SCRAPE_S}) == {self._nodes}"
        wait_for(lambda: self.ask(query))

    def label_values(self, metric: str, label: str) -> set[str]:
        """Give the values that a label of a metric has had so far."""
        found = self._get(
            f"/label/{label}/values",
            **{"match[]": metric, "start": self.began, "end": time.time()},
        )
        return set(found)

    def exemplars(self, query: str) -> list[dict[str, str]]:
        """Give the labels of a query's exemplars."""
        found = self._get("/query_exemplars", query=query, start=self.began, end=time.time())
        return [exemplar["labels"] for each in found for exemplar in each["exemplars"]]

    def _get(self, path: str, **params: Any) -> Any:
        answer = self._client.get(path, params=params)
        document = answer.json()
        assert document["status"] == "success", document
        return document["data"]


@contextmanager
def scraping(system: System, folder: Path, stranger: int) -> Iterator[Prometheus]:
    """Scrape a system, which need not run yet, while the block runs.

    Args:
        system: What is scraped.
        folder: Of Prometheus.
        stranger: Port of one more target, beside the primary.
    """
    port = free_ports([0])
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            leashed(
                "prometheus",
                f"--config.file={_configuration(system, folder, stranger)}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--enable-feature=exemplar-storage",
                "--log.level=warn",
            ),
            stderr=log,
        )
    prometheus = Prometheus(port, 2 + system.readers)
    try:
        wait_for(prometheus.is_ready)
        yield prometheus
    finally:
        prometheus.close()
        process.kill()
        process.wait()


def _configuration(system: System, folder: Path, stranger: int) -> Path:
    """Write that of a server without containers, for this system, with rules that hurry."""
    document = yaml.safe_load((DEPLOY / "prometheus.systemd.yml").read_text())
    document["global"] = {
        "scrape_interval": f"{SCRAPE_S}s",
        "scrape_timeout": f"{SCRAPE_S}s",
        "evaluation_interval": f"{LOOK_S}s",
    }
    ingest, readers = document["scrape_configs"]
    metrics = system.port + 200
    ingest["static_configs"] = [{"targets": [f"127.0.0.1:{metrics}", f"127.0.0.1:{stranger}"]}]
    targets = [f"127.0.0.1:{metrics + 1 + number}" for number in range(system.readers)]
    readers["static_configs"] = [{"targets": targets}]
    (folder / "rules").mkdir()
    for path in (DEPLOY / "rules").iterdir():
        text = path.read_text()
        for pattern, hasty in HASTE.items():
            text = re.sub(pattern, hasty, text, flags=re.MULTILINE)
        (folder / "rules" / path.name).write_text(text)
    written = folder / "prometheus.yml"
    written.write_text(yaml.safe_dump(document))
    return written
