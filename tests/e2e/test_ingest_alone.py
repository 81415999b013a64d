"""`headrace ingest` without the rest."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

from headrace.generation import State
from headrace.keys import checkpoint_key, generation_key
from headrace.log import GenerationLog
from headrace.store import Store
from tests.conftest import wait_for
from tests.integration.fault_proxy import FaultProxy, creating_twice
from tests.ports import free_ports
from tests.unit.test_generation import make_entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

    from tests.integration.s3_kit import S3

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


def test_ingest_bounds_what_an_address_tries_before_it_knows_who_it_is(tmp_path: Path) -> None:
    """Uploads without a token and tokens that are guessed end in 429, for that address alone."""
    tries = {
        "/ingest?filename=a.csv": 401,
        "/ingest/session": 401,
        "/ingest/session/end": 200,
    }
    with ingest(tmp_path / "data", "--address-rate", "6") as url, httpx.Client() as client:

        def send(path: str, address: str) -> httpx.Response:
            headers = {"X-Forwarded-For": address}
            return client.post(url + path, data={"token": "guessed"}, headers=headers)

        for number, (path, status) in enumerate(tries.items()):
            answers = [send(path, f"192.0.2.{number}")]
            while answers[-1].status_code == status and len(answers) < 100:
                answers.append(send(path, f"192.0.2.{number}"))
            assert len(answers) > 6
            assert answers[-1].json()["code"] == "too-many-requests"
            assert 1 <= int(answers[-1].headers["Retry-After"]) <= 10
            assert send(path, f"198.51.100.{number}").status_code == status


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


def test_ingest_prunes_the_log_and_goes_on(tmp_path: Path) -> None:
    """A primary that starts on a long log deletes what is older than the retention."""
    asyncio.run(_make_old_log(tmp_path / "data" / "store"))
    with ingest(tmp_path / "data", "--log-retention", "9") as url:
        wait_for(lambda: httpx.get(f"{url}/-/healthz").is_success)
        port = int(url.rpartition(":")[2])
        pruned = 'headrace_ingest_pruned_total{kind="entry"} 100.0'
        wait_for(lambda: pruned in httpx.get(f"http://127.0.0.1:{port + 1}/metrics").text)
        left = sorted((tmp_path / "data" / "store" / "generations").glob("0*.json"))
        assert [int(path.stem) for path in left] == list(range(101, 161))
        _upload(url, 1)
        assert httpx.get(f"{url}/-/healthz").json()["generation"] == 161
    with ingest(tmp_path / "data") as url:
        assert httpx.get(f"{url}/-/healthz").json()["generation"] == 161


async def test_ingest_refuses_a_store_that_creates_what_is_there(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a second create succeeds two primaries would both publish: nothing is begun there."""
    s3.give_credentials(monkeypatch)
    bucket, proxy = s3.make_bucket(), FaultProxy(s3.port)
    async with proxy.listening() as port:
        with proxy.broken("", creating_twice):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "headrace", "ingest", "--data", str(tmp_path)),
                *("--store", s3.url(bucket, port=port), "--port", "0", "--metrics-port", "0"),
                stderr=asyncio.subprocess.PIPE,
            )
            _, said = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 1
    assert b"cannot use the store: it lets an object be created that is there already" in said
    assert b"choose a store with conditional writes" in said
    assert await Store(s3.url(bucket)).list_sizes("", stall_s=30) == {}


async def _make_old_log(folder: Path) -> None:
    """Publish 160 generations without databases; all but the last ten are ten days old."""
    log, state = GenerationLog(Store(str(folder))), State()
    for number in range(1, 161):
        state = await log.publish(state, make_entry(number, databases={}))
    at_s = time.time() - 10 * 24 * 3600
    for number in range(1, 150):
        for key in (generation_key(number), checkpoint_key(number)):
            if (folder / key).exists():
                os.utime(folder / key, (at_s, at_s))


def _upload(url: str, number: int) -> None:
    body = b"n\n%d\n" % number
    response = httpx.post(f"{url}/ingest?filename=n.csv", content=body, headers=HEADERS)
    assert response.status_code == 201, response.text
