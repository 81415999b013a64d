"""I6, exactly once: the same `Idempotency-Key` and body give the same receipt, come what may."""

from __future__ import annotations

import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import httpx

from headrace.config import INGEST_PORT_OFFSET
from tests.conftest import wait_for
from tests.e2e.primary_kit import Primary, primaries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import System


def post(system: System, key: str, body: bytes = b"n\n1\n", **options: Any) -> httpx.Response:
    """Append a file to a table of the key's name."""
    headers = {"Idempotency-Key": key}
    return system.post(body, f"{key}.csv", mode="append", headers=headers, **options)


def without_live(receipt: dict[str, Any]) -> dict[str, Any]:
    """Give what of a receipt never changes once it is published."""
    return {**receipt, "live": None}


def test_same_key_and_body_count_once(system: System) -> None:
    """Who did not get an answer sends it again, and gets the receipt of the first time."""
    first = post(system, "twice")
    again = post(system, "twice")
    quoted = system.post(
        b"n\n1\n", "twice.csv", mode="append", headers={"Idempotency-Key": '"twice"'}
    )

    assert first.status_code == again.status_code == quoted.status_code == 201
    assert without_live(first.json()) == without_live(again.json()) == without_live(quoted.json())
    assert first.json()["tables"][0]["added"] == 1
    system.wait_until_live(first.json())
    assert len(system.rows("/twice/twice")) == 1


def test_how_long_a_key_is_kept_is_said(system: System) -> None:
    """Whoever sends again knows until when that is safe: a day."""
    assert system.client.get("/ingest").json()["idempotency_key_s"] == 24 * 3600


def test_same_key_for_another_request_is_refused(system: System) -> None:
    """Other bytes, or other options, with a key that was used are a mistake of the client's."""
    post(system, "other")

    for answer in (post(system, "other", b"n\n2\n"), post(system, "other", pk="n")):
        assert answer.status_code == 422
        assert answer.json()["code"] == "key-reused"
    assert post(system, "other").status_code == 201


def test_same_key_while_the_first_is_on_its_way_is_refused(system: System) -> None:
    """Two requests with one key at once: the second is told to wait for the first."""
    more = threading.Event()

    def slow() -> Iterator[bytes]:
        yield b"n\n"
        more.wait(30)
        yield b"1\n"

    answers: list[httpx.Response] = []

    def send() -> None:
        answers.append(
            httpx.post(
                f"{system.url}/ingest?filename=slow.csv",
                content=slow(),
                headers={**system.auth, "Idempotency-Key": "slow"},
                timeout=60,
            )
        )

    sending = threading.Thread(target=send)
    sending.start()
    try:
        wait_for(lambda: list((system.data / "primary" / "spool").iterdir()))

        answer = system.post(b"n\n1\n", "slow.csv", headers={"Idempotency-Key": "slow"})

        assert answer.status_code == 409
        assert answer.json()["code"] == "in-flight"
    finally:
        more.set()
        sending.join()


def test_same_key_after_the_files_own_fault_gets_the_same_error(system: System) -> None:
    """A file that was refused is refused again, with the receipt of the first time."""
    first = post(system, "ragged", b"a,b\n1\n")
    again = post(system, "ragged", b"a,b\n1\n")

    assert first.status_code == again.status_code == 422
    assert first.json()["instance"] == again.json()["instance"]


def test_key_that_is_none_is_refused(system: System) -> None:
    """A key is short and printable."""
    for key in ("", "x" * 256, "a\tb"):
        answer = system.post(b"n\n1\n", "key.csv", headers={"Idempotency-Key": key})
        assert answer.status_code == 400


def test_form_sent_twice_counts_once(system: System) -> None:
    """Several files of one request have one key."""
    files = [("file", (f"form{n}.csv", b"n\n1\n")) for n in range(3)]
    ids = []
    for _ in range(2):
        answer = system.client.post(
            "/ingest?mode=append",
            files=files,
            headers={**system.auth, "Idempotency-Key": "form"},
        )
        assert answer.status_code == 201
        ids.append([receipt["id"] for receipt in answer.json()["receipts"]])
    assert ids[0] == ids[1]


def test_bytes_that_did_not_arrive_whole_claim_no_key(system: System) -> None:
    """Who was cut off in the middle of a file sends all of it again, with the same key."""
    token = system.auth["Authorization"]
    head = (
        "POST /ingest?filename=cut.csv&mode=append HTTP/1.1\r\nHost: tests\r\n"
        f"Authorization: {token}\r\nIdempotency-Key: cut\r\nContent-Length: 1000\r\n\r\nn\n1\n"
    )
    with socket.create_connection(("127.0.0.1", system.port + INGEST_PORT_OFFSET)) as peer:
        peer.sendall(head.encode())
        peer.shutdown(socket.SHUT_WR)
        peer.recv(1)  # it has taken note, or hung up
    assert wait_for(lambda: find_receipt(system, "cut.csv"))["state"] == "failed"

    assert wait_for(lambda: post(system, "cut").is_success)  # once the first has its answer


def test_form_that_was_cut_between_two_files_claims_no_key(system: System) -> None:
    """The file that did arrive whole is not all that was asked for."""
    files = [("file", (f"between{n}.csv", b"n\n1\n")) for n in range(2)]
    headers = {**system.auth, "Idempotency-Key": "between"}
    request = system.client.build_request(
        "POST", "/ingest?mode=append", files=files, headers=headers
    )
    whole = request.read()
    request.headers["Content-Length"] = "100000"
    lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    head = f"POST /ingest?mode=append HTTP/1.1\r\n{lines}\r\n".encode()
    boundary = whole.partition(b"\r\n")[0]
    first = whole[: whole.index(boundary, 1) + len(boundary) + 2]
    with socket.create_connection(("127.0.0.1", system.port + INGEST_PORT_OFFSET)) as peer:
        peer.sendall(head + first)

        def arrived() -> bool:
            """Send more of the second file's head: what comes after a file is read with it."""
            peer.sendall(b"X-Pad: %064d\r\n" % 0)
            return any((system.data / "store" / "uploads").glob("*/between0.csv"))

        wait_for(arrived)
        peer.shutdown(socket.SHUT_WR)
        peer.recv(1)
    assert wait_for(lambda: find_receipt(system, "between0.csv"))["state"] == "failed"

    def send() -> httpx.Response | None:
        answer = system.client.post("/ingest?mode=append", files=files, headers=headers)
        return answer if answer.status_code != 409 else None  # until the first has its answer

    assert wait_for(send).status_code == 201


def find_receipt(system: System, filename: str) -> dict[str, Any] | None:
    """Find the newest receipt of a file's name."""
    found = system.client.get("/ingest/receipts", headers=system.auth).json()["receipts"]
    return next((receipt for receipt in found if receipt["filename"] == filename), None)


def test_form_with_a_file_too_many_counts_as_a_whole_when_it_is_sent_again(system: System) -> None:
    """With a key nothing is done of a request whose files did not all arrive."""
    small, large = ("whole.csv", b"n\n1\n"), ("large.csv", b"n\n" + b"1\n" * 3_000_000)
    answers = [
        system.client.post(
            "/ingest?mode=append",
            files=[("file", each) for each in files],
            headers={**system.auth, "Idempotency-Key": "form-with-large"},
        )
        for files in ([small, large], [small])
    ]
    assert [answer.status_code for answer in answers] == [413, 201]
    system.wait_until_live(answers[1].json())
    assert len(system.rows("/whole/whole")) == 1


def test_same_key_after_a_kill_counts_once(tmp_path: Path, store: str) -> None:
    """A primary that dies before it answers has journalled the request with its key, or not."""
    lines = b"n\n" + b"".join(b"%d\n" % number for number in range(300_000))
    primary = Primary(tmp_path, "first", store=store).start().wait_until_up()
    with primaries(primary):
        primary.upload(b"n\n-1\n", "sales.csv")
        accepted = primary.post(
            lines, "sales.csv", prefer="wait=0", mode="append", key="after-a-kill"
        )
        assert accepted.status_code == 202
        os.kill(primary.process.pid, signal.SIGKILL)
        primary.process.wait()
        primary.start().wait_until_up()

        again = primary.post(
            lines, "sales.csv", prefer="wait=60", mode="append", key="after-a-kill"
        )

        assert again.status_code == 201
        assert again.json()["id"] == accepted.json()["id"]
        last = primary.upload(b"n\n-2\n", "sales.csv", mode="append")
        assert last["tables"][0]["unchanged"] == 300_001
        primary.stop()
