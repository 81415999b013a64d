"""A primary that is gone: its successor goes on with all that was acknowledged (I1, I5)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import deque
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from headrace.keys import JOURNAL_DATABASE
from tests.conftest import wait_for
from tests.e2e.primary_kit import Primary, primaries
from tests.faults.processes import command_of, descendants
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def reader(tmp_path: Path, store: str) -> Iterator[str]:
    """Run a reader of the store, which has no primary; give its URL."""
    port = free_ports([0, 1])
    command = [sys.executable, "-m", "headrace", "serve", "--data", str(tmp_path / "reader")]
    command += ["--store", store, "--port", str(port), "--workers", "1"]
    command += ["--metrics-port", str(port + 1), "--primary", "http://127.0.0.1:9"]
    command += ["--shutdown-grace", "0"]
    process = subprocess.Popen(command)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def rows(reader: str, path: str) -> list[dict[str, Any]]:
    """Read a table; none while the reader does not show it."""
    try:
        answer = httpx.get(f"{reader}{path}.json?_shape=array&_size=max")
    except httpx.TransportError:
        return []
    return answer.json() if answer.is_success else []


def test_standby_takes_over_with_every_row_and_receipt(
    tmp_path: Path, store: str, reader: str
) -> None:
    """After the loss of a primary and its volume, the standby has all that was acknowledged."""
    first = Primary(tmp_path, "first", store=store).start().wait_until_up()
    second = Primary(tmp_path, "second", "--standby", "on", store=store).start()
    with primaries(first, second):
        old = first.upload(b"n\n1\n", "sales.csv")
        first.upload(b"n\n2\n", "sales.csv", mode="append")
        first.upload(b"t\nx\n", "weather.csv")
        refused = first.post(b"a,b\n1\n", "bad.csv").json()
        assert not second.is_up()

        first.kill()
        shutil.rmtree(first.data)
        second.wait_until_up()

        assert second.receipt(old["id"]) == {**old, "live": second.receipt(old["id"])["live"]}
        assert httpx.get(f"{second.url}{refused['instance']}").json()["state"] == "failed"
        more = second.upload(b"n\n3\n", "sales.csv", mode="append")
        assert more["lineage"] != old["lineage"]
        assert wait_for(lambda: len(rows(reader, "/sales/sales")) == 3)
        assert [row["n"] for row in rows(reader, "/sales/sales")] == [1, 2, 3]
        assert rows(reader, "/weather/weather")[0]["t"] == "x"
        assert second.metric("headrace_ingest_rebuilds_total") == 2
        assert second.stop() == 0


def test_upload_that_was_accepted_is_finished_by_the_successor(tmp_path: Path, store: str) -> None:
    """A 202 survives the loss of the volume: its bytes lie in the store."""
    first = Primary(tmp_path, "first", store=store).start().wait_until_up()
    with primaries(first):
        first.upload(b"n\n1\n", "sales.csv")
        lines = b"".join(b"%d\n" % number for number in range(500_000))
        accepted = first.post(b"n\n" + lines, "sales.csv", mode="append", prefer="wait=0")
        assert accepted.status_code == 202
        first.kill()
        shutil.rmtree(first.data)
    second = Primary(tmp_path, "second", "--standby", "on", store=store).start()
    with primaries(second):
        second.wait_until_up()
        receipt = second.wait_until_published(accepted.json()["id"])
        (table,) = receipt["tables"]
        assert (table["added"], table["unchanged"]) == (500_000, 1)


@pytest.mark.parametrize("store", ["folder"], indirect=True)
def test_primary_that_was_paused_past_its_lease_ends(
    tmp_path: Path, store: str, reader: str
) -> None:
    """Two that believe they are the primary: the older one can publish nothing any more."""
    first = Primary(tmp_path, "first", store=store).start().wait_until_up()
    second = Primary(tmp_path, "second", "--standby", "on", store=store).start()
    with primaries(first, second):
        first.upload(b"n\n1\n", "sales.csv")
        first.process.send_signal(signal.SIGSTOP)
        second.wait_until_up()
        second.upload(b"n\n2\n", "sales.csv", mode="append")

        first.process.send_signal(signal.SIGCONT)

        with pytest.raises((httpx.TransportError, AssertionError)):
            first.upload(b"n\n7\n", "sales.csv", mode="append")
        assert first.process.wait(30) == 1
        second.upload(b"n\n3\n", "sales.csv", mode="append")
        assert wait_for(lambda: len(rows(reader, "/sales/sales")) == 3)

        # It comes back as a standby, and believes nothing of its old volume.
        first = Primary(tmp_path, "first", "--standby", "on", store=store).start()
        second.stop()
        first.wait_until_up()
        first.upload(b"n\n4\n", "sales.csv", mode="append")
        wait_for(lambda: len(rows(reader, "/sales/sales")) == 4)
        assert [row["n"] for row in rows(reader, "/sales/sales")] == [1, 2, 3, 4]
        first.stop()


def test_volume_that_is_older_than_the_store_is_not_believed(tmp_path: Path) -> None:
    """A volume that was brought back from a copy loses no row that was published since."""
    first = Primary(tmp_path, "first").start().wait_until_up()
    with primaries(first):
        first.upload(b"n\n1\n", "sales.csv")
        first.stop()
        shutil.copytree(first.data, tmp_path / "copy")
        first.start().wait_until_up()
        newer = first.upload(b"n\n2\n", "sales.csv", mode="append")
        first.kill()
        shutil.rmtree(first.data)
        (tmp_path / "copy").rename(first.data)

        first.start().wait_until_up()

        assert first.receipt(newer["id"])["state"] == "published"
        last = first.upload(b"n\n3\n", "sales.csv", mode="append")
        assert last["tables"][0]["unchanged"] == 2
        assert first.metric("headrace_ingest_rebuilds_total") == 1
        first.stop()


def test_volume_that_was_copied_waits_for_its_original(tmp_path: Path) -> None:
    """Two primaries of one identity: the copy writes nothing before the original has ended."""
    first = Primary(tmp_path, "first").start().wait_until_up()
    with primaries(first):
        first.upload(b"n\n1\n", "sales.csv")
        first.stop()
        shutil.copytree(first.data, tmp_path / "copy")
        first.start().wait_until_up()
        refused = Primary(tmp_path, "copy").start()
        with primaries(refused):
            assert refused.process.wait(60) == 1
        copy = Primary(tmp_path, "copy", "--standby", "on").start()
        with primaries(copy):
            newer = first.upload(b"n\n2\n", "sales.csv", mode="append")
            assert not copy.is_up()
            first.kill()

            copy.wait_until_up()

            assert copy.receipt(newer["id"])["state"] == "published"
            last = copy.upload(b"n\n3\n", "sales.csv", mode="append")
            assert last["lineage"] != newer["lineage"]
            assert last["tables"][0]["unchanged"] == 2
            copy.stop()


def test_live_database_that_is_damaged_is_made_anew_at_start(tmp_path: Path) -> None:
    """A file that is not what was published is found out before anything is merged into it."""
    first = Primary(tmp_path, "first").start().wait_until_up()
    with primaries(first):
        receipt = first.upload(b"n\n" + b"12345\n" * 20000, "sales.csv")
        first.stop()
        path = first.data / "dbs" / "sales" / receipt["lineage"]
        with path.open("r+b") as file:
            file.seek(50_000)
            byte = file.read(1)
            file.seek(50_000)
            file.write(bytes([byte[0] ^ 1]))

        first.start().wait_until_up()
        last = first.upload(b"n\n3\n", "sales.csv", mode="append")

        assert last["lineage"] != receipt["lineage"]
        assert first.metric("headrace_ingest_rebuilds_total") == 1
        live = first.data / "dbs" / "sales" / last["lineage"]
        with closing(sqlite3.connect(live)) as db:
            assert db.execute("SELECT count(*), sum(n) FROM sales").fetchone() == (
                20001,
                20000 * 12345 + 3,
            )
        first.stop()


def test_database_that_cannot_be_restored_exactly_waits(tmp_path: Path) -> None:
    """A transaction that the store does not give just then is waited for, never left out.

    Others are ready meanwhile, and take uploads; in the end the log says how long it took.
    """
    first = Primary(tmp_path, "first").start().wait_until_up()
    with primaries(first):
        first.upload(b"n\n1\n", "sales.csv")
        newest = first.upload(b"n\n2\n", "sales.csv", mode="append")
        first.upload(b"t\nx\n", "weather.csv")
        first.kill()
        shutil.rmtree(first.data)
    folder = tmp_path / "store" / "dbs" / "sales" / newest["lineage"]
    hidden = {path: path.with_suffix(".hidden") for path in folder.rglob(f"*-{newest['txid']}.ltx")}
    assert hidden
    for path, aside in hidden.items():
        path.rename(aside)
    second = Primary(tmp_path, "second", "--standby", "on").start(stderr=subprocess.PIPE)
    with primaries(second):
        stderr = second.process.stderr
        assert stderr
        lines: deque[bytes] = deque()
        reading = threading.Thread(target=lines.extend, args=(stderr,))
        reading.start()
        second.wait_until_up()
        waiting = second.post(b"n\n3\n", "sales.csv", mode="append", prefer="respond-async")
        ready = second.upload(b"t\ny\n", "weather.csv", mode="append")
        assert ready["tables"][0]["unchanged"] == 1
        wait_for(lambda: _events(lines, "rebuild failed"))
        assert [each["database"] for each in _events(lines, "database revived")] == ["weather"]
        assert second.receipt(waiting.json()["id"])["state"] != "published"

        for path, aside in hidden.items():
            aside.rename(path)

        more = second.wait_until_published(waiting.json()["id"])
        assert more["tables"][0]["unchanged"] == 2
        assert second.stop() == 0
        reading.join()
        stderr.close()
    (rebuilt,) = _events(lines, "databases rebuilt")
    assert rebuilt["count"] == 2
    assert rebuilt["s"] > 0


def _events(lines: deque[bytes], event: str) -> list[dict[str, Any]]:
    """Find what a log says of an event."""
    said = [json.loads(line) for line in lines.copy() if line.startswith(b"{")]
    return [each for each in said if each.get("event") == event]


def test_failure_is_shown_as_soon_as_a_successor_knows_it(tmp_path: Path) -> None:
    """One that did not would finish the upload, which somebody has seen refused (I8)."""
    primary = Primary(tmp_path, "first").start().wait_until_up()
    with primaries(primary):
        ragged = b"a,b\n" + b"1,2\n" * 500_000 + b"3\n"
        accepted = primary.post(ragged, "ragged.csv", prefer="wait=0")
        assert accepted.status_code == 202
        url = f"{primary.url}{accepted.headers['Location']}"
        (litestream,) = [
            pid for pid in descendants(primary.process.pid) if "litestream" in command_of(pid)
        ]
        os.kill(litestream, signal.SIGSTOP)
        try:
            wait_for(lambda: _state_in_journal(primary, accepted.json()["id"]) == "failed")
            with pytest.raises(httpx.ReadTimeout):
                httpx.get(url, timeout=1)
        finally:
            os.kill(litestream, signal.SIGCONT)
        assert httpx.get(url, timeout=30).json()["state"] == "failed"


def _state_in_journal(primary: Primary, receipt_id: str) -> str:
    """Read what the primary has written down of an upload."""
    lineage = next((primary.data / "dbs" / JOURNAL_DATABASE).glob("?" * 16))
    with closing(sqlite3.connect(f"{lineage.as_uri()}?mode=ro", uri=True)) as journal:
        (found,) = journal.execute(
            "SELECT receipt FROM receipts WHERE id = ?", (receipt_id,)
        ).fetchone()
    state: str = json.loads(found)["state"]
    return state
