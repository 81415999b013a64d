"""Uploads while no primary is there: a reader takes them, the next primary finishes each once."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Self

import httpx

from headrace.store import Store
from tests.conftest import wait_for
from tests.e2e.primary_kit import TOKEN, Primary, primaries
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUICKER = ("--lease-duration", "2", "--lease-renewal", "0.5")  # seconds

# A primary that dies by kill -9 where it is told to.
_DYING = """
import os, signal, {module}
async def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
{module}.{name} = die
from headrace.__main__ import run; run()
"""


class Reader:
    """One `headrace serve` and what a client does with it.

    Args:
        root: Folder of the tests.
        name: Of its folder.
        primary: Its primary.
        token: What it tells uploaders by.
    """

    def __init__(self, root: Path, name: str, primary: Primary, token: str = TOKEN) -> None:
        port = free_ports([0, 1])
        command = [sys.executable, "-m", "headrace", "serve", "--data", str(root / name)]
        command += ["--store", primary.store, "--port", str(port), "--workers", "1"]
        command += ["--metrics-port", str(port + 1), "--primary", primary.url, "--region", name]
        command += ["--max-upload", "20MB", "--shutdown-grace", "0"]
        self._process = subprocess.Popen(command, env={**os.environ, "HEADRACE_TOKEN": token})
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)

    def __enter__(self) -> Self:
        """Wait until it answers."""
        wait_for(self._is_up)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.client.close()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)

    def _is_up(self) -> bool:
        try:
            return self.client.get("/-/healthz").is_success
        except httpx.TransportError:
            return False

    def post(
        self, body: bytes | Iterator[bytes], filename: str, *, key: str = "", **options: str
    ) -> httpx.Response:
        """POST a file."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        if key:
            headers["Idempotency-Key"] = key
        options["filename"] = filename
        return self.client.post("/ingest", content=body, params=options, headers=headers)

    def take(self, body: bytes, filename: str, *, key: str = "", **options: str) -> str:
        """POST a file that the reader takes; give the id of its receipt."""
        answer = self.post(body, filename, key=key, **options)
        assert answer.status_code == 202, answer.text
        receipt = answer.json()
        assert answer.headers["Location"] == f"/ingest/receipts/{receipt['id']}"
        assert (receipt["state"], receipt["bytes"]) == ("received", len(body))
        return str(receipt["id"])

    def wait_end(self, receipt_id: str) -> dict[str, Any]:
        """Wait for an upload's end; give its receipt."""

        def look() -> dict[str, Any] | None:
            answer = self.client.get(f"/ingest/receipts/{receipt_id}")
            assert answer.status_code in {200, 503}, answer.text
            found: dict[str, Any] = answer.json()
            return found if found.get("state") in {"published", "failed"} else None

        return wait_for(look, timeout_s=60)

    def numbers(self, path: str, count: int) -> list[int]:
        """Read the numbers of a table once it has so many, in their order."""

        def look() -> list[int] | None:
            answer = self.client.get(f"{path}.json?_shape=array&_size=max")
            found = [row["n"] for row in answer.json()] if answer.is_success else []
            return found if len(found) >= count else None

        return sorted(wait_for(look))


def keys(store: str, prefix: str) -> list[str]:
    """List the objects under a prefix."""

    async def read() -> list[str]:
        return [each.key async for each in Store(store).list_objects(prefix, stall_s=10)]

    return asyncio.run(read())


def dying_at(module: str, name: str) -> tuple[str, str]:
    """Give what a primary runs that dies when it comes to a function."""
    return "-c", _DYING.format(module=module, name=name)


def test_uploads_without_a_primary_are_taken_and_finished_once(tmp_path: Path, store: str) -> None:
    """I1, I6, I8: a reader's 202 is kept, and finished by a primary of another volume."""
    first = Primary(tmp_path, "first", *QUICKER, store=store).start().wait_until_up()
    second = Primary(tmp_path, "second", *QUICKER, store=store)
    second.port, second.url = first.port, first.url
    large = b"n,text\n" + b"".join(b"%d,%0990d\n" % (n, n) for n in range(12_000))
    with (
        primaries(first),
        Reader(tmp_path, "here", first) as here,
        Reader(tmp_path, "there", first) as there,
    ):
        before = here.post(b"n\n1\n", "sales.csv", key="before").json()
        assert before["state"] == "published"
        first.kill()
        shutil.rmtree(first.data)

        again = here.take(b"n\n1\n", "sales.csv", key="before")
        one = here.take(b"n\n2\n", "sales.csv", key="one", mode="append")
        assert there.take(b"n\n2\n", "sales.csv", key="one", mode="append") == one
        other = there.post(b"n\n3\n", "sales.csv", key="one", mode="append")
        assert (other.status_code, other.json()["code"]) == (422, "key-reused")
        two = there.take(b"n\n4\n", "sales.csv", mode="append", metadata="title: Sales")
        bad = here.take(b"a,b\n1\n", "bad.csv")
        big = here.take(large, "large.csv")
        form = here.client.post(
            "/ingest",
            data={"mode": "create"},
            files=[("file", (f"form{n}.csv", b"n\n1\n")) for n in range(2)],
            headers={"Authorization": f"Bearer {TOKEN}", "Prefer": "wait=5"},
        )
        assert (form.status_code, form.headers["Preference-Applied"]) == (202, "wait=5")
        shown = there.client.get(f"/ingest/receipts/{one}")
        assert (shown.status_code, shown.json()["state"]) == (200, "received")
        assert here.client.get(f"/ingest/receipts/{before['id']}").status_code == 503
        refuses_what_is_wrong(here)
        assert len(keys(store, "incoming/_headrace/requests")) == 6

        second.start()
        with primaries(second):
            receipts = [here.wait_end(each) for each in (one, two, big)]
            assert [receipt["state"] for receipt in receipts] == ["published"] * 3
            assert [receipt["id"] for receipt in receipts] == [one, two, big]
            assert receipts[1]["metadata"] == {"title": "Sales"}
            assert receipts[2]["tables"][0]["rows"] == 12_000
            assert there.wait_end(bad)["error"]["code"] == "invalid-file"
            for receipt in form.json()["receipts"]:
                assert here.wait_end(receipt["id"])["mode"] == "create"
            same = here.wait_end(again)
            assert {**same, "live": None} == {**before, "live": None}
            repeated = here.post(b"n\n2\n", "sales.csv", key="one", mode="append")
            assert (repeated.status_code, repeated.json()["id"]) == (201, one)
            assert there.numbers("/sales/sales", 3) == [1, 2, 4]
            wait_for(lambda: not keys(store, "incoming"))
            assert second.metric("headrace_ingest_incoming_total") == 6
            second.stop()


def refuses_what_is_wrong(reader: Reader) -> None:
    """What the primary would refuse before it has the file, the reader refuses as well."""
    url = "/ingest?filename=sales.csv"
    stranger = {"Authorization": "Bearer of somebody else"}
    assert reader.client.post(url, content=b"n\n1\n").status_code == 401
    assert reader.client.post(url, content=b"n\n1\n", headers=stranger).status_code == 401
    for known in ({"Authorization": "Bearer hr_of-somebody"}, {"Cookie": "headrace_session=x"}):
        answer = reader.client.post(url, content=b"n\n1\n", headers=known)
        assert (answer.status_code, answer.json()["code"]) == (503, "primary-away")
    for body, options, code in (
        (b"n\n9\n", {"moode": "append"}, "invalid-option"),
        (b"n\n9\n", {"database": "../x"}, "invalid-name"),
        (b"n\n9\n", {"metadata": "allow: true"}, "invalid-metadata"),
        (b"", {}, "empty-file"),
        (bytes(20_000_001), {}, "too-large"),
    ):
        assert reader.post(body, "sales.csv", **options).json()["code"] == code
    fetch = reader.client.post(
        "/ingest", json={"url": "http://a.org/"}, headers={"Authorization": f"Bearer {TOKEN}"}
    )
    assert (fetch.status_code, fetch.json()["code"]) == (503, "primary-away")
    digest = {"Authorization": f"Bearer {TOKEN}", "Content-Digest": "sha-256=:AAAA:"}
    answer = reader.client.post(url, content=b"n\n1\n", headers=digest)
    assert answer.json()["code"] == "digest-mismatch"


def test_primary_that_dies_while_it_finishes_takes_nothing_twice(
    tmp_path: Path, store: str
) -> None:
    """I6: after kill -9 before and after the journal is replicated, each row is there once."""
    primary = Primary(tmp_path, "first", *QUICKER, store=store)
    with Reader(tmp_path, "here", primary) as reader:
        taken = [
            reader.take(b"n\n2\n", "sales.csv", mode="append"),
            reader.take(b"n\n3\n", "sales.csv", mode="append", key="three"),
        ]
        for place in (
            ("ingest.succession", "JournalReplica.keep"),
            ("ingest.incoming", "Incoming._forget"),
        ):
            primary.program = dying_at(*place)
            primary.start()
            assert primary.process.wait(60) == -signal.SIGKILL
            assert len(keys(store, "incoming/_headrace/requests")) == 2
        shutil.rmtree(primary.data)
        primary.program = ("-m", "headrace")

        with primaries(primary.start()):
            assert [reader.wait_end(each)["state"] for each in taken] == ["published"] * 2
            assert reader.numbers("/sales/sales", 2) == [2, 3]
            wait_for(lambda: not keys(store, "incoming"))
            root = {"Authorization": f"Bearer {TOKEN}"}
            audit = httpx.get(f"{primary.url}/ingest/audit", headers=root).json()["audit"]
            assert {(row["who"], row["address"]) for row in audit} == {("root", "127.0.0.1")}
            assert {row["receipt"] for row in audit} == set(taken)
            last = primary.upload(b"n\n4\n", "sales.csv", mode="append")
            assert last["tables"][0]["unchanged"] == 2
            primary.stop()


def test_upload_in_the_middle_of_which_the_primary_dies_can_be_sent_again(tmp_path: Path) -> None:
    """What was sent on is gone: the answer says so, and the same key makes it count once."""
    primary = Primary(tmp_path, "first").start().wait_until_up()
    more = threading.Event()

    def slow() -> Iterator[bytes]:
        yield b"n\n1\n"
        more.wait(30)
        yield b"2\n" * 500_000

    with primaries(primary), Reader(tmp_path, "here", primary) as reader:
        answers: list[httpx.Response] = []
        sending = threading.Thread(
            target=lambda: answers.append(reader.post(slow(), "sales.csv", key="broken"))
        )
        sending.start()
        wait_for(lambda: list((primary.data / "spool").iterdir()))
        primary.kill()
        more.set()
        sending.join()
        (answer,) = answers
        assert (answer.status_code, answer.json()["code"]) == (503, "primary-lost")
        assert "Idempotency-Key" in answer.json()["hint"]
        assert answer.headers["Retry-After"]

        taken = reader.take(b"n\n1\n", "sales.csv", key="broken")
        primary.start().wait_until_up()

        assert reader.wait_end(taken)["tables"][0]["rows"] == 1
        primary.stop()
