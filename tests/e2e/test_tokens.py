"""Tokens, what they may do, and the log of who wrote what: over the running system."""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import os
import re
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import httpx
import pytest

from headrace.keys import JOURNAL_DATABASE
from headrace.litestream_restore import LitestreamRestore
from headrace.store import Store
from headrace.tokens import hash_token
from tests.conftest import wait_for
from tests.e2e.conftest import System, running
from tests.e2e.token_kit import SAME, make_token, read_audit, sign_in, upload, who_is

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMED = "filename " + base64.b64encode(b"ledger.csv").decode()
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = {**TUS, "Content-Type": "application/offset+octet-stream"}
LATER = {"Prefer": "respond-async"}
PLACES = 5  # uploads at once


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give one system that bounds what one token may send."""
    data = tmp_path_factory.mktemp("tokens") / "data"
    flags = ["--queue-uploads", str(PLACES), "--token-rate", "120", "--workers", "1"]
    with running(data, *flags) as system:
        system.upload(b"id\n1\n", "sales.csv")
        yield system


def test_token_writes_to_its_database_and_to_no_other(system: System) -> None:
    """Whether the other database is there cannot be told from the answer."""
    token = make_token(system, "ingest:sales")["token"]
    assert upload(system, token, "sales").status_code == 201

    system.upload(b"id\n1\n", "wages.csv")
    refused = [upload(system, token, name) for name in ("wages", "nothing", "a b")]
    assert {response.status_code for response in refused} == {403}
    assert {response.json()["code"] for response in refused} == {"forbidden"}
    assert len({response.text for response in refused}) == 1

    auth = {"Authorization": f"Bearer {token}"}
    for method, path in [
        ("DELETE", "/ingest/databases/wages"),
        ("DELETE", "/ingest/databases/nothing"),
        ("DELETE", "/ingest/databases/wages/wages"),
        ("POST", "/ingest/generations/1/rollback?database=wages"),
        ("POST", "/ingest/generations/1/rollback"),
        ("POST", "/ingest/prune"),
        ("POST", "/ingest/tokens"),
        ("GET", "/ingest/tokens"),
        ("GET", "/ingest/audit"),
    ]:
        response = httpx.request(method, system.url + path, headers=auth)
        assert (response.status_code, response.json()["code"]) == (403, "forbidden"), path


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"scopes": []},
        {"scopes": "ingest:sales", "expires": "0d"},
        {"scopes": "ingest:sales", "expires": "1y"},
        {"scopes": "ingest:sales", "expires": "99999d"},
        {"scopes": "ingest:sales", "name": "a\nb"},
        {"scopes": "ingest:sales", "name": "a" * 101},
        {"scopes": [["admin"]]},
        ["admin"],
    ],
)
def test_token_that_is_asked_for_wrongly_is_not_made(system: System, fields: Any) -> None:
    """No scope, no such end, no name that breaks a line."""
    response = httpx.post(f"{system.url}/ingest/tokens", json=fields, headers=system.auth)
    assert response.status_code == 400, response.text
    assert response.json()["code"] in {"invalid-option", "bad-request"}


def test_form_that_names_another_database_changes_nothing(system: System) -> None:
    """The database may be a field after the file; the bytes are dropped."""
    token = make_token(system, "ingest:sales")["token"]
    response = httpx.post(
        f"{system.url}/ingest",
        files={"file": ("sales.csv", b"id\n1\n")},
        data={"database": "elsewhere"},
        headers={"Authorization": f"Bearer {token}"},
    )
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert "elsewhere" not in httpx.get(f"{system.url}/ingest").json()["databases"]
    receipt = httpx.get(system.url + response.json()["instance"]).json()
    assert (receipt["state"], receipt["archive"]) == ("failed", None)


def test_resumable_upload_is_its_makers_and_goes_to_his_database_alone(system: System) -> None:
    """A token cannot begin one elsewhere, nor go on with another's."""
    mine, other = (make_token(system, "ingest:sales")["token"] for _ in range(2))
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "5"}

    def begin(filename: str) -> httpx.Response:
        metadata = f"filename {base64.b64encode(filename.encode()).decode()}"
        headers = {**tus, "Upload-Metadata": metadata, "Authorization": f"Bearer {mine}"}
        return httpx.post(f"{system.url}/ingest/tus", headers=headers)

    refused = begin("wages.csv")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    made = begin("sales.csv")
    assert made.status_code == 201, made.text

    def send(token: str) -> httpx.Response:
        headers = {**tus, "Upload-Offset": "0", "Authorization": f"Bearer {token}"}
        headers["Content-Type"] = "application/offset+octet-stream"
        url = system.url + httpx.URL(made.headers["Location"]).path
        return httpx.patch(url, content=b"id\n1\n", headers=headers)

    assert send(other).status_code == 404
    sent = send(mine)
    assert sent.status_code == 204
    rows = read_audit(system)
    log = {(row["what"], row["database"], row["outcome"]) for row in rows}
    assert ("upload", "wages", "forbidden") in log
    by_receipt = {row["receipt"]: row["address"] for row in rows}
    assert by_receipt[sent.headers["Headrace-Receipt"]] == "127.0.0.1"


def test_token_sees_the_receipts_and_generations_of_its_databases(system: System) -> None:
    """Of the others it learns nothing."""
    system.upload(b"id\n1\n", "hidden.csv")
    token = make_token(system, "ingest:sales", "ingest:more")["token"]
    auth = {"Authorization": f"Bearer {token}"}
    receipts = httpx.get(f"{system.url}/ingest/receipts", headers=auth).json()["receipts"]
    assert {receipt["database"] for receipt in receipts} == {"sales"}
    every = httpx.get(f"{system.url}/ingest/receipts", headers=system.auth).json()["receipts"]
    assert "hidden" in {receipt["database"] for receipt in every}
    generations = httpx.get(f"{system.url}/ingest/generations", headers=auth)
    assert "hidden" not in generations.text
    assert "sales" in generations.text


def test_receipt_of_another_cannot_be_reprocessed(system: System) -> None:
    """Knowing its id is enough to read it, and not to write with it."""
    receipt = system.upload(b"id\n1\n", "others.csv")
    token = make_token(system, "ingest:sales")["token"]
    url = f"{system.url}/ingest/receipts/{receipt['id']}/reprocess"
    response = httpx.post(url, headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 403


def test_same_idempotency_key_of_two_tokens_stands_for_two_requests(system: System) -> None:
    """Nobody gets a receipt of another, or is refused for what another sent."""
    first, second = (make_token(system, "ingest:*")["token"] for _ in range(2))
    key = {"Idempotency-Key": "monday"}
    receipts = [
        upload(system, token, "keys", headers=key).json()["id"] for token in (first, second)
    ]
    again = upload(system, first, "keys", headers=key).json()["id"]
    assert receipts[0] != receipts[1]
    assert again == receipts[0]


def test_revoked_and_expired_tokens_are_refused_and_their_cookies_too(system: System) -> None:
    """A revocation holds from its answer on; the audit log says who tried."""
    made = make_token(system, "ingest:sales", name="short-lived")
    cookie = sign_in(system, made["token"])
    assert who_is(system, cookie)["signed_in"] is True
    url = f"{system.url}/ingest/tokens/{made['id']}"
    assert httpx.delete(url, headers=system.auth).json()["revoked_at"]

    response = upload(system, made["token"], "sales")
    assert (response.status_code, response.json()["detail"]) == (401, "the token was revoked")
    assert who_is(system, cookie) == {"signed_in": False}
    assert upload(system, None, "sales", headers={**cookie, **SAME}).status_code == 401
    rows = [row for row in read_audit(system) if row["name"] == "short-lived"]
    assert ("upload", "unauthorized") in {(row["what"], row["outcome"]) for row in rows}


def test_token_command_makes_lists_and_revokes(system: System) -> None:
    """The command needs nothing but the folder that it was started in, or a file."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "headrace", "token", *arguments, "--to", system.url]
        kept = {name: value for name, value in os.environ.items() if "HEADRACE" not in name}
        folder = system.data.parent
        return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=kept)  # noqa: PLW1510

    made = run("create", "--scope", "ingest:sales", "--expires", "30d", "--name", "nightly")
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    assert re.fullmatch(r"hr_[\w-]{43}", token)
    assert upload(system, token, "sales").status_code == 201

    (line,) = [each for each in run("list").stdout.splitlines() if "nightly" in each]
    assert "ingest:sales" in line
    assert token not in line
    token_id = line.split()[0]
    assert run("revoke", token_id).stdout == f"token {token_id} is revoked\n"
    assert upload(system, token, "sales").status_code == 401
    failed = run("create", "--scope", "everything")
    assert failed.returncode == 1
    assert "'everything' is not known" in failed.stderr


def test_token_is_kept_as_a_hash_alone(system: System) -> None:
    """Neither the volume nor the store holds its text."""
    made = make_token(system, "ingest:sales")
    upload(system, made["token"], "sales")
    needle = made["token"].encode()
    files = [path for path in system.data.rglob("*") if path.is_file()]
    assert not [path for path in files if needle in path.read_bytes()]
    listed = httpx.get(f"{system.url}/ingest/tokens", headers=system.auth).json()["tokens"]
    (found,) = [each for each in listed if each["id"] == made["id"]]
    assert datetime.fromisoformat(found["used_at"]) >= datetime.fromisoformat(found["created_at"])


def test_audit_log_has_every_write_and_is_read_as_a_table(system: System) -> None:
    """Writes and what was refused of them: who, where, what; looks at a broken file are none."""
    made = make_token(system, "ingest:ledger", name="=cmd()<b>")
    receipt = upload(system, made["token"], "ledger").json()
    upload(system, made["token"], "ledger", body=b"a,b\n1\n")
    upload(system, made["token"], "wages")
    httpx.delete(f"{system.url}/ingest/databases/ledger/nothing", headers=system.auth)
    httpx.delete(f"{system.url}/ingest/databases/ledger", headers=system.auth)
    sign_in(system, made["token"])
    mine_only = {"Authorization": f"Bearer {made['token']}"}
    for database, status in {"ledger": 422, "wages": 403}.items():
        url = f"{system.url}/ingest/preview?filename=a.csv&database={database}&complete=1"
        assert httpx.post(url, content=b"a,b\n1\n", headers=mine_only).status_code == status
    begun = httpx.post(
        f"{system.url}/ingest/tus",
        headers={**mine_only, **TUS, "Upload-Length": "5", "Upload-Metadata": NAMED},
    )
    further = {**mine_only, **BYTES, "Upload-Offset": "3"}
    assert begun.status_code == 201, begun.text
    at = urljoin(system.url, begun.headers["Location"])
    assert httpx.patch(at, headers=further, content=b"a").status_code == 409

    rows = read_audit(system)
    mine = [row for row in rows if row["who"] == f"token:{made['id']}"]
    assert {(row["what"], row["database"], row["outcome"]) for row in mine} == {
        ("upload", "ledger", "published"),
        ("upload", "ledger", "invalid-file"),
        ("upload", "wages", "forbidden"),
        ("sign-in", None, "ok"),
        ("preview", "wages", "forbidden"),
        ("send-bytes", None, "wrong-offset"),
    }
    assert {row["address"] for row in mine} == {"127.0.0.1"}
    assert receipt["id"] in {row["receipt"] for row in mine}
    root = {(row["what"], row["database"], row["outcome"]) for row in rows if row["who"] == "root"}
    assert root >= {
        ("create-token", None, "ok"),
        ("delete-table", "ledger", "not-found"),
        ("delete-database", "ledger", "ok"),
    }

    url = f"{system.url}/ingest/audit"
    table = httpx.get(url, params={"_format": "csv"}, headers=system.auth)
    records = list(csv.DictReader(io.StringIO(table.text)))
    assert [record["id"] for record in records] == [str(row["id"]) for row in read_audit(system)]
    assert {each["name"] for each in records if each["who"] == mine[0]["who"]} == {"'=cmd()<b>"}
    page = httpx.get(url, headers={**system.auth, "Accept": "text/html"})
    assert page.headers["Content-Type"].startswith("text/html")
    assert "=cmd()&lt;b&gt;" in page.text
    assert "<b>" not in page.text

    first = httpx.get(url, params={"limit": "2"}, headers=system.auth).json()
    second = httpx.get(system.url + first["next"], headers=system.auth).json()
    ids = [row["id"] for row in first["audit"] + second["audit"]]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == 4


def test_uploads_beyond_the_places_are_refused_and_no_accepted_one_is_lost(system: System) -> None:
    """One who sends many gets 429 for what is too much; another is let in all the while."""
    many, one = (make_token(system, "ingest:*")["token"] for _ in range(2))
    slow = "".join(f"{number},{number}\n" for number in range(5000)).encode()

    def send(number: int) -> httpx.Response:
        body = b"a,b\n%d,1\n" % number + slow
        return upload(system, many, f"many{number % 2}", body=body, headers=LATER)

    with ThreadPoolExecutor(30) as threads:
        sending = [threads.submit(send, number) for number in range(3 * PLACES)]
        wait_for(lambda: any(each.done() and each.result().status_code == 429 for each in sending))
        other = upload(system, one, "one", headers=LATER)
        answers = [each.result() for each in sending]
    assert other.status_code == 202
    assert {answer.status_code for answer in answers} == {202, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["code"] == "too-many-requests"
    assert int(refused.headers["Retry-After"]) >= 1
    accepted = [answer.json()["id"] for answer in answers if answer.status_code == 202]
    assert len(accepted) >= PLACES

    def states() -> set[str]:
        url = f"{system.url}/ingest/receipts/"
        return {httpx.get(url + each).json()["state"] for each in accepted}

    wait_for(lambda: states() == {"published"}, timeout_s=60)


def test_token_that_writes_too_often_is_told_when_to_come_back(system: System) -> None:
    """Its requests are refused before a body is read; others go on."""
    token = make_token(system, "ingest:sales")["token"]
    auth = {"Authorization": f"Bearer {token}"}
    url = f"{system.url}/ingest/databases/sales/nothing"
    with httpx.Client() as client:
        answers = [client.delete(url, headers=auth)]
        while answers[-1].status_code != 429:  # the slower they come, the more are let in
            answers.append(client.delete(url, headers=auth))
    refused = answers[-1:]
    assert len(answers) > 120
    assert {answer.status_code for answer in answers} == {404, 429}
    assert int(refused[0].headers["Retry-After"]) >= 1
    assert upload(system, make_token(system, "ingest:sales")["token"], "sales").status_code == 201
    rows = [row for row in read_audit(system) if row["outcome"] == "too-many-requests"]
    assert sum(row["times"] for row in rows if row["what"] == "delete-table") == len(refused)
    metrics = httpx.get(f"http://127.0.0.1:{system.port + 200}/metrics").text
    assert 'headrace_ingest_denied_total{code="too-many-requests"}' in metrics


def test_token_is_in_the_object_store_before_it_is_shown(system: System, tmp_path: Path) -> None:
    """A successor knows it, and that it was revoked, and goes on with the audit log."""
    store = system.data / "store"
    (folder,) = (store / "dbs" / JOURNAL_DATABASE).iterdir()

    def restore() -> list[tuple[str, str | None]]:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.db"
        restoring = LitestreamRestore(Store(str(store)))
        assert asyncio.run(restoring.run(JOURNAL_DATABASE, folder.name, None, path)) is None
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT max(id) FROM audit WHERE what LIKE '%-token'").fetchone()[0]
            return db.execute("SELECT sha256, revoked_at FROM tokens").fetchall()

    made = make_token(system, "ingest:sales")
    kept = hash_token(made["token"])
    assert (kept, None) in restore()
    httpx.delete(f"{system.url}/ingest/tokens/{made['id']}", headers=system.auth)
    assert kept not in {sha256 for sha256, revoked_at in restore() if revoked_at is None}
