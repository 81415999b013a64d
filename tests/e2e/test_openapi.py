"""The document, its page, and the running service say the same."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import httpx
import pytest

from ingest.api.description import describe
from tests.e2e.conftest import System, running
from tests.e2e.schemathesis_kit import compare

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "2"))  # random ones of each operation
SEED = int(os.environ.get("OPENAPI_SEED", "1"))
MANY = "1000000"  # requests a minute: nothing here comes too often


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give a system for these tests alone: everything in it is deleted now and then."""
    data = tmp_path_factory.mktemp("openapi") / "data"
    flags = ("--workers", "1", "--token-rate", MANY, "--address-rate", MANY)
    with running(data, *flags, "--max-upload", "1000000") as system:
        system.wait_until_live(system.upload(b"id\n1\n", "sales.csv"))
        yield system


def test_document_is_the_declared_one_and_known_by_its_etag(system: System) -> None:
    """A reader gives everybody the document; who has it already gets no second copy."""
    answer = system.client.get("/ingest/openapi.json")
    assert answer.content == describe().body
    known = {"If-None-Match": answer.headers["ETag"]}
    again = system.client.get("/ingest/openapi.json", headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == answer.headers["ETag"]


@pytest.mark.timeout(max(120, 20 * EXAMPLES))
def test_service_answers_as_the_document_says(system: System) -> None:
    """Whatever is sent, of each operation: no failure, and no answer that is not declared."""
    asked, found = compare(system, examples=EXAMPLES, seed=SEED)
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
    assert page.text.count('<section class="headrace-operation"') == page.text.count(
        "<pre><code>curl"
    )
    for path in httpx.get(f"{system.url}/ingest/openapi.json").json()["paths"]:
        assert path in page.text
    assert len(page.content) < 100_000
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
