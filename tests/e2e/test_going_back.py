"""Earlier generations: listed, compared, written as files, and published again."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from headrace.keys import lineage_key, parse_ltx_key
from headrace.store import Store
from tests.e2e.conftest import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from tests.e2e.conftest import System
    from tests.integration.s3_kit import S3


@pytest.fixture(scope="module", params=["folder", "s3"])
def history(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """Give a system with some generations, on each kind of store: see the names of the receipts."""
    data = tmp_path_factory.mktemp("history") / "data"
    flags: tuple[str, ...] = ()
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "s3":
            server: S3 = request.getfixturevalue("s3")
            server.give_credentials(patch)
            flags = ("--store", server.url(server.make_bucket()))
        with running(data, *flags, "--workers", "1") as system:
            yield system


def where(system: System) -> tuple[str, str]:
    """Give the flag by which a command finds the store."""
    if system.flags[0] == "--store":
        return ("--store", system.flags[1])
    return ("--data", str(system.data))


def invoke(
    system: System, *words: str, token: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command of headrace on the system's data, by its token if no other is given."""
    return subprocess.run(
        [sys.executable, "-m", "headrace", *words],
        env={**os.environ, "HEADRACE_TOKEN": system.token if token is None else token},
        capture_output=True,
        text=True,
        check=False,
    )


def command(system: System, *words: str, code: int = 0) -> str:
    """Run a command of headrace on the system's data; give what it prints."""
    done = invoke(system, *words)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def rollback(system: System, number: int, **options: Any) -> httpx.Response:
    """Go back to a generation."""
    return system.client.post(
        f"/ingest/generations/{number}/rollback", params=options, headers=system.auth
    )


def test_rollback_publishes_what_was_there(history: System) -> None:
    """Tables that changed, were added and were deleted since are as they were; one generation."""
    history.upload(b"n\n1\n", "sales.csv")
    old = history.upload(b"t\nx\n", "weather.csv")
    history.upload(b"n\n2\n", "sales.csv", mode="append")
    history.upload(b"z\n1\n", "later.csv")
    history.client.delete("/ingest/databases/weather", headers=history.auth)

    answer = rollback(history, old["generation"])

    assert answer.status_code == 200, answer.text
    number = answer.json()["generation"]
    assert number == old["generation"] + 4
    history.wait_until_live({"generation": number})
    assert [row["n"] for row in history.rows("/sales/sales")] == [1]
    assert history.rows("/weather/weather")[0]["t"] == "x"
    assert history.client.get("/later").status_code == 404
    more = history.upload(b"n\n3\n", "sales.csv", mode="append")
    history.wait_until_live(more)
    assert [row["n"] for row in history.rows("/sales/sales")] == [1, 3]


def test_state_that_is_not_kept_comes_back_as_the_nearest_before_and_is_named(
    history: System, tmp_path: Path
) -> None:
    """Nobody takes another state for the one that was asked for: answer and commands say which."""
    first = history.upload(b"n\n1\n", "gap.csv")
    second = history.upload(b"n\n2\n", "gap.csv", mode="append")
    rollback(history, first["generation"], database="gap")  # nobody writes to the old lineage now
    asyncio.run(forget(history, second))

    answer = rollback(history, second["generation"], database="gap").json()

    assert answer["nearest"] == {"gap": first["txid"]}
    history.wait_until_live(answer)
    assert [row["n"] for row in history.rows("/gap/gap")] == [1]
    words = (str(second["generation"]), "--database", "gap", "--to")
    said = command(history, "rollback", *words, history.url)
    assert f"but gap as of TXID {first['txid']}: the nearest before it that is kept" in said
    said = command(history, "restore", *words, str(tmp_path), *where(history))
    assert f"TXID {first['txid']} (the nearest that is kept to {second['txid']})" in said


async def forget(system: System, receipt: dict[str, Any]) -> None:
    """Delete from the store what holds the transaction of an upload, as pruning would."""
    flag, place = where(system)
    store = Store(place if flag == "--store" else str(system.data / "store"))
    txid = int(receipt["txid"], 16)
    lineage = lineage_key(receipt["database"], receipt["lineage"])
    for each in [each async for each in store.list_objects(lineage, stall_s=30)]:
        parsed = parse_ltx_key(each.key)
        if parsed is not None and parsed[1] <= txid <= parsed[2]:
            await store.delete(each.key)


def test_rollback_of_one_database_leaves_the_others(history: System) -> None:
    """Only the one that is named goes back."""
    old = history.upload(b"n\n1\n", "one.csv")
    history.upload(b"n\n5\n", "one.csv")
    newer = history.upload(b"n\n9\n", "two.csv")

    number = rollback(history, old["generation"], database="one").json()["generation"]

    assert number == newer["generation"] + 1
    history.wait_until_live({"generation": number})
    assert history.rows("/one/one")[0]["n"] == 1
    assert history.rows("/two/two")[0]["n"] == 9


def test_rollback_to_what_is_there_publishes_nothing(history: System) -> None:
    """Nothing differs, so there is nothing to publish."""
    newest = history.upload(b"n\n1\n", "same.csv")
    answer = rollback(history, newest["generation"])
    assert answer.json()["generation"] == newest["generation"]


@pytest.mark.parametrize(
    ("number", "options", "status"),
    [("999999", {}, 404), ("x", {}, 400), ("1", {"database": "nobody"}, 404)],
)
def test_rollback_to_what_is_not_kept_is_refused(
    history: System, number: str, options: dict[str, str], status: int
) -> None:
    """A generation or database that is not there is named."""
    history.upload(b"n\n1\n", "refused.csv")
    answer = history.client.post(
        f"/ingest/generations/{number}/rollback", params=options, headers=history.auth
    )
    assert answer.status_code == status
    assert answer.json()["code"] in {"not-found", "invalid-option"}


def test_rollback_without_a_token_is_refused(history: System) -> None:
    """Going back is a write."""
    assert history.client.post("/ingest/generations/1/rollback").status_code == 401


def test_generations_are_listed_newest_first(history: System) -> None:
    """People find the generation that they look for by its time, cause and databases."""
    newest = history.upload(b"n\n1\n", "listed.csv")
    entries = history.client.get("/ingest/generations", headers=history.auth).json()
    first = entries["generations"][0]
    assert first["generation"] == newest["generation"]
    assert first["cause"]["kind"] == "ingest"
    assert first["cause"]["receipt"] == newest["id"]
    assert list(first["databases"]) == ["listed"]

    lines = command(history, "generations", *where(history)).splitlines()
    assert lines[0].split() == ["generation", "at", "why", "changed", "size"]
    assert lines[1].split()[0] == str(newest["generation"])
    assert re.search(r" listed +\d+\.\d kB$", lines[1])
    assert newest["id"] in lines[1]


def test_list_that_is_cut_off_says_so(history: System) -> None:
    """Nobody takes the twentieth for the first that there ever was."""
    history.upload(b"n\n1\n", "cut.csv")
    history.upload(b"n\n2\n", "cut.csv")
    done = invoke(history, "generations", "--limit", "1", *where(history))
    assert len(done.stdout.splitlines()) == 2
    assert "there are older ones than these 1: --limit" in done.stderr
    assert invoke(history, "generations", "--limit", "1000", *where(history)).stderr == ""


def test_diff_names_the_tables_that_changed(history: System) -> None:
    """Rows before and after, tables that are new or gone, and those with other values."""
    before = history.upload(b"n\n1\n", "counted.csv")
    history.upload(b"n\n1\n2\n", "counted.csv", database="counted", table="more")
    history.upload(b"n\n7\n", "values.csv")
    middle = history.upload(b"n\n1\n2\n3\n", "counted.csv")
    after = history.upload(b"n\n8\n", "values.csv")
    data = where(history)

    words = [str(before["generation"]), str(middle["generation"])]
    lines = [line.split() for line in command(history, "diff", *words, *data).splitlines()[1:]]
    assert ["counted", "counted", "1", "3", "+2"] in lines
    assert ["counted", "more", "-", "2", "new"] in lines
    words = [str(middle["generation"]), str(after["generation"])]
    head, *lines = [line.split() for line in command(history, "diff", *words, *data).splitlines()]
    assert head[-1] == "change"
    assert lines == [["values", "values", "1", "1", "other", "values"]]


def test_restore_writes_a_generation_as_files(history: System, tmp_path: Path) -> None:
    """The databases of a generation are SQLite files again, straight from the store."""
    old = history.upload(b"n\n1\n", "filed.csv")
    history.upload(b"n\n2\n", "filed.csv")
    words = ["restore", str(old["generation"]), *where(history)]

    command(history, *words, "--to", str(tmp_path), "--database", "filed")

    with closing(sqlite3.connect(tmp_path / "filed.db")) as db:
        assert db.execute("SELECT n FROM filed").fetchall() == [(1,)]
    again = command(history, *words, "--to", str(tmp_path), "--database", "filed", code=1)
    assert "in the way" in again


def test_rollback_command_goes_back(history: System, tmp_path: Path) -> None:
    """The command does what the request does, says so, and waits for the regions if asked to."""
    old = history.upload(b"n\n1\n", "command.csv")
    history.wait_until_live(history.upload(b"n\n2\n", "command.csv"))
    (tmp_path / "token").write_text(history.token)

    words = ["rollback", str(old["generation"]), "--database", "command", "--to", history.url]
    flags = ["--wait", "regions", "--token-file", str(tmp_path / "token")]
    done = invoke(history, *words, *flags, token="wrong")  # noqa: S106 - none

    assert (done.returncode, done.stderr) == (0, "")
    assert history.rows("/command/command")[0]["n"] == 1
    assert f"holds what {old['generation']} held" in done.stdout
    refused = command(history, "rollback", "999999", "--to", history.url, code=1)
    assert "there is no generation 999999" in refused
