"""Merges and deletions that a stop came between: what the journal and the database say together."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.conftest import wait_for
from tests.e2e.conftest import System
from tests.e2e.primary_kit import Primary, primaries

COUNTS = {"name": "people", "rows": 2, "added": 1, "changed": 0, "removed": 0, "unchanged": 1}


def rewind(system: System, receipt: dict[str, Any], state: str, **members: Any) -> None:
    """Make the journal say that an upload had only come so far."""
    (journal,) = system.data.glob("primary/dbs/_headrace/????????????????")
    document = {**receipt, "state": state, **members}
    for name in ("live", "progress"):  # the answer's own
        document.pop(name, None)
    with closing(sqlite3.connect(journal)) as db:
        db.execute(
            "UPDATE receipts SET state = ?, receipt = ? WHERE id = ?",
            (state, json.dumps(document), receipt["id"]),
        )
        db.commit()


def test_merge_before_a_crash_is_not_done_again_and_keeps_its_counts(tmp_path: Path) -> None:
    """An upload that was merged and not published is published, with what it did and said."""
    system = System(tmp_path / "data").start()
    try:
        system.upload(b"id,name\n1,Ada\n", "people.csv")
        receipt = system.upload(b"id,name\n1,Ada\n2,Grace\n", "people.csv")
        system.stop()
        tables = [{"name": "people", "rows": 2}]
        said = {"metadata": {"title": "People"}, "generation": None, "published_at": None}
        rewind(system, receipt, "merging", tables=tables, **said)
        system.start()
        path = f"/ingest/receipts/{receipt['id']}"
        wait_for(lambda: system.client.get(path).json()["state"] == "published")
        assert system.client.get(path).json()["tables"] == [COUNTS]
        path = "/ingest/databases/people/metadata"
        shown = system.client.get(path, headers=system.auth).json()
        assert shown["metadata"] == {"title": "People"}
    finally:
        system.stop()
        system.client.close()


def test_upload_that_is_not_archived_survives_a_crash_and_says_where_it_is(tmp_path: Path) -> None:
    """A 202 of a primary with `--archive off` is good for its volume alone, and says so."""
    node = Primary(tmp_path, "node", "--archive", "off").start().wait_until_up()
    with primaries(node):
        lines = b"".join(b"%d\n" % number for number in range(500_000))
        accepted = node.post(b"n\n" + lines, "n.csv", prefer="wait=0")
        assert accepted.status_code == 202
        receipt = accepted.json()
        assert receipt["archive"] is None
        (warning,) = receipt["warnings"]
        assert "--archive off" in warning

        node.kill()
        node.start().wait_until_up()

        receipt = node.wait_until_published(receipt["id"])
        assert receipt["warnings"] == []
        assert receipt["tables"][0]["rows"] == 500_000
        assert not (tmp_path / "store" / "uploads").exists()
        node.stop()


def test_identical_file_is_published_if_the_last_merge_was_not(tmp_path: Path) -> None:
    """A merge whose publication failed is in no generation: the same file again is published."""
    system = System(tmp_path / "data").start()
    try:
        body = b"id,name\n1,Ada\n"
        first = system.upload(body, "people.csv")
        system.stop()
        rewind(system, first, "failed")
        system.start()
        second = system.upload(body, "people.csv")
        assert second["generation"] == first["generation"] + 1
        assert second["tables"][0]["unchanged"] == 1
        third = system.upload(body, "people.csv")
        assert third["generation"] == second["generation"]
    finally:
        system.stop()
        system.client.close()


def test_databases_beside_a_journal_that_was_lost_are_made_anew(tmp_path: Path) -> None:
    """A journal that was restored may not know of a merge: so the volume's own is not gone on with.

    Else an upload that was merged, and that such a journal says is still to be, would be in twice.
    """
    node = Primary(tmp_path, "node").start().wait_until_up()
    with primaries(node):
        receipt = node.upload(b"n\n1\n", "sales.csv")
        node.kill()
        (journal,) = node.data.glob("dbs/_headrace/????????????????")
        journal.unlink()
        with closing(sqlite3.connect(node.data / "dbs" / "sales" / receipt["lineage"])) as db:
            db.execute("INSERT INTO sales VALUES (2)")  # as of a merge that was not published
            db.commit()

        node.start().wait_until_up()
        last = node.upload(b"n\n2\n", "sales.csv", mode="append")

        assert node.receipt(receipt["id"])["state"] == "published"
        assert (last["tables"][0]["added"], last["tables"][0]["unchanged"]) == (1, 1)
        node.stop()


def test_table_whose_deletion_a_crash_came_between_is_gone_for_readers(tmp_path: Path) -> None:
    """I7: it is dropped and not replicated when the primary dies, and readers go on after it."""
    system = System(tmp_path / "data").start()
    try:
        receipts = [system.upload(b"n\n1\n", name, database="d") for name in ("a.csv", "b.csv")]
        system.wait_until_live(receipts[-1])
        live = system.data / "primary" / "dbs" / "d" / receipts[-1]["lineage"]
        (litestream,) = (
            pid
            for pid in system.processes()
            if b"replicate" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        )
        os.kill(litestream, signal.SIGSTOP)
        with ThreadPoolExecutor(1) as executor:
            path = "/ingest/databases/d/a"
            deleting = executor.submit(system.client.delete, path, headers=system.auth)
            wait_for(lambda: tables_of(live) == {"b"})
            system.kill("ingest")
            assert deleting.result().status_code == 503
        wait_for(lambda: system.client.get("/d/a.json").status_code == 404, timeout_s=40)

        system.wait_until_live(system.upload(b"n\n2\n", "c.csv", database="d"))

        assert system.rows("/d/b") == [{"rowid": 1, "n": 1}]
        assert system.rows("/d/c") == [{"rowid": 1, "n": 2}]
    finally:
        system.stop()
        system.client.close()


def tables_of(database: Path) -> set[str]:
    """Read which tables a live database has."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        names = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    return {name for (name,) in names if not name.startswith("_")}
