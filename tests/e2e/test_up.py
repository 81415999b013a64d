"""`headrace up`: starting, stopping, being killed, and its parts."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace.sockets import socket_folder
from serve.worker_process import read_memory_bytes
from tests.conftest import wait_for
from tests.datasette_line import query_path
from tests.e2e.conftest import System, running
from tests.samples import find_sample

THREE_READERS_AT_MOST_BYTES = 450_000_000  # 350 are used; 500 are promised, with two workers each


def test_up_says_where_it_is_and_where_the_token_lies(system: System) -> None:
    """The output ends with the address, after the place of the token, which only we can read."""
    token = system.data / "token"
    assert system.output[-2:] == [f"token: in {token}", f"ready: {system.url}"]
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


def test_token_of_the_environment_wins(tmp_path: Path) -> None:
    """HEADRACE_TOKEN is the token, and no file is made."""
    with running(tmp_path / "data", HEADRACE_TOKEN="secret-of-mine") as system:  # noqa: S106
        system.upload(b"a\n1\n", "a.csv")
        assert not (tmp_path / "data" / "token").exists()
        assert system.output[-2] == "token: in HEADRACE_TOKEN"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_by_signal_is_orderly(tmp_path: Path, number: signal.Signals) -> None:
    """SIGTERM and SIGINT end with exit code 0, no process or socket left, and the data kept."""
    system = System(tmp_path / "data").start()
    receipt = system.upload(b"a\n1\n", "kept.csv")
    sockets = [socket_folder(system.data / node) for node in ("primary", "reader-0")]
    assert all(any(folder.iterdir()) for folder in sockets)
    assert system.stop(number) == 0
    assert system.processes() == []
    assert not any(folder.exists() for folder in sockets)
    system.start()
    try:
        system.wait_until_live(receipt)
        assert system.rows("/kept/kept")[0]["a"] == 1
        kept = system.client.get(f"/ingest/receipts/{receipt['id']}").json()
        assert {**kept, "live": {}} == {**receipt, "live": {}}
    finally:
        system.stop()
        system.client.close()


def test_kill_9_of_up_leaves_no_process_and_loses_nothing(tmp_path: Path) -> None:
    """After kill -9 of everything's parent, a new start on the same ports serves the same data."""
    system = System(tmp_path / "data").start()
    receipts = [system.upload(b"n\n%d\n" % n, f"file{n}.csv") for n in range(3)]
    os.kill(system.process.pid, signal.SIGKILL)
    system.stop()
    system.start()
    try:
        for n, receipt in enumerate(receipts):
            system.wait_until_live(receipt)
            assert system.rows(f"/file{n}/file{n}")[0]["n"] == n
        system.upload(b"n\n9\n", "file0.csv")
    finally:
        system.stop()
        system.client.close()


def test_kill_9_with_uploads_on_their_way_finishes_them_once(tmp_path: Path) -> None:
    """What was received before a kill -9 is published after it, and never twice."""
    system = System(tmp_path / "data").start()
    system.upload(b"n\n-1\n", "log.csv")
    answers = [
        system.post(
            b"n\n" + b"%d\n" % n * 20_000,
            "log.csv",
            mode="append",
            headers={"Prefer": "respond-async"},
        )
        for n in range(4)
    ]
    os.kill(system.process.pid, signal.SIGKILL)
    system.stop()
    system.start()
    try:
        paths = [answer.headers["Location"] for answer in answers]
        receipts = [wait_for(partial(_published, system, path)) for path in paths]
        system.wait_until_live(max(receipts, key=lambda receipt: int(str(receipt["generation"]))))
        query = "select n, count(*) as rows from log group by n"
        params = {"sql": query, "_shape": "array"}
        counted = system.client.get(query_path("log"), params=params).json()
        expected = [{"n": -1, "rows": 1}, *({"n": n, "rows": 20_000} for n in range(4))]
        assert counted == expected
    finally:
        system.stop()
        system.client.close()


def _published(system: System, path: str) -> dict[str, Any] | None:
    receipt: dict[str, Any] = system.client.get(path).json()
    state = receipt.get("state")  # none while ingest is away and no reader has it
    assert state != "failed", receipt
    return receipt if state == "published" else None


def test_second_up_on_the_same_folder_is_refused(system: System) -> None:
    """Two of them on one folder would both write: the second says so and ends."""
    command = [sys.executable, "-m", "headrace", "up", "--data", str(system.data)]
    second = subprocess.run(
        [*command, "--port", str(system.port)], capture_output=True, text=True, check=False
    )
    assert second.returncode == 1
    assert "cannot" in second.stderr


def test_bad_setting_is_named() -> None:
    """A setting that does not fit is named, with its flag and its variable."""
    command = [sys.executable, "-m", "headrace", "up", "--readers", "none"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "--readers" in ended.stderr
    assert "HEADRACE_READERS" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_three_readers_all_show_an_upload(tmp_path: Path) -> None:
    """Each reader follows by itself; wait_for=regions answers when all of them show it."""
    with running(tmp_path / "data", "--workers", "1", readers=3) as system:
        receipt = system.upload(b"a\n7\n", "all.csv", wait_for="regions")
        assert sorted(receipt["live"]) == ["a", "b", "c"]
        for reader in range(3):
            system.wait_until_live(receipt, reader=reader)
            assert system.rows("/all/all", reader=reader)[0]["a"] == 7
        regions = [
            httpx.get(f"http://127.0.0.1:{system.port + n}/-/headrace.json").json()["region"]
            for n in range(3)
        ]
        assert regions == ["a", "b", "c"]


def test_three_readers_need_little_memory(tmp_path: Path) -> None:
    """All processes together stay below what is promised of a laptop (docs: performance).

    As root: the kernel shows nobody else what a reader's process holds.
    """
    with running(tmp_path / "data", "--workers", "1", readers=3) as system:
        system.upload(b"a\n7\n", "all.csv", wait_for="regions")
        sizes = [read_memory_bytes(pid) or 0 for pid in system.processes()]
    assert sum(sizes) < THREE_READERS_AT_MOST_BYTES


def test_metrics_of_each_node_are_on_their_own_port(system: System) -> None:
    """Prometheus finds uploads and generations of ingest, and the reader's own."""
    receipt = system.upload(b"a\n1\n", "measured.csv")
    system.wait_until_live(receipt)
    ingest = httpx.get(f"http://127.0.0.1:{system.port + 200}/metrics").text
    reader = httpx.get(f"http://127.0.0.1:{system.port + 201}/metrics").text
    assert _sample(ingest, 'headrace_ingest_uploads_total{state="published"}') >= 1
    assert _sample(ingest, "headrace_ingest_generation") >= receipt["generation"]
    assert _sample(ingest, "headrace_litestream_up") == 1
    assert _sample(ingest, 'headrace_ingest_step_seconds_count{step="replicate"}') >= 1
    assert _sample(reader, "headrace_reader_generation") >= receipt["generation"]
    assert _sample(reader, "headrace_reader_switches_total") >= 1


def test_killed_litestream_is_restarted_and_uploads_go_on(system: System) -> None:
    """While Litestream is down uploads wait, or are taken by the reader; then all is as before."""
    metrics = f"http://127.0.0.1:{system.port + 200}/metrics"
    restarts = "headrace_litestream_restarts_total"
    before = _sample(httpx.get(metrics).text, restarts)
    for pid in system.processes():
        if _command_of(pid).endswith("litestream"):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: _sample(httpx.get(metrics).text, restarts) > before)
    response = wait_for(
        lambda: next((r for r in [system.post(b"a\n3\n", "after.csv")] if r.is_success), None)
    )
    path = f"/ingest/receipts/{response.json()['id']}"
    system.wait_until_live(wait_for(lambda: _published(system, path), timeout_s=60))
    assert system.rows("/after/after")[0]["a"] == 3


def test_killed_parts_are_restarted_and_uploads_go_on(system: System) -> None:
    """Ingest and a reader that were killed are there again, and what was uploaded with them."""
    system.upload(b"a\n1\n", "parts.csv")
    for part in ("ingest", "serve"):
        system.kill(part)
        response = wait_for(
            lambda: next((r for r in _tries(system, b"a\n2\n") if r.is_success), None)
        )
    path = f"/ingest/receipts/{response.json()['id']}"
    system.wait_until_live(wait_for(lambda: _published(system, path), timeout_s=60))
    assert [row["a"] for row in system.rows("/parts/parts")] == [1, 2]


def _tries(system: System, body: bytes) -> list[httpx.Response]:
    """Append a file, once however often it is tried; nothing while there is nobody to take it."""
    headers = {"Idempotency-Key": "parts"}
    try:
        return [system.post(body, "parts.csv", mode="append", headers=headers)]
    except httpx.TransportError:
        return []


def _command_of(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/exe").readlink())
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _sample(text: str, name: str) -> float:
    found = find_sample(text, name)
    assert found is not None, f"no {name}"
    return found
