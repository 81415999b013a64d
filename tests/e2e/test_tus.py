"""Resumable uploads on the running system, by hand and with the clients that people have."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from tusclient.client import TusClient
from tusclient.request import TusRequest

from tests.conftest import wait_for
from tests.e2e.conftest import running
from tests.e2e.primary_kit import TOKEN, Primary, primaries
from tests.e2e.tus_kit import Tus, kept_bytes
from tests.faults.links import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.conftest import System

MIB = 1024**2
MAX_HEADS_BYTES = 10_000  # of the requests by which a client goes on
NPM = Path(__file__).parents[1] / "npm"


@dataclass(frozen=True, kw_only=True)
class Survivors:
    """What became of uploads that were on their way when primary and reader were killed.

    Attributes:
        tuspy: Receipt of what tuspy has sent.
        node: Receipts of what tus-js-client has sent: whole, and in parts.
        long: Path of an upload of which one long request was cut.
        told: What was answered while the primary was away: to HEAD, to PATCH.
    """

    tuspy: str
    node: list[str]
    long: str
    told: tuple[int, int]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Path]]:
    """Install tus-js-client while the system starts; gives what waits for it: the folder then."""
    folder = tmp_path_factory.mktemp("npm")
    shutil.copytree(NPM, folder, dirs_exist_ok=True)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE) as installing:

        def wait() -> Path:
            assert installing.wait(60) == 0
            return folder

        yield wait


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, node: Callable[[], Path]) -> Iterator[System]:
    """Give one system with two readers."""
    data = tmp_path_factory.mktemp("system") / "data"
    with running(data, "--workers", "1", "--max-upload", "100MB", readers=2) as system:
        yield system


@pytest.fixture(scope="module")
def tus(system: System) -> Tus:
    """Give requests to the second reader, which is not killed."""
    return Tus(system, 1)


def table(rows: int, value: str = "x") -> bytes:
    """Make a file."""
    return b"n,value\n" + b"".join(f"{n},{value}\n".encode() for n in range(rows))


LONG = table(40, "y" * MIB)
CHUNKED = table(5, "v" * MIB)
SMALL = table(40_000)


@pytest.fixture(scope="module")
def survivors(system: System, tus: Tus, node: Callable[[], Path]) -> Survivors:
    """Kill primary and reader in the middle of four uploads, and wait until these are done."""
    long = tus.begin(len(LONG), filename="long.csv")
    record = system.data / "primary" / "tus" / f"{long.rpartition('/')[2]}.json"
    gated = Gated(CHUNKED, at=3)
    with ThreadPoolExecutor() as threads, sending_by_node(system, node()) as sending:
        chunked = threads.submit(upload_by_tuspy, system.port, system, gated)
        assert sending.stdout
        assert [sending.stdout.readline() for _ in range(2)] == ["paused\n"] * 2
        assert gated.reached.wait(30)
        with tus.sending(long, 0, LONG[: 36 * MIB], len(LONG)):
            wait_for(lambda: json.loads(record.read_bytes())["offset"] >= 32 * MIB)
            with system.primary_away():
                told = tus.head(long).status_code, tus.patch(long, 0, b"x").status_code
                system.kill("serve")
                gated.go.set()
                assert sending.stdin
                sending.stdin.write("go\n")
                sending.stdin.flush()
        done = json.loads(sending.communicate(timeout=60)[0])
        assert all({200, 201, 204} < set(each["statuses"]) for each in done)  # some were not
        return Survivors(
            tuspy=chunked.result(), node=[each["receipt"] for each in done], long=long, told=told
        )


@contextmanager
def sending_by_node(system: System, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Have tus-js-client send two files through the first reader."""
    (folder / "file.csv").write_bytes(SMALL)
    command = ["node", "upload.mjs", f"{system.url}/ingest/tus", system.token, "file.csv"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, stdin=pipe, stdout=pipe, text=True) as sending:
        try:
            yield sending
        finally:
            sending.kill()


class Gated(io.BytesIO):
    """A file that is not read on at a chunk until it is told.

    Attributes:
        reached: Set when it is there.
        go: To be set.
    """

    def __init__(self, body: bytes, *, at: int | None = None) -> None:
        super().__init__(body)
        self.reached, self.go = threading.Event(), threading.Event()
        self._at = at
        self._reads = 0

    def read(self, size: int | None = -1) -> bytes:
        """Read."""
        self._reads += 1
        if self._reads == self._at:
            self.reached.set()
            assert self.go.wait(60)
        return super().read(size)


def upload_by_tuspy(
    port: int, system: System, body: io.BytesIO, chunk_bytes: int = MIB, *, checksum: bool = True
) -> str:
    """Have tuspy upload, and try again soon and often; give the id of the receipt."""
    client = TusClient(f"http://127.0.0.1:{port}/ingest/tus", headers=system.auth)
    uploader = client.uploader(
        file_stream=body,
        chunk_size=chunk_bytes,
        metadata={"filename": "sent.csv", "database": f"tuspy{checksum:d}", "mode": "create"},
        retries=200,
        retry_delay=0.1,
        upload_checksum=checksum,
    )
    uploader.upload()
    assert isinstance(uploader.request, TusRequest)
    receipt_id: str = uploader.request.response_headers["headrace-receipt"]
    return receipt_id


def sha256(body: bytes) -> str:
    """Hash."""
    return hashlib.sha256(body).hexdigest()


def count_receipts(system: System, filename: str) -> int:
    """Count the receipts of a file."""
    answer = httpx.get(f"http://127.0.0.1:{system.port + 1}/ingest/receipts", headers=system.auth)
    return [each["filename"] for each in answer.json()["receipts"]].count(filename)


def test_tuspy_survives_that_primary_and_reader_are_killed(
    tus: Tus, system: System, survivors: Survivors
) -> None:
    """A file that tuspy sends in chunks arrives once and whole, as its metadata say."""
    receipt = tus.wait_until_live(survivors.tuspy)
    assert (receipt["sha256"], receipt["mode"]) == (sha256(CHUNKED), "create")
    assert (receipt["url"], receipt["tables"][0]["rows"]) == ("/tuspy1/sent", 5)
    assert count_receipts(system, "sent.csv") == 1


def test_tus_js_client_survives_that_primary_and_reader_are_killed(
    tus: Tus, system: System, survivors: Survivors
) -> None:
    """A file that tus-js-client sends arrives once, whole as well as in parts."""
    for receipt_id, name in zip(survivors.node, ("of-1", "of-3"), strict=True):
        receipt = tus.wait_until_live(receipt_id)
        assert (receipt["sha256"], receipt["url"]) == (sha256(SMALL), f"/node/{name}")
        assert count_receipts(system, f"{name}.csv") == 1


def test_bytes_before_the_primary_was_killed_are_there_after_it(
    tus: Tus, survivors: Survivors
) -> None:
    """Of one long request all but the last 32 MiB survives; who asks meanwhile is told to wait."""
    assert survivors.told == (423, 503)  # another than 423 makes tus-js-client begin anew
    offset = tus.offset(survivors.long)
    assert 32 * MIB <= offset <= 36 * MIB
    answer = tus.patch(survivors.long, offset, LONG[offset:])
    assert answer.status_code == 204
    assert tus.receipt(answer.headers["Headrace-Receipt"])["sha256"] == sha256(LONG)


def test_tuspy_goes_on_where_a_connection_was_cut(tus: Tus, system: System) -> None:
    """What came before a connection was reset is not sent again."""
    body = table(4, "w" * MIB)
    link = Link(lambda: tus.port)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(link.listening()),
        ThreadPoolExecutor() as threads,
    ):
        link.silent_at_bytes = 2_500_000
        sending = threads.submit(
            upload_by_tuspy, link.port, system, io.BytesIO(body), 2**40, checksum=False
        )
        wait_for(lambda: link.silent_at_bytes is None and kept_bytes(system) >= 2 * MIB)
        portal.call(link.set_mode, "reset")
        before = link.sent_bytes
        portal.call(link.set_mode, "pass")
        receipt_id = sending.result()
    assert tus.receipt(receipt_id)["sha256"] == sha256(body)
    assert link.sent_bytes - before < len(body) - 2 * MIB + MAX_HEADS_BYTES


def bytes_of(system: System, path: str) -> int:
    """Give how many bytes of an upload the primary has written."""
    return (system.data / "primary" / "tus" / path.rpartition("/")[2]).stat().st_size


def test_newest_request_ends_the_one_that_waits_for_bytes(system: System, tus: Tus) -> None:
    """A client whose old connection is half open goes on at once, with what came of it."""
    body = table(3, "a" * MIB)
    path = tus.begin(len(body), filename="half.csv")
    with tus.sending(path, 0, body[: 2 * MIB], len(body)) as old:
        wait_for(lambda: bytes_of(system, path) >= MIB)
        offset = tus.offset(path)
        assert MIB <= offset <= 2 * MIB
        assert tus.patch(path, offset, body[offset:]).status_code == 204
        old.settimeout(20)
        assert old.recv(100).startswith(b"HTTP/1.1 423 ")


def test_last_request_sent_again_makes_no_second_receipt(system: System, tus: Tus) -> None:
    """A client that did not see the answer finds the receipt of the first time."""
    body = table(3)
    path = tus.begin(len(body), filename="again.csv", mode="append")
    first = tus.patch(path, 0, body)
    assert tus.patch(path, 0, body).status_code == 409
    empty = tus.patch(path, len(body), b"")
    assert (empty.status_code, empty.headers["Headrace-Receipt"]) == (
        204,
        first.headers["Headrace-Receipt"],
    )
    head = tus.head(path)
    assert head.headers["Headrace-Receipt"] == first.headers["Headrace-Receipt"]
    assert head.headers["Upload-Length"] == head.headers["Upload-Offset"] == str(len(body))
    assert count_receipts(system, "again.csv") == 1


def test_upload_begun_again_with_its_key_counts_once(tus: Tus) -> None:
    """The same Idempotency-Key and bytes give the same receipt, also as another upload."""
    key = {"Idempotency-Key": "of-the-test"}
    one, two = (tus.create(8, b"n\n1\n2\n3\n", headers=key, filename="key.csv") for _ in range(2))
    assert (one.status_code, two.status_code) == (201, 201)
    assert one.headers["Headrace-Receipt"] == two.headers["Headrace-Receipt"]
    assert one.headers["Location"] != two.headers["Location"]


def test_chunk_with_another_checksum_is_discarded(system: System, tus: Tus) -> None:
    """A damaged chunk is told by each algorithm, and the upload stays where it was."""
    body = table(2, "c" * MIB)
    path = tus.begin(len(body), filename="sum.csv")
    with tus.sending(path, 0, body[:-1], len(body)):
        wait_for(lambda: bytes_of(system, path) >= MIB)
        offset = tus.offset(path)
    rest = body[offset:]
    for algorithm in ("sha1", "sha256", "md5"):
        checksum = base64.b64encode(hashlib.new(algorithm, rest).digest()).decode()
        damaged = rest[:-1] + b"x"
        answer = tus.patch(path, offset, damaged, Upload_Checksum=f"{algorithm} {checksum}")
        assert (answer.status_code, answer.json()["code"]) == (460, "checksum-mismatch")
        assert tus.offset(path) == offset
    assert tus.patch(path, offset, rest, Upload_Checksum="crc32 AAAAAA==").status_code == 400
    answer = tus.patch(path, offset, rest, Upload_Checksum=f"{algorithm} {checksum}")
    assert tus.receipt(answer.headers["Headrace-Receipt"])["sha256"] == sha256(body)


def test_upload_that_is_terminated_is_gone(tus: Tus) -> None:
    """Nobody can go on with it; another method than DELETE may say so."""
    for method in ("DELETE", "POST"):
        path = tus.begin(12, filename="ended.csv")
        headers = {**tus.headers, "X-HTTP-Method-Override": "DELETE"}
        assert httpx.request(method, f"{tus.url}{path}", headers=headers).status_code == 204
        assert tus.head(path).status_code == 404
        assert tus.patch(path, 0, b"n").status_code == 404


def test_parts_become_one_upload_however_often_it_is_asked_for(system: System, tus: Tus) -> None:
    """Parts sent over both readers are one file; asking again gives the same upload."""
    body, partial = table(50), {"Upload-Concat": "partial"}
    half = len(body) // 2
    one = tus.create(half, body[:half], headers=partial).headers["Location"]
    two = Tus(system, 0).create(None, headers={**partial, "Upload-Defer-Length": "1"})
    two_path = two.headers["Location"]
    assert tus.head(two_path).headers["Upload-Defer-Length"] == "1"
    concat = {"Upload-Concat": f"final;{tus.url}{one} {two_path}"}
    early = tus.create(None, headers=concat, filename="parts.csv")
    assert early.status_code == 400
    length = str(len(body) - half)
    assert tus.patch(two_path, 0, body[half:], Upload_Length=length).status_code == 204
    finals = [tus.create(None, headers=concat, filename="parts.csv") for _ in range(2)]
    assert {each.status_code for each in finals} == {201}
    (path,) = {each.headers["Location"] for each in finals}
    (receipt_id,) = {each.headers["Headrace-Receipt"] for each in finals}
    assert tus.receipt(receipt_id)["sha256"] == hashlib.sha256(body).hexdigest()
    assert tus.patch(path, len(body), b"").status_code == 403
    assert tus.head(path).headers["Upload-Concat"] == concat["Upload-Concat"]
    left = sorted(each.suffix for each in (system.data / "primary" / "tus").glob(f"{one[-32:]}*"))
    assert left == [".json"]  # the bytes of the parts are gone


def test_wrong_requests_are_refused_before_a_byte_is_sent(tus: Tus) -> None:
    """Options, names, sizes, versions and tokens are looked at when an upload is made."""
    refused = {
        "invalid-option": tus.create(8, filename="a.csv", tabel="b"),
        "invalid-name": tus.create(8, database="../a"),
        "bad-request": tus.create(None, filename="a.csv"),
        "empty-file": tus.create(0, filename="a.csv"),
        "too-large": tus.create(100_000_001, filename="a.csv"),
        "unauthorized": tus.create(8, headers={"Authorization": ""}, filename="a.csv"),
        "tus-version": tus.create(8, headers={"Tus-Resumable": "0.2.2"}, filename="a.csv"),
        "wrong-media-type": tus.create(8, b"n", headers={"Content-Type": "text/csv"}, filename="a"),
        "not-found": tus.patch(f"/ingest/tus/{'0' * 32}", 0, b"n"),
    }
    assert {answer.json()["code"] for answer in refused.values()} == refused.keys()
    assert refused["tus-version"].headers["Tus-Version"] == "1.0.0"
    assert all(answer.headers["Tus-Resumable"] == "1.0.0" for answer in refused.values())
    options = httpx.options(f"{tus.url}/ingest/tus")
    assert options.status_code == 204
    assert options.headers["Tus-Max-Size"] == "100000000"
    assert "sha1" in options.headers["Tus-Checksum-Algorithm"].split(",")


def test_bytes_before_a_reader_was_killed_are_there_after_it(system: System, tus: Tus) -> None:
    """What a reader has passed on is at the primary, and the other reader can go on with it."""
    wait_for(system.is_ready, timeout_s=30)
    body = table(4, "z" * MIB)
    path = tus.begin(len(body), filename="passed.csv")
    with Tus(system, 0).sending(path, 0, body[: 3 * MIB], len(body)):
        wait_for(lambda: bytes_of(system, path) >= 2 * MIB)
        system.kill("serve")
    offset = tus.offset(path)
    assert 2 * MIB <= offset <= 3 * MIB
    assert tus.patch(path, offset, body[offset:]).headers["Upload-Offset"] == str(len(body))


def test_upload_that_gets_no_more_bytes_expires(tmp_path: Path) -> None:
    """An unfinished upload is dropped with its bytes, at the time that its client was told."""
    primary = Primary(tmp_path, "a", "--tus-expiry", "0.0002").start()
    with primaries(primary):
        primary.wait_until_up()
        headers = {"Authorization": f"Bearer {TOKEN}", "Tus-Resumable": "1.0.0"}
        headers |= {"Upload-Length": "9", "Upload-Metadata": "filename YS5jc3Y="}
        made = httpx.post(f"{primary.url}/ingest/tus", headers=headers)
        assert "GMT" in made.headers["Upload-Expires"]
        url = f"{primary.url}{made.headers['Location']}"
        wait_for(lambda: httpx.head(url, headers=headers).status_code == 404)
        wait_for(lambda: not any((primary.data / "tus").iterdir()))
        assert primary.metric("headrace_ingest_tus_expired_total") == 1
