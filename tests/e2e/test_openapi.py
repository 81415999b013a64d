"""The document, its page, and the running service say the same."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from functools import partial
from typing import TYPE_CHECKING

import httpx
import pytest

from ingest.api.description import describe
from tests.e2e.conftest import System
from tests.e2e.schemathesis_kit import Document, compare

if TYPE_CHECKING:
    from collections.abc import Iterator

FUZZ_S = int(os.environ.get("FUZZ_SECONDS", "0"))  # `make fuzz` gives more
EXAMPLES = max(1, FUZZ_S // 6)  # random ones of each operation
ORDERS = b"id,item\n1,a\n2,b\n"
MANY = "1000000"  # requests a minute: nothing here comes too often


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give a system for these tests alone: everything in it is deleted now and then."""
    data = tmp_path_factory.mktemp("openapi") / "data"
    flags = ["--workers", "1", "--token-rate", MANY, "--address-rate", MANY]
    system = System(data, *flags, "--max-upload", "1000000")
    system.flags += ("--fetch", f"http://localhost:{system.port}")  # what it serves itself
    try:
        system.start()
        system.wait_until_live(system.upload(b"id\n1\n", "sales.csv"))
        yield system
    finally:
        system.stop()
        system.client.close()


def test_document_is_the_declared_one_and_known_by_its_etag(system: System) -> None:
    """A reader gives everybody the document; who has it already gets no second copy."""
    answer = system.client.get("/ingest/openapi.json")
    assert answer.content == describe().body
    known = {"If-None-Match": answer.headers["ETag"]}
    again = system.client.get("/ingest/openapi.json", headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == answer.headers["ETag"]


def test_answers_of_what_is_there_are_as_declared(system: System) -> None:
    """A whole life over the interface: answers have their declared members, and no others."""
    document = Document(system)
    upload = document.ask("POST", "/ingest", 201, query={"filename": "orders.csv"}, body=ORDERS)
    one = {"id": upload["id"]}
    document.ask("GET", "/ingest/receipts/{id}", 200, one, query={"wait": "9", "for": "regions"})
    document.ask("GET", "/ingest/receipts/{id}/events", 200, one)
    document.ask("POST", "/ingest/receipts/{id}/reprocess", 201, one)
    form = {"files": [("file", ("a.csv", ORDERS)), ("file", ("b.csv", ORDERS))]}
    document.ask("POST", "/ingest", 201, form=form)
    document.ask("POST", "/ingest/preview", 200, query={"filename": "c.csv"}, body=ORDERS)
    table = {"database": "orders"}
    said = {"title": "Orders"}
    document.ask("PATCH", "/ingest/databases/{database}/metadata", 200, table, json=said)
    document.ask("PUT", "/ingest/databases/{database}/metadata", 200, table, json=said)
    document.ask("GET", "/ingest/databases/{database}/metadata", 200, table)
    url = f"http://localhost:{system.port}/sales/sales.csv"
    fetched = {"url": url, "database": "fetched"}
    document.ask("POST", "/ingest", 201, json=fetched)
    timed = {**fetched, "cron": "0 0 1 1 *"}
    schedule = document.ask("POST", "/ingest/schedules", 201, json=timed)
    that = {"id": schedule["id"]}
    document.ask("POST", "/ingest/schedules/{id}/run", 200, that)
    document.ask("GET", "/ingest/schedules/{id}", 200, that)
    document.ask("GET", "/ingest/schedules", 200)
    document.ask("DELETE", "/ingest/schedules/{id}", 200, that)
    wish = {"scopes": ["ingest:orders"], "expires": "1h"}
    token = document.ask("POST", "/ingest/tokens", 201, json=wish)
    document.ask("GET", "/ingest/tokens", 200)
    document.ask("POST", "/ingest/session", 200, json={"token": token["token"]})
    document.ask("GET", "/ingest/session", 200)
    document.ask("DELETE", "/ingest/tokens/{id}", 200, {"id": token["id"]})
    page = document.ask("GET", "/ingest/generations", 200)
    number = {"number": str(page["generations"][-1]["generation"])}
    document.ask("POST", "/ingest/generations/{number}/rollback", 200, number)
    gone = {"database": "sales", "table": "sales"}
    document.ask("DELETE", "/ingest/databases/{database}/{table}", 200, gone)
    document.ask("DELETE", "/ingest/databases/{database}", 200, gone)
    for path in ("", "/receipts", "/audit", "/status", "/events"):
        document.ask("GET", f"/ingest{path}", 200)
    for path in ("/-/headrace.json", "/-/readyz", "/-/healthz"):
        document.ask("GET", path, 200)
    document.ask("POST", "/ingest/events", 200, json={"Records": []})
    document.ask("POST", "/ingest/prune", 200, query={"dry_run": "1"})


def test_answers_to_rows_are_as_declared(system: System) -> None:
    """The same of Datasette's write API."""
    document = Document(system)
    system.wait_until_live(system.upload(ORDERS, "orders.csv"))
    table = {"database": "orders", "table": "orders"}
    row = {"row": {"id": 3, "item": "c"}, "return": True}
    document.ask("POST", "/{database}/{table}/-/insert", 201, table, json=row)
    document.ask("POST", "/{database}/{table}/-/drop", 200, table, json={})
    new = {"table": "made", "row": {"id": 1}, "pk": "id"}
    document.ask("POST", "/{database}/-/create", 201, table, json=new)
    made = {"database": "orders", "table": "made", "pks": "1"}
    change = {"update": {"name": "x"}, "alter": True, "return": True}
    document.ask("POST", "/{database}/{table}/{pks}/-/update", 200, made, json=change)
    document.ask("POST", "/{database}/{table}/{pks}/-/delete", 200, made)
    document.ask("POST", "/-/insert/{database}/{table}", 200, made, json=[{"id": 2}])


@pytest.mark.timeout(120 + 4 * FUZZ_S)
def test_service_answers_as_the_document_says(system: System) -> None:
    """Whatever is sent, of each operation: no failure, and no answer that is not declared."""
    asked, found = compare(system, examples=EXAMPLES, seed=1, thorough=FUZZ_S > 0)
    assert not found, "\n\n".join(found[:20])
    document = system.client.get("/ingest/openapi.json").json()
    operations = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
    }
    # It leaves out where it has the document from, as an earlier test does not.
    assert asked == operations - {"GET /ingest/openapi.json"}


def test_page_shows_every_operation_without_anything_from_elsewhere(system: System) -> None:
    """People read the same, in Datasette's look: light, without scripts of ours, of one host."""
    page = system.client.get("/ingest/docs", headers={"Accept": "text/html"})
    assert page.status_code == 200
    shown = page.text.count('class="headrace-operation"')
    assert shown == page.text.count("<code>curl ")
    for path in httpx.get(f"{system.url}/ingest/openapi.json").json()["paths"]:
        assert path in page.text
    assert len(page.content) < 120_000  # 1,500 more around it with Datasette 1.0
    assert 'src="http' not in page.text
    assert 'href="http' not in page.text.replace("https://datasette.io", "")


def test_page_is_found_from_the_upload_page(system: System) -> None:
    """Whoever sees the upload page is led to the interface's."""
    page = system.client.get("/ingest", headers={"Accept": "text/html"})
    assert 'href="/ingest/docs"' in page.text


def test_page_takes_reads_only(system: System) -> None:
    """A write to the page is refused, with the methods that it takes."""
    answer = system.client.post("/ingest/docs")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/ingest", "/sales", "/-/headrace.json"])
def test_trace_is_refused_with_the_methods_there_are(system: System, path: str) -> None:
    """TRACE is 405 everywhere, and ``Allow`` is never missing."""
    answer = system.client.request("TRACE", path)
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"]
    assert answer.headers["Content-Type"].startswith("application/problem+json")


@pytest.mark.parametrize("before", ["1", "2", "999999999999999999"])
def test_generations_before_any_number_are_listed(system: System, before: str) -> None:
    """There may be none before a number, or it may be far ahead."""
    answer = system.client.get(
        "/ingest/generations", params={"before": before}, headers=system.auth
    )
    assert answer.status_code == 200
    assert all(each["generation"] < int(before) for each in answer.json()["generations"])


def test_misspelled_dry_run_deletes_nothing(system: System) -> None:
    """A parameter that is not known is refused by name before anything is done."""
    answer = system.client.post("/ingest/prune", params={"dryrun": "1"}, headers=system.auth)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-option")
    assert "'dryrun'" in answer.json()["detail"]


def test_expectation_that_nobody_knows_is_a_problem_document(system: System) -> None:
    """What the HTTP server itself refuses is said in the same form."""
    command = ["curl", "-sS", "-i", "-H", "Expect: a-pony", "-d", "x", f"{system.url}/ingest"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "application/problem+json" in answer, answer


def test_form_that_is_too_large_and_does_not_say_so_is_a_problem_document(system: System) -> None:
    """A small form is refused once it has become large."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    pieces = (b"token=" + b"x" * 65536 for _ in range(64))
    answer = system.client.post("/ingest/session", content=pieces, headers=form)
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")


@pytest.mark.parametrize("path", ["/ingest", "/ingest/session"])
def test_form_whose_head_is_no_head_is_a_problem_document(system: System, path: str) -> None:
    """A control character in the name of a field is the client's fault."""
    form = {**system.auth, "Content-Type": "multipart/form-data; boundary=x"}
    body = b'--x\r\nContent-Disposition: form-data; name="a\x07"\r\n\r\n1\r\n--x--\r\n'
    answer = system.client.post(path, content=body, headers=form)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +4\r\n\r\nabcd",
        b"what is this?\r\n\r\n",
    ],
)
def test_what_is_no_http_is_a_problem_document(system: System, request_bytes: bytes) -> None:
    """Also who does not speak HTTP is told so in the form of every other refusal."""
    with socket.create_connection(("127.0.0.1", system.port), timeout=10) as connection:
        connection.sendall(request_bytes)
        answer = b"".join(iter(partial(connection.recv, 65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.")
    assert b"application/problem+json" in head
    assert json.loads(body)["code"] == "bad-request"


@pytest.mark.parametrize(
    "path",
    ["/ingest/receipts?before=x", "/ingest/receipts?befor=1", "/ingest/generations?before=0"],
)
def test_browser_is_told_what_is_wrong_in_a_sentence(system: System, path: str) -> None:
    """A person sees a page with the sentence, and no JSON."""
    answer = system.client.get(path, headers={**system.auth, "Accept": "text/html"})
    assert answer.status_code == 400
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "<h1>An option cannot be used</h1>" in answer.text
    assert "befor" in answer.text
