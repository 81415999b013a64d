"""Bad input: a clear problem, nothing changed, the spool clean, the receipt kept (invariant I8)."""

from __future__ import annotations

import os
import socket
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import System


def check_refused(
    system: System, response: Any, status: int, code: str, *, has_receipt: bool = True
) -> dict[str, Any]:
    """Check a problem document, that its receipt can be read, and that nothing was left behind."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"].startswith("application/problem+json")
    problem: dict[str, Any] = response.json()
    assert problem["code"] == code
    assert problem["type"] == f"urn:headrace:problem:{code}"
    assert problem["status"] == status
    if has_receipt:
        receipt = system.client.get(problem["instance"]).json()
        assert receipt["state"] == "failed"
        assert receipt["error"]["code"] == code
    primary = system.data / "primary"
    assert list((primary / "spool").iterdir()) == []
    # A folder of this name is that of the process which waits for the next file.
    left = [each.name for each in (primary / "staging").iterdir()]
    assert [name for name in left if not name.startswith("convert-")] == []
    assert len(left) <= 1
    return problem


@pytest.mark.parametrize(
    ("filename", "body", "status", "code"),
    [
        ("empty.csv", b"", 400, "empty-file"),
        ("blank.csv", b" \n\n", 400, "empty-file"),
        ("picture.png", b"\x89PNG\r\n\x1a\n" + bytes(64), 415, "unknown-format"),
        ("noise.bin", bytes(range(256)) * 8, 415, "unknown-format"),
        ("ragged.csv", b"a,b\n1,2\n3\n", 422, "invalid-file"),
        ("broken.json", b'[{"a": 1},\n {"a": }]', 422, "invalid-file"),
        ("broken.yaml", b"- a: 1\n- b: [\n", 422, "invalid-file"),
        ("broken.db", b"SQLite format 3\x00" + bytes(5000), 422, "invalid-file"),
    ],
)
def test_bad_file_is_refused_with_its_reason(
    system: System, filename: str, body: bytes, status: int, code: str
) -> None:
    """Each kind of bad file has a stable code, and changes nothing."""
    before = system.client.get("/-/headrace.json").json()["newest_generation"]
    problem = check_refused(system, system.post(body, filename), status, code)
    if code == "unknown-format":
        assert {"csv", "json", "sqlite"} <= set(problem["known"])
    assert system.client.get("/-/headrace.json").json()["newest_generation"] == before


@pytest.mark.parametrize(
    ("filename", "body", "line"),
    [
        ("ragged.csv", b"a,b\n1,2\n3\n4,5\n", 3),
        ("broken.json", b'[{"a": 1},\n {"a": }]', 2),
        ("broken.yaml", b"- a: 1\n- b: [\n", 3),
    ],
)
def test_broken_text_names_its_line(system: System, filename: str, body: bytes, line: int) -> None:
    """A broken text file is refused with the line where it breaks."""
    problem = check_refused(system, system.post(body, filename), 422, "invalid-file")
    assert problem["line"] == line


def test_corrupt_sqlite_is_refused(system: System, tmp_path: Path) -> None:
    """A SQLite file that fails quick_check never gets near the primary."""
    path = tmp_path / "x.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE t (a TEXT)")
    db.executemany("INSERT INTO t VALUES (?)", [("x" * 500,)] * 200)
    db.commit()
    db.close()
    body = bytearray(path.read_bytes())
    body[8192:12288] = os.urandom(4096)
    check_refused(system, system.post(bytes(body), "x.db"), 422, "invalid-file")


@pytest.mark.parametrize(
    "options",
    [
        {"database": "ingest"},
        {"database": "-"},
        {"database": "../../etc"},
        {"database": "a/b"},
        {"database": ""},
        {"database": "x" * 65},
        {"table": "sqlite_master"},
        {"table": "_litestream_seq"},
        {"table": ""},
        {"table": "t" * 129},
        {"table": "a\x00b"},
    ],
)
def test_bad_name_is_refused(system: System, options: dict[str, str]) -> None:
    """Names that are reserved, empty, too long or leave the folder are refused."""
    response = system.post(b"a\n1\n", "fine.csv", **options)
    check_refused(system, response, 400, "invalid-name")


@pytest.mark.parametrize("options", [{"mode": "upsert"}, {"mode": "x"}, {"colour": "red"}])
def test_unknown_option_is_refused(system: System, options: dict[str, str]) -> None:
    """An option that is not known (yet) is refused, not ignored."""
    response = system.post(b"a\n1\n", "fine.csv", **options)
    check_refused(system, response, 400, "invalid-option")


def test_body_over_the_limit_is_refused(system: System) -> None:
    """A body over --max-upload is refused, announced or not."""
    body = b"a\n" + b"1\n" * 3_000_000
    check_refused(system, system.post(body, "big.csv"), 413, "too-large")
    chunks = (body[start : start + 65536] for start in range(0, len(body), 65536))
    response = system.client.post("/ingest?filename=big.csv", content=chunks, headers=system.auth)
    check_refused(system, response, 413, "too-large")


def test_wrong_digest_is_refused(system: System) -> None:
    """Content-Digest is compared with what arrived."""
    header = {"Content-Digest": "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"}
    response = system.post(b"a\n1\n", "digest.csv", headers=header)
    check_refused(system, response, 400, "digest-mismatch")


@pytest.mark.parametrize(
    "header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eA=="}]
)
def test_write_without_the_token_is_refused(system: System, header: dict[str, str]) -> None:
    """Nothing is writable without the token; reading the list of receipts needs it as well."""
    for method, path in [
        ("POST", "/ingest?filename=a.csv"),
        ("DELETE", "/ingest/databases/people"),
        ("DELETE", "/ingest/databases/people/people"),
        ("GET", "/ingest/receipts"),
    ]:
        response = system.client.request(method, path, headers=header)
        check_refused(system, response, 401, "unauthorized", has_receipt=False)
        assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path"), [("POST", "/ingest/"), ("PUT", "/ingest/a.csv")])
def test_address_beside_that_of_uploads_says_where_that_is(
    system: System, method: str, path: str
) -> None:
    """A slash too much is found by who made it; `curl -T` puts the file's name behind one."""
    response = system.client.request(method, path, headers=system.auth, content=b"a\n1\n")
    assert (response.status_code, response.json()["code"]) == (404, "not-found")
    assert "files go to POST /ingest of a reader, without a slash" in response.json()["hint"]


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/ingest/session", b"[" * 60_000, "bad-request"),  # deeper than Python reads
        (f"/ingest/generations/{'9' * 5000}/rollback", b"", "invalid-option"),
    ],
)
def test_request_that_no_number_or_document_holds_is_refused(
    system: System, path: str, body: bytes, code: str
) -> None:
    """What is too deep or too long to be read is the client's fault, and said to be."""
    headers = {**system.auth, "Content-Type": "application/json"}
    response = system.client.post(path, content=body, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, code), response.text


def test_client_that_hangs_up_leaves_nothing_but_a_receipt(system: System) -> None:
    """A connection that ends in the middle of a body changes nothing, and is on record."""
    head = (
        f"POST /ingest?filename=cut.csv HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
        f"Authorization: Bearer {system.token}\r\n\r\na,b\n1,2\n"
    )
    with socket.create_connection(("127.0.0.1", system.port)) as connection:
        connection.sendall(head.encode())
        wait_for(lambda: list((system.data / "primary" / "spool").iterdir()))

    def find_receipt() -> dict[str, Any] | None:
        listed = system.client.get("/ingest/receipts", headers=system.auth).json()["receipts"]
        return next((receipt for receipt in listed if receipt["filename"] == "cut.csv"), None)

    receipt = wait_for(find_receipt)
    assert receipt["state"] == "failed"
    assert receipt["error"]["code"] == "incomplete-body"
    assert list((system.data / "primary" / "spool").iterdir()) == []


def test_browser_gets_a_problem_as_a_page(system: System) -> None:
    """A person's browser gets the reason as HTML, with names escaped."""
    headers = {"Accept": "text/html,application/xhtml+xml"}
    response = system.post(b"a\n1\n", "x.csv", database="<b>", headers=headers)
    assert response.status_code == 400
    assert response.headers["Content-Type"].startswith("text/html")
    assert "<b>" not in response.text


def test_service_is_unharmed_by_bad_input(system: System) -> None:
    """After all of that, an upload works as before."""
    receipt = system.upload(b"a\n1\n", "fine.csv")
    system.wait_until_live(receipt)
    assert system.rows("/fine/fine")[0]["a"] == 1


def test_option_that_the_format_does_not_know_is_refused(system: System) -> None:
    """What is asked for is done or refused, and the problem names the formats that know it."""
    response = system.post(b'[{"a": 1}]', "a.json", delimiter=";")
    problem = check_refused(system, response, 400, "invalid-option")
    assert problem["known"] == {"delimiter": ["csv"]}


def test_bad_rows_do_not_overwrite_a_table_of_their_name(system: System) -> None:
    """A table that somebody made is not taken for one of bad rows."""
    system.upload(b"who\nme\n", "mine.csv", database="rejects", table="t_rejects")
    body, options = b"a,b\n1,2\n3\n", {"database": "rejects", "table": "t"}
    response = system.post(body, "t.csv", **options, on_bad_rows="quarantine")
    check_refused(system, response, 409, "table-exists")
