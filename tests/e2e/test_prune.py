"""What nobody needs any more is deleted from the store; what can be brought back is not."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import httpx
import pytest

from headrace.history import restore_files
from headrace.log import GenerationLog
from headrace.store import Store
from tests.conftest import wait_for
from tests.e2e.primary_kit import TOKEN, Primary, primaries

if TYPE_CHECKING:
    from pathlib import Path

AUTH = {"Authorization": f"Bearer {TOKEN}"}
AT_ONCE = ("--generation-retention", "1e-6", "--upload-retention", "1e-6")  # a tenth of a second


def listed(store: str, prefix: str) -> set[str]:
    """List the keys under a prefix."""
    found = asyncio.run(Store(store).list_sizes(prefix, stall_s=30))
    return {f"{prefix}/{name}" for name in found}


def rollback(primary: Primary, generation: int) -> httpx.Response:
    """Go back to a generation."""
    url = f"{primary.url}/ingest/generations/{generation}/rollback"
    return httpx.post(url, headers=AUTH, timeout=60)


def delete(primary: Primary, database: str) -> None:
    """Delete a database."""
    url = f"{primary.url}/ingest/databases/{database}"
    assert httpx.delete(url, headers=AUTH, timeout=60).status_code == 200


def restored(store: str, folder: Path) -> dict[str, Path]:
    """Restore the newest generation from the store alone, proven by its checksums."""

    async def restore() -> dict[str, Path]:
        objects = Store(store)
        state = await GenerationLog(objects).read_newest()
        found = {}
        async for name, txid in restore_files(objects, state, folder, None):
            assert txid == state.databases[name].txid
            found[name] = folder / f"{name}.db"
        return found

    folder.mkdir()
    return asyncio.run(restore())


def sqlite_file(folder: Path, rows: int) -> bytes:
    """Make a SQLite file: each upload of one begins a new lineage."""
    path = folder / f"{secrets.token_hex(4)}.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE n (i)")
        db.executemany("INSERT INTO n VALUES (?)", [(each,) for each in range(rows)])
        db.commit()
    return path.read_bytes()


def test_deleted_database_comes_back_within_the_retention_and_is_pruned_after_it(
    tmp_path: Path, store: str
) -> None:
    """A prune within the retention leaves all; one after it leaves what is live, and says what."""
    primary = Primary(tmp_path, "first", store=store).start().wait_until_up()
    with primaries(primary):
        live = primary.upload(b"n\n1\n", "live.csv")
        gone = primary.upload(b"n\n1\n", "gone.csv")
        delete(primary, "gone")
        assert primary.prune()["pruned"] == []
        assert rollback(primary, gone["generation"]).status_code == 200
        assert primary.upload(b"n\n2\n", "gone.csv", mode="append")["tables"][0]["unchanged"] == 1
        delete(primary, "gone")
        assert primary.stop() == 0

        # It prunes by itself at its start.
        primary.flags = AT_ONCE
        time.sleep(2.5)  # the retention, by the store's clock, which has whole seconds
        primary.start().wait_until_up()
        wait_for(
            lambda: not listed(store, "dbs/gone") and not listed(store, f"uploads/{gone['id']}")
        )

        later = primary.upload(b"n\n1\n", "later.csv")
        delete(primary, "later")
        lineage = f"dbs/later/{later['lineage']}"
        plan = wait_for(
            lambda: (
                (found := primary.prune(dry_run=True))["bytes"]
                and lineage in {each["name"] for each in found["pruned"]}
                and found
            )
        )
        assert plan["dry_run"]
        assert listed(store, lineage)
        # Of what is live only files that its newer ones hold as well, if it had the time for such.
        assert all(
            each["kind"] == "ltx" for each in plan["pruned"] if each["name"].startswith("dbs/live/")
        )
        done = primary.prune()
        names = {each["name"] for each in done["pruned"]}
        assert names >= {each["name"] for each in plan["pruned"]}
        assert not listed(store, "dbs/later")
        assert primary.metric("headrace_ingest_pruned_bytes_total") > 0

        back = rollback(primary, gone["generation"])
        assert (back.status_code, back.json()["code"]) == (404, "not-found")
        assert "--generation-retention" in back.json()["hint"]
        again = primary.reprocess(gone["id"])
        assert (again.status_code, again.json()["code"]) == (410, "bytes-gone")
        more = primary.upload(b"n\n2\n", "live.csv", mode="append")
        assert more["lineage"] == live["lineage"]
        with closing(sqlite3.connect(restored(store, tmp_path / "files")["live"])) as db:
            assert db.execute("SELECT n FROM live").fetchall() == [(1,), (2,)]
        assert primary.stop() == 0


@pytest.mark.parametrize("store", ["folder"], indirect=True)  # in S3 the same, but slower
def test_uploads_and_rollbacks_during_prunes_lose_nothing(tmp_path: Path, store: str) -> None:
    """New lineages are published all the while; each upload and what is live is whole."""
    primary = Primary(tmp_path, "first", *AT_ONCE, store=store).start().wait_until_up()
    with primaries(primary):
        ended = threading.Event()
        pruned: list[str] = []

        def prune_on() -> None:
            while not ended.is_set():
                pruned.extend(each["name"] for each in primary.prune()["pruned"])

        pruning = threading.Thread(target=prune_on)
        pruning.start()
        try:
            for rows in range(1, 7):
                body = sqlite_file(tmp_path, rows)
                receipt = primary.upload(body, "sales.db")
                if rows % 2 == 0:  # what is not kept any more is refused, or all there
                    answer = rollback(primary, receipt["generation"] - 1)
                    assert answer.status_code in {200, 404}, answer.text
            wait_for(lambda: any(name.startswith("dbs/sales/") for name in pruned))
        finally:
            ended.set()
            pruning.join()
        last = primary.upload(sqlite_file(tmp_path, 20), "sales.db")
        files = restored(store, tmp_path / "files")
        with closing(sqlite3.connect(files["sales"])) as db:
            assert db.execute("SELECT count(*) FROM n").fetchone() == (20,)
        assert f"dbs/sales/{last['lineage']}" not in pruned
        assert primary.stop() == 0


def test_dry_run_has_to_be_said_in_a_known_way(tmp_path: Path) -> None:
    """Pruning takes the token, and what is not understood deletes nothing."""
    primary = Primary(tmp_path, "first").start().wait_until_up()
    with primaries(primary):
        url = f"{primary.url}/ingest/prune"
        assert httpx.post(url).status_code == 401
        answer = httpx.post(url, params={"dry_run": "yes"}, headers=AUTH)
        assert answer.json()["code"] == "invalid-option"
