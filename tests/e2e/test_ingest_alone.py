"""`headrace ingest` without the rest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

from tests.conftest import free_ports, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEADERS = {"Authorization": "Bearer of-tests"}


@contextmanager
def ingest(data: Path, *flags: str) -> Iterator[str]:
    """Run `headrace ingest` while the block runs; gives its URL."""
    port = free_ports([0, 1])
    command = [sys.executable, "-m", "headrace", "ingest", "--data", str(data), *flags]
    command += ["--port", str(port), "--metrics-port", str(port + 1)]
    env = {**os.environ, "HEADRACE_TOKEN": "of-tests"}
    process = subprocess.Popen(command, env=env)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: _answers(url))
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def _answers(url: str) -> bool:
    try:
        httpx.get(f"{url}/-/healthz")
    except httpx.TransportError:
        return False
    return True


def test_ingest_without_litestream_refuses_uploads(tmp_path: Path) -> None:
    """While Litestream is down nothing could be kept, so an upload gets a 503 that says so."""
    config = tmp_path / "broken.yml"
    config.write_text("dbs: [{path: 1, dir: 2}]\n")
    with ingest(tmp_path / "data", "--litestream-config", str(config)) as url:
        response = httpx.post(f"{url}/ingest?filename=a.csv", content=b"a\n1\n", headers=HEADERS)
        assert response.status_code == 503
        assert response.json()["code"] == "replication-down"
        assert response.headers["Retry-After"]
        assert httpx.get(f"{url}/-/healthz").status_code == 503


def test_ingest_streams_generations_as_they_are_published(tmp_path: Path) -> None:
    """A follower gets the entries it lacks, then each new one at once."""
    with ingest(tmp_path / "data") as url:
        wait_for(lambda: httpx.get(f"{url}/-/healthz").is_success)
        for number in (1, 2):
            _upload(url, number)
        with httpx.stream("GET", f"{url}/-/generations?after=1", timeout=20) as stream:
            lines = (line for line in stream.iter_lines() if line)
            assert '"generation":2' in next(lines)
            _upload(url, 3)
            assert '"generation":3' in next(lines)


def _upload(url: str, number: int) -> None:
    body = b"n\n%d\n" % number
    response = httpx.post(f"{url}/ingest?filename=n.csv", content=body, headers=HEADERS)
    assert response.status_code == 201, response.text
