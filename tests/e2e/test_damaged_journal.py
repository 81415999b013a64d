"""A journal that is damaged on the volume: its replica is gone on with; nothing is lost (I1)."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from headrace.store import Store
from tests.e2e.primary_kit import Primary, primaries

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGE = 4096  # bytes


def zero_a_page(journal: Path, receipt: str) -> None:
    """Lose the page that holds a receipt."""
    body = journal.read_bytes()
    start = body.index(receipt.encode()) // PAGE * PAGE
    journal.write_bytes(body[:start] + bytes(PAGE) + body[start + PAGE :])


def cut_short(journal: Path, _receipt: str) -> None:
    """Lose the last half."""
    body = journal.read_bytes()
    journal.write_bytes(body[: len(body) // 2])


def remove(journal: Path, _receipt: str) -> None:
    """Lose all of it."""
    journal.unlink()


def make_past(primary: Primary) -> tuple[list[dict[str, Any]], str]:
    """Upload some files, and lose the machine while one is on its way.

    Returns:
        The receipts, and the id of the one that was accepted.
    """
    receipts = [primary.upload(b"n\n%d\n" % each, "sales.csv", mode="append") for each in range(3)]
    bad = [primary.post(b"a,b\n1\n", f"bad{each}.csv").json()["instance"] for each in range(6)]
    receipts += [primary.receipt(each.rpartition("/")[2]) for each in bad]
    lines = b"".join(b"%d\n" % number for number in range(100_000))
    accepted = primary.post(b"n\n" + lines, "sales.csv", mode="append", prefer="wait=0")
    assert accepted.status_code == 202
    primary.kill()
    return receipts, accepted.json()["id"]


def find_journal(primary: Primary) -> Path:
    """Give the journal of the volume, with all of it in the one file."""
    (journal,) = (primary.data / "dbs" / "_headrace").glob("?" * 16)
    with closing(sqlite3.connect(journal)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return journal


@pytest.fixture
def primary(tmp_path: Path, store: str) -> Primary:
    """Give a primary that was not started."""
    return Primary(tmp_path, "first", store=store)


def end_of(primary: Primary) -> tuple[int, str]:
    """Start it where it must end by itself; give its exit code and what it said."""
    primary.start(stderr=subprocess.PIPE)
    _output, said = primary.process.communicate(timeout=60)
    return primary.process.returncode, said.decode()


@pytest.mark.parametrize(
    ("store", "damage"),
    [("folder", zero_a_page), ("folder", cut_short), ("s3", zero_a_page)],
    indirect=["store"],
)
def test_damaged_journal_is_restored_from_its_replica(
    primary: Primary, damage: Callable[[Path, str], None], tmp_path: Path
) -> None:
    """Every receipt is as it was, what was accepted is finished, once; and it is said."""
    with primaries(primary.start().wait_until_up()):
        receipts, accepted = make_past(primary)
        damage(find_journal(primary), receipts[0]["id"])

        with (tmp_path / "said").open("wb") as log:
            primary.start(stderr=log.fileno()).wait_until_up()

        said = (tmp_path / "said").read_text()
        assert "journal of the volume not used" in said
        assert "journal restored" in said

        for receipt in receipts:
            found = primary.receipt(receipt["id"])
            assert found == {**receipt, "live": found["live"]}
        last = primary.wait_until_published(accepted)
        assert (last["tables"][0]["added"], last["tables"][0]["unchanged"]) == (100_000, 3)
        more = primary.upload(b"n\n9\n", "sales.csv", mode="append")
        assert more["tables"][0]["unchanged"] == 100_003
        assert primary.stop() == 0


@pytest.mark.parametrize("store", ["folder"], indirect=True)
def test_journal_that_is_lost_in_both_places_stops_the_start(primary: Primary) -> None:
    """It says so and changes nothing; once the replica is back it goes on, with every receipt."""
    with primaries(primary.start().wait_until_up()):
        receipts, accepted = make_past(primary)
        zero_a_page(find_journal(primary), receipts[0]["id"])
        objects = Store(primary.store)
        keys = asyncio.run(objects.list_sizes("dbs/_headrace", stall_s=30))
        files = {f"dbs/_headrace/{name}" for name in keys}
        bodies = {key: asyncio.run(objects.read(key)) for key in files}
        asyncio.run(replace_all(objects, {key: body[:-1] for key, body in bodies.items()}))
        before = asyncio.run(objects.list_sizes("generations", stall_s=30))

        code, said = end_of(primary)

        assert code == 1
        assert "cannot go on without the journal: cannot restore the journal" in said
        assert "--new-journal on" in said
        assert asyncio.run(objects.list_sizes("generations", stall_s=30)) == before

        asyncio.run(replace_all(objects, bodies))
        primary.start().wait_until_up()
        primary.wait_until_published(accepted)
        assert primary.receipt(receipts[0]["id"])["state"] == "published"
        assert primary.stop() == 0


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_new_journal_is_begun_only_where_it_is_asked_for(primary: Primary) -> None:
    """Without receipts, every published row is there all the same, and uploads go on."""
    with primaries(primary.start().wait_until_up()):
        receipts, _accepted = make_past(primary)
        remove(find_journal(primary), "")
        asyncio.run(Store(primary.store).delete_all("dbs/_headrace", stall_s=30))
        assert end_of(primary)[0] == 1

        primary.flags = ("--new-journal", "on")
        primary.start().wait_until_up()

        more = primary.upload(b"n\n9\n", "sales.csv", mode="append")
        assert more["tables"][0]["unchanged"] in {3, 100_003}
        with pytest.raises(AssertionError, match="no such receipt"):
            primary.receipt(receipts[0]["id"])
        assert primary.stop() == 0
        primary.flags = ()
        primary.start().wait_until_up()
        assert primary.receipt(more["id"])["state"] == "published"
        assert primary.stop() == 0


async def replace_all(store: Store, bodies: dict[str, bytes]) -> None:
    """Write some objects."""
    for key, body in bodies.items():
        await store.replace(key, body)
