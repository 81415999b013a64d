"""Datasette's write API end to end: rows through a reader, on all readers, after any crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from headrace.config import INGEST_PORT_OFFSET
from headrace.row_bundles import Asked, decode_answer, encode_bundle
from tests.conftest import wait_for
from tests.e2e.conftest import running
from tests.e2e.primary_kit import QUICK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import System

FLAGS = ("--workers", "1", "--max-write-bytes", "20000", "--max-write-rows", "50")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give one system of two readers for all tests."""
    data = tmp_path_factory.mktemp("system") / "data"
    with running(data, *FLAGS, *QUICK, readers=2) as system:
        yield system


def write(system: System, path: str, body: Any = None, *, reader: int = 1) -> httpx.Response:
    """POST to the write API of a reader."""
    url = f"http://127.0.0.1:{system.port + reader}{path}"
    return system.client.post(url, json=body, headers=system.auth)


def read(system: System, path: str, answer: httpx.Response, *, reader: int = 0) -> Any:
    """Read a table on a reader that shows what an answer is about."""
    url = f"http://127.0.0.1:{system.port + reader}{path}.json"
    wanted = {"Headrace-Min-Generation": answer.headers["Headrace-Generation"]}
    found = httpx.get(url, params={"_shape": "array", "_size": "max"}, headers=wanted)
    assert found.status_code == 200, found.text
    return found.json()


def test_rows_written_through_one_reader_are_read_on_another(system: System) -> None:
    """Create, insert, upsert, update and delete go in at one reader and come out at another."""
    columns = [{"name": "id", "type": "integer"}, {"name": "name"}]
    made = write(system, "/zoo/-/create", {"table": "dogs", "columns": columns, "pk": "id"})
    assert made.status_code == 201, made.text
    assert made.json()["table_url"] == f"http://127.0.0.1:{system.port + 1}/zoo/dogs"
    rows = [{"id": 1, "name": "Cleo"}, {"id": 2, "name": "Pancakes"}, {"id": 3, "name": "Suna"}]
    assert write(system, "/zoo/dogs/-/insert", {"rows": rows}).json() == {"ok": True}
    write(system, "/zoo/dogs/-/upsert", {"rows": [{"id": 2, "name": "Pan"}]})
    changed = write(system, "/zoo/dogs/3/-/update", {"update": {"name": "Sun"}, "return": True})
    assert changed.json() == {"ok": True, "rows": [{"id": 3, "name": "Sun"}]}
    gone = write(system, "/zoo/dogs/1/-/delete")
    assert gone.json() == {"ok": True}
    assert read(system, "/zoo/dogs", gone) == [{"id": 2, "name": "Pan"}, {"id": 3, "name": "Sun"}]


def test_answer_names_the_receipt_and_makes_browsers_wait(system: System) -> None:
    """The receipt of the batch says what it did; the cookie lets who wrote read what he wrote."""
    answer = write(system, "/-/insert/zoo/cats?pk=id", [{"id": 1, "name": "Tom"}])
    assert answer.json() == {"table_count": 1}
    generation = int(answer.headers["Headrace-Generation"])
    assert answer.cookies["headrace_min_generation"] == str(generation)
    receipt = system.client.get(f"/ingest/receipts/{answer.headers['Headrace-Receipt']}").json()
    assert (receipt["state"], receipt["format"], receipt["mode"]) == ("published", "rows", "write")
    assert receipt["generation"] == generation
    (table,) = receipt["tables"]
    assert (table["name"], table["rows"], table["added"]) == ("cats", 1, 1)


def test_requests_at_once_share_generations_and_fail_alone(system: System) -> None:
    """Of 200 rows sent at once each is there, with far fewer generations; the one twice is not."""
    first = write(system, "/many/-/create", {"table": "t", "rows": [{"id": 0}], "pk": "id"})
    before = int(first.headers["Headrace-Generation"])
    with ThreadPoolExecutor(32) as executor:
        answers = list(
            executor.map(
                lambda n: write(system, "/many/t/-/insert", {"row": {"id": n}}), range(200)
            )
        )
    assert [each.status_code for each in answers] == [400, *[201] * 199]
    assert answers[0].json()["errors"] == ["UNIQUE constraint failed: t.id"]
    newest = max(answers, key=lambda each: int(each.headers["Headrace-Generation"]))
    assert int(newest.headers["Headrace-Generation"]) - before < 100
    assert sorted(row["id"] for row in read(system, "/many/t", newest)) == list(range(200))


def test_bad_requests_are_refused_in_datasettes_form(system: System) -> None:
    """No right, no such database, too many rows, too large: each has Datasette's members."""
    url = f"{system.url}/zoo/dogs/-/insert"
    denied = httpx.post(url, json={"row": {}}, headers={"Authorization": "Bearer wrong"})
    assert (denied.status_code, denied.json()["errors"]) == (403, ["Permission denied"])
    assert denied.json()["hint"].startswith("the token is not known: is it whole, ")
    lost = write(system, "/nowhere/t/-/insert", {"row": {}})
    assert (lost.status_code, lost.json()["errors"]) == (404, ["Database not found"])
    many = write(system, "/zoo/dogs/-/insert", {"rows": [{"name": "x"}] * 51})
    assert many.json()["errors"] == ["Too many rows, maximum allowed is 50"]
    large = write(system, "/zoo/dogs/-/insert", {"row": {"name": "x" * 20_000}})
    assert large.status_code == 413
    assert large.json()["ok"] is False
    hidden = write(system, "/zoo/_headrace_merges/-/insert", {"row": {"receipt": "x"}})
    assert hidden.status_code == 404


def test_token_writes_rows_of_its_database_alone_and_the_audit_log_says_so(system: System) -> None:
    """Another database is refused in Datasette's words; what is written is logged."""
    body = {"name": "zoo", "scopes": "ingest:zoo"}
    made = system.client.post("/ingest/tokens", json=body, headers=system.auth).json()
    auth = {"Authorization": f"Bearer {made['token']}"}

    def send(path: str) -> httpx.Response:
        return system.client.post(path, json={"row": {"id": 7, "name": "Kiki"}}, headers=auth)

    for database in ("many", "nowhere"):
        denied = send(f"/{database}/t/-/insert")
        assert (denied.status_code, denied.json()["errors"]) == (403, ["Permission denied"])
    sent = send("/-/insert/zoo/owls?pk=id")
    assert sent.status_code == 200, sent.text

    rows = system.client.get("/ingest/audit", headers=system.auth).json()["audit"]
    mine = {
        (row["what"], row["database"], row["receipt"], row["outcome"])
        for row in rows
        if row["who"] == f"token:{made['id']}"
    }
    receipt = sent.headers["Headrace-Receipt"]
    assert ("insert-rows", "zoo", receipt, "published") in mine
    assert {(what, outcome) for what, *_, outcome in mine} == {
        ("insert-rows", "published"),
        ("insert-rows", "forbidden"),
    }


def test_each_of_a_bundle_is_judged_by_itself(system: System) -> None:
    """What readers send in one request has a token, an answer, and a line in the audit log each."""
    body = {"name": "bundled", "scopes": "ingest:zoo"}
    made = system.client.post("/ingest/tokens", json=body, headers=system.auth).json()
    mine = [("Authorization", f"Bearer {made['token']}")]
    row = b'{"row": {"id": 8, "name": "Rex"}}'

    def ask(path: str, headers: list[tuple[str, str]], body: bytes = row) -> Asked:
        return Asked(target=path, headers=headers, body=body)

    write(system, "/-/insert/zoo/hawks?pk=id", [{"id": 1, "name": "Milan"}])
    bundle = [
        ask("/zoo/hawks/-/insert", mine),
        ask("/zoo/hawks/-/insert", mine),  # the same key
        ask("/zoo/hawks/-/insert", []),
        ask("/many/t/-/insert", mine),
        ask("/zoo/hawks/-/insert", mine, b"{"),
        ask("/zoo/hawks/-/insert", mine, b" " * 20_001),
        ask("/-/upsert/zoo/hawks?pk=id", mine, b'[{"id": 9, "name": "Habicht"}]'),
        ask("/ingest/tokens", [*system.auth.items()]),  # no write of rows
    ]
    primary = f"http://127.0.0.1:{system.port + INGEST_PORT_OFFSET}"
    answer = httpx.post(f"{primary}/-/rows", content=encode_bundle(bundle))
    lines = answer.content.splitlines()
    found = dict(map(decode_answer, lines))

    assert [found[number].status for number in range(len(bundle))] == [
        *(201, 400, 403, 403, 400, 413, 200, 404),
    ]
    assert len(lines) == len(bundle)
    assert {dict(each.headers)["Headrace-Generation"].isdigit() for each in found.values()} == {
        True
    }
    assert json.loads(found[1].body)["errors"] == ["UNIQUE constraint failed: hawks.id"]
    receipt = dict(found[0].headers)["Headrace-Receipt"]
    rows = system.client.get("/ingest/audit", headers=system.auth).json()["audit"]
    assert {
        (row["what"], row["database"], row["receipt"], row["outcome"], row["times"])
        for row in rows
        if row["who"] == f"token:{made['id']}"
    } == {
        ("insert-rows", "zoo", receipt, "published", 2),
        ("upsert-rows", "zoo", receipt, "published", 1),
        ("insert-rows", "many", None, "forbidden", 1),
    }


def test_writes_and_uploads_into_one_database_both_stay(system: System) -> None:
    """Rows that are sent while files are appended to the same table are there beside theirs."""
    system.upload(b"id,name\n1,file\n", "both.csv", database="both", table="t")
    uploads: list[dict[str, Any]] = []

    def upload() -> None:
        for n in range(3):
            body = f"id,name\n{100 + n},file\n".encode()
            uploads.append(
                system.upload(body, "both.csv", database="both", table="t", mode="append")
            )

    uploading = threading.Thread(target=upload)
    uploading.start()
    answers = [
        write(system, "/both/t/-/insert", {"row": {"id": n, "name": "row"}}) for n in range(2, 12)
    ]
    uploading.join()
    assert {each.status_code for each in answers} == {201}
    newest = max(
        (*uploads, {"generation": int(answers[-1].headers["Headrace-Generation"])}),
        key=lambda each: each["generation"],
    )
    system.wait_until_live(newest)
    ids = sorted(row["id"] for row in system.rows("/both/t"))
    assert ids == [*range(1, 12), *range(100, 103)]


def test_dclient_inserts_rows(system: System) -> None:
    """Simon Willison's client for Datasette 1.0 works against a reader as it is."""
    env = {**os.environ, "DATASETTE_TOKEN": system.token}
    command = [sys.executable, "-m", "dclient", "insert", f"{system.url}/zoo", "birds", "-"]
    done = subprocess.run(
        [*command, "--csv", "--create", "--pk", "id", "--token", system.token],
        input="id,name\n1,Kea\n2,Tui\n",
        text=True,
        capture_output=True,
        check=False,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    expected = [{"id": 1, "name": "Kea"}, {"id": 2, "name": "Tui"}]
    # Until the reader is there it has no such table.
    wait_for(lambda: system.client.get("/zoo/birds.json?_shape=array").json() == expected)


def test_answered_rows_are_there_once_after_the_primary_is_killed(system: System) -> None:
    """Whatever moment a kill comes at: what was answered is there, exactly once."""
    made = write(system, "/crash/-/create", {"table": "t", "rows": [{"n": -1}]})
    assert made.status_code == 201
    answered: list[int] = []
    refused: list[httpx.Response] = []
    stopped = threading.Event()

    def send(client: int) -> None:
        n = client
        while not stopped.is_set():
            answer = write(system, "/crash/t/-/insert", {"row": {"n": n}})
            if answer.status_code == 201:
                answered.append(n)
            else:
                refused.append(answer)
                time.sleep(0.02)
            n += 8

    senders = [threading.Thread(target=send, args=(client,)) for client in range(8)]
    for each in senders:
        each.start()
    wait_for(lambda: len(answered) > 60)
    system.kill("ingest")
    wait_for(lambda: refused)
    count = len(answered)
    wait_for(lambda: len(answered) > count + 20, timeout_s=40)
    stopped.set()
    for each in senders:
        each.join()
    last = write(system, "/crash/t/-/insert", {"row": {"n": -2}})
    rows = [row["n"] for row in _all_rows(system, last)]
    assert len(rows) == len(set(rows)), "a row is there twice"
    assert set(answered) <= set(rows)
    assert {each.status_code for each in refused} == {503}
    assert all(each.json()["ok"] is False for each in refused)
    assert all(each.headers["Retry-After"] for each in refused)
    unfinished = [
        each for each in _receipts(system) if each["state"] not in {"published", "failed"}
    ]
    assert not unfinished


def _receipts(system: System) -> list[dict[str, Any]]:
    answer = system.client.get("/ingest/receipts", headers=system.auth)
    found: list[dict[str, Any]] = answer.json()["receipts"]
    return found


def _all_rows(system: System, answer: httpx.Response) -> list[dict[str, Any]]:
    wanted = {"Headrace-Min-Generation": answer.headers["Headrace-Generation"]}
    found = httpx.get(f"{system.url}/crash/t.csv?_stream=1", headers=wanted).text
    return [{"n": int(line.rpartition(",")[2])} for line in found.split()[1:]]
