"""Files that others drop into a bucket are taken once, and moved away or kept."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import signal
import time
from base64 import b64encode
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, urlsplit

import httpx
import pytest

from headrace.incoming import IncomingFile, IncomingRequest
from headrace.keys import incoming_key, upload_key
from headrace.store import Store
from tests.conftest import wait_for
from tests.e2e.gate_kit import Gate
from tests.e2e.primary_kit import TOKEN, Primary, primaries
from tests.e2e.test_incoming import QUICKER, dying_at, keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.s3_kit import S3

AUTH = {"Authorization": f"Bearer {TOKEN}"}
FAILED = "incoming/_failed"


class Stage:
    """A primary, and who drops files.

    Args:
        primary: Looks seldom: events tell it of files.
        store: Its store.
        watched: Another place, whose files it keeps, and whose deletions it mirrors.
        gate: Holds conversions of a format up.
    """

    def __init__(self, primary: Primary, store: str, watched: str, gate: Gate) -> None:
        self.primary = primary
        self.gate = gate
        self.store = store
        self.watched = watched

    def drop(self, key: str, body: bytes, *, tell: bool = True, place: str | None = None) -> None:
        """Put an object, as boto3 or rclone would; have the store tell of it."""
        asyncio.run(Store(place or self.store).replace(key, body))
        if tell:
            self.tell(key, place=place)

    def remove(self, key: str, *, place: str, tell: bool = True) -> None:
        """Delete an object."""
        asyncio.run(Store(place).delete(key))
        if tell:
            self.tell(key, name="ObjectRemoved:Delete", place=place)

    def tell(
        self, key: str, *, name: str = "ObjectCreated:Put", place: str | None = None
    ) -> httpx.Response:
        """Post an event, as the store would."""
        parts = urlsplit(place or self.store)
        whole = f"{parts.path}/{key}".lstrip("/")
        object_ = {"key": quote_plus(whole, errors="surrogatepass")}
        event = {"s3": {"bucket": {"name": parts.netloc}, "object": object_}}
        return self.post({"Records": [{**event, "eventName": name}]})

    def post(self, document: Any, **headers: str) -> httpx.Response:
        """Post any event."""
        return httpx.post(
            f"{self.primary.url}/ingest/events",
            content=json.dumps(document),
            headers={**AUTH, **headers},
        )

    def receipts(self) -> list[dict[str, Any]]:
        """List all receipts, newest first."""
        answer = httpx.get(f"{self.primary.url}/ingest/receipts", headers=AUTH)
        found: list[dict[str, Any]] = answer.json()["receipts"]
        return found

    def receipts_of(self, filename: str) -> list[dict[str, Any]]:
        """List those of a file's name."""
        return [each for each in self.receipts() if each["filename"] == filename]

    def written_at(self, key: str) -> float:
        """Say when an object was written: seconds since 1970."""
        return asyncio.run(Store(self.store).look_at(key)).modified_at.timestamp()

    def wait_receipt(self, **wanted: Any) -> dict[str, Any]:
        """Wait for the end of an upload; give its receipt."""

        def look() -> dict[str, Any] | None:
            for each in self.receipts():
                if all(each[name] == value for name, value in wanted.items()):
                    return each if each["state"] in {"published", "failed"} else None
            return None

        return wait_for(look)

    def wait_gone(self, prefix: str) -> None:
        """Wait until nothing lies under a prefix of the store any more."""
        wait_for(lambda: not keys(self.store, prefix))

    def read(self, key: str) -> Any:
        """Read a JSON object of the store."""
        return json.loads(asyncio.run(Store(self.store).read(key)))

    def databases(self) -> list[str]:
        """List the databases."""
        found: list[str] = httpx.get(f"{self.primary.url}/ingest").json()["databases"]
        return found

    def tables(self, database: str) -> set[str]:
        """Name the tables of a database."""
        status = httpx.get(f"{self.primary.url}/ingest/status", headers=AUTH).json()
        return set(status["databases"][database]["tables"])

    def looked_at(self) -> str:
        """Say when all of the other place was last looked at."""
        told = httpx.get(f"{self.primary.url}/ingest/events", headers=AUTH).json()
        found: str = told["places"][1]["looked_at"]
        return found

    def dropped(self, place: str, outcome: str) -> float:
        """Read how many files of a place ended so."""
        labels = f'{{outcome="{outcome}",place="{place}"}}'
        return self.primary.metric(f"headrace_ingest_dropped_files_total{labels}")


@pytest.fixture(scope="module")
def stage(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Give one primary for the tests of this module; test_howto.py has one on a folder."""
    root = tmp_path_factory.mktemp("buckets")
    with pytest.MonkeyPatch.context() as patch:
        s3.give_credentials(patch)
        store, watched = (s3.url(s3.make_bucket()) for _ in range(2))
        flags = ("--watch", watched, "--mirror-deletes", "on", "--incoming-interval", "0")
        primary = Primary(root, "first", *flags, "--max-upload", "100000", store=store)
        gate = Gate(root)
        primary.env["HEADRACE_CONVERTERS"] = gate.converters
        with primaries(primary.start().wait_until_up()):
            yield Stage(primary, store, watched, gate)
            assert primary.stop() == 0


def test_dropped_file_is_published_once_and_moved(stage: Stage) -> None:
    """A file is a table, its bytes are archived; events that come again change nothing."""
    stage.drop("incoming/shop/orders.csv", b"n\n1\n2\n")
    for _ in range(3):
        assert stage.tell("incoming/shop/orders.csv").status_code == 200
    receipt = stage.wait_receipt(filename="orders.csv")
    stage.wait_gone("incoming/shop")
    assert (receipt["database"], receipt["tables"][0]["name"]) == ("shop", "orders")
    assert asyncio.run(Store(stage.store).read(receipt["archive"])) == b"n\n1\n2\n"
    assert stage.tell("incoming/shop/orders.csv").status_code == 200  # late: it is gone

    stage.drop("incoming/shop/orders.csv", b"n\n1\n2\n3\n")
    # Ids tell the second in which an object was written: within one they have no order.
    newest = stage.wait_receipt(filename="orders.csv", bytes=8)
    assert len(stage.receipts_of("orders.csv")) == 2
    assert (newest["tables"][0]["added"], newest["tables"][0]["unchanged"]) == (1, 2)
    stage.wait_gone("incoming/shop")


def test_manifest_beside_a_file_carries_its_options(stage: Stage) -> None:
    """The options of an upload lie beside the file, and go with it; the path names the table."""
    options = {"mode": "append", "types": {"zip": "text"}, "header": True}
    stage.drop("incoming/people/all/1.csv.headrace.json", json.dumps(options).encode())
    stage.drop("incoming/people/all/1.csv", b"zip\n12\n")
    receipt = stage.wait_receipt(filename="1.csv")
    assert (receipt["mode"], receipt["tables"][0]["name"]) == ("append", "all")
    assert receipt["state"] == "published"
    stage.wait_gone("incoming/people")


# What stores have for "this was written" besides S3: as in tests/unit/test_bucket_events.py.
FORMS: dict[str, Callable[[str, str], tuple[Any, dict[str, str]]]] = {
    "eventbridge": lambda bucket, key: (
        {
            "source": "aws.s3",
            "detail-type": "Object Created",
            "detail": {"bucket": {"name": bucket}, "object": {"key": key}},
        },
        {},
    ),
    "gcs-pubsub": lambda bucket, key: (
        {
            "message": {
                "attributes": {
                    "bucketId": bucket,
                    "objectId": key,
                    "eventType": "OBJECT_FINALIZE",
                }
            }
        },
        {},
    ),
    "cloudevent-binary": lambda bucket, key: (
        {"bucket": bucket, "name": key, "kind": "storage#object"},
        {
            "ce-specversion": "1.0",
            "ce-type": "google.cloud.storage.object.v1.finalized",
            "ce-source": f"//storage.googleapis.com/projects/_/buckets/{bucket}",
            "ce-subject": f"objects/{quote(key)}",
        },
    ),
    "cloudevent-structured": lambda bucket, key: (
        {
            "specversion": "1.0",
            "type": "google.cloud.storage.object.v1.finalized",
            "source": f"//storage.googleapis.com/projects/_/buckets/{bucket}",
            "subject": f"objects/{key}",
            "data": {"bucket": bucket, "name": key},
        },
        {"Content-Type": "application/cloudevents+json"},
    ),
    "azure": lambda bucket, key: (
        [
            {
                "subject": f"/blobServices/default/containers/{bucket}/blobs/{key}",
                "eventType": "Microsoft.Storage.BlobCreated",
                "data": {"api": "PutBlob"},
            }
        ],
        {},
    ),
    "seaweedfs": lambda bucket, key: (
        {"key": f"/buckets/{bucket}/{key}", "event_type": "create", "message": {}},
        {},
    ),
}


def test_event_of_every_form_has_its_file_taken(stage: Stage) -> None:
    """Whichever store tells of it, and in whatever way: the file is found, and published."""
    parts = urlsplit(stage.store)
    for form, event_of in FORMS.items():
        key = f"incoming/forms/{form} a+b.csv"
        stage.drop(key, b"n\n1\n", tell=False)
        document, headers = event_of(parts.netloc, f"{parts.path}/{key}".lstrip("/"))
        assert stage.post(document, **headers).json()["events"] == 1, form
        receipt = stage.wait_receipt(filename=f"{form} a+b.csv")
        assert (receipt["database"], receipt["state"]) == ("forms", "published"), form
    stage.wait_gone("incoming/forms")


BAD = {
    "bad/ragged.csv": (b"a,b\n1\n", "invalid-file"),
    "bad/empty.csv": (b"", "empty-file"),
    "bad/large.csv": (bytes(100_001), "too-large"),
    "in gest/spaced.csv": (b"n\n1\n", "invalid-name"),
    "ingest/reserved.csv": (b"n\n1\n", "invalid-name"),
    "bad/a/b/deep.csv": (b"n\n1\n", "invalid-name"),
    "bad/\u202ecsv.<b>'\"%2e#?*.csv": (b"a,b\n1\n", "invalid-file"),
}


def test_files_that_cannot_be_taken_are_set_aside_with_the_reason(stage: Stage) -> None:
    """Nothing is lost, nothing is tried for ever, and who dropped it finds out why."""
    for name, (body, _code) in BAD.items():
        stage.drop(f"incoming/{name}", body)
    wait_for(
        lambda: (
            all(each.startswith(FAILED) for each in keys(stage.store, "incoming"))
            and len(keys(stage.store, FAILED)) == 2 * len(BAD)
        )
    )
    for name, (body, code) in BAD.items():
        said = stage.read(f"{FAILED}/{name}.error.json")
        assert said["error"]["code"] == code
        assert asyncio.run(Store(stage.store).read(f"{FAILED}/{name}")) == body
        receipt = httpx.get(f"{stage.primary.url}/ingest/receipts/{said['receipt']}").json()
        assert (receipt["state"], receipt["error"]["code"]) == ("failed", code)


def test_manifest_that_names_another_database_is_refused(stage: Stage) -> None:
    """Who may write to the folder of one database does not write to another."""
    stage.drop("incoming/mine/x.csv.headrace.json", b'{"database": "yours"}')
    stage.drop("incoming/mine/x.csv", b"n\n1\n")
    wait_for(lambda: not keys(stage.store, "incoming/mine"))
    assert stage.read(f"{FAILED}/mine/x.csv.error.json")["error"]["code"] == "invalid-option"
    assert f"{FAILED}/mine/x.csv.headrace.json" in keys(stage.store, FAILED)
    assert "yours" not in stage.databases()


def test_file_that_was_set_aside_and_comes_back_is_taken(stage: Stage) -> None:
    """Who mends the options moves the file back, and it counts as a new one."""
    stage.drop("incoming/back/x.csv.headrace.json", b'{"mode": "sideways"}')
    stage.drop("incoming/back/x.csv", b"n\n1\n")
    wait_for(lambda: not keys(stage.store, "incoming/back"))
    # Dates of S3 are whole seconds.
    wait_for(lambda: int(time.time()) > int(stage.written_at(f"{FAILED}/back/x.csv")))
    stage.drop("incoming/back/x.csv", b"n\n1\n")
    assert stage.wait_receipt(database="back", state="published")["tables"][0]["rows"] == 1
    stage.wait_gone("incoming/back")


def test_files_of_another_bucket_are_kept_and_their_deletion_is_mirrored(stage: Stage) -> None:
    """A database goes with its file; not when more than half of the files go at once."""
    for name in ("one", "two", "three", "four"):
        stage.drop(f"{name}/data.csv", b"n\n1\n", place=stage.watched)
    for name in ("one", "two", "three", "four"):
        assert stage.wait_receipt(database=name)["state"] == "published"
    place = Store(stage.watched).url
    assert stage.dropped(place, "taken") == 4
    assert len(keys(stage.watched, "")) == 4

    stage.remove("one/data.csv", place=stage.watched)
    wait_for(lambda: "one" not in stage.databases())
    stage.drop("one/data.csv", b"n\n1\n", place=stage.watched)  # it comes back as it was
    wait_for(lambda: "one" in stage.databases())

    for name, tell in (("one", False), ("two", False), ("three", True)):
        stage.remove(f"{name}/data.csv", place=stage.watched, tell=tell)
    refused = f'headrace_ingest_dropped_deletions_refused{{place="{place}"}}'
    wait_for(lambda: stage.primary.metric(refused) == 3)
    assert {"one", "two", "three", "four"} <= set(stage.databases())
    httpx.delete(f"{stage.primary.url}/ingest/databases/two", headers=AUTH)
    stage.tell("two/data.csv", name="ObjectRemoved:Delete", place=stage.watched)
    stage.drop("three/data.csv", b"n\n1\n", place=stage.watched)
    stage.tell("one/data.csv", name="ObjectRemoved:Delete", place=stage.watched)
    wait_for(lambda: "one" not in stage.databases())
    assert {"three", "four"} <= set(stage.databases())
    wait_for(lambda: stage.dropped(place, "deleted") == 2)


def test_deletion_that_has_to_wait_is_mirrored_later(stage: Stage) -> None:
    """While another file of a database is on its way none of its tables goes; nobody asks again."""
    for name in ("gone", "kept", "more"):
        stage.drop(f"waits/{name}.csv", b"n\n1\n", place=stage.watched)
        stage.wait_receipt(filename=f"{name}.csv")
    stage.drop("waits/late.slow", b"x", place=stage.watched)
    wait_for(lambda: any(each["state"] == "converting" for each in stage.receipts_of("late.slow")))
    before = stage.looked_at()
    stage.remove("waits/gone.csv", place=stage.watched)
    wait_for(lambda: stage.looked_at() != before)
    assert stage.tables("waits") == {"gone", "kept", "more"}
    stage.gate.open()
    wait_for(lambda: stage.tables("waits") == {"slow", "kept", "more"})


def test_events_need_a_key_that_allows_nothing_else(stage: Stage) -> None:
    """Pushers that set no headers have a key for events alone; SNS is asked for it by a 401."""
    url = f"{stage.primary.url}/ingest/events"
    told = httpx.get(url, headers=AUTH).json()
    assert [each["after_taking"] for each in told["places"]] == ["move", "keep"]
    basic = b64encode(f"sns:{told['key']}".encode()).decode()
    for headers in (
        {"Authorization": f"Bearer {told['key']}"},
        {"Authorization": f"Basic {basic}"},
    ):
        assert httpx.post(url, content=b"[]", headers=headers).status_code == 200
    assert httpx.post(f"{url}?key={told['key']}", content=b"[]").status_code == 200
    for wrong in ("Basic x", f"Basic {basic[:-4]}", "Bearer x", ""):
        answer = httpx.post(f"{url}?key=x", content=b"[]", headers={"Authorization": wrong})
        assert answer.status_code == 401
        assert "Basic" in str(answer.headers.get_list("WWW-Authenticate"))
    key = {"Authorization": f"Bearer {told['key']}"}
    assert httpx.get(url, headers=key).status_code == 401
    upload = f"{stage.primary.url}/ingest?filename=x.csv"
    assert httpx.post(upload, content=b"n\n1\n", headers=key).status_code == 401
    asked = {**key, "WebHook-Request-Origin": "eventgrid.azure.net"}
    allowed = httpx.options(url, headers=asked).headers["WebHook-Allowed-Origin"]
    assert allowed == "eventgrid.azure.net"


def test_events_that_are_no_events_harm_nothing(stage: Stage) -> None:
    """Whatever is posted, the answer says what was understood of it."""
    url = f"{stage.primary.url}/ingest/events"
    assert httpx.post(url, content=b"{", headers=AUTH).json()["code"] == "bad-request"
    assert httpx.post(url, content=b"[" * 90_000, headers=AUTH).json()["code"] == "bad-request"
    large = httpx.post(url, content=bytes(1_100_000), headers=AUTH)
    assert large.json()["code"] == "too-large"
    for key in ("incoming/x/../../lease", "incoming//x.csv", "incoming/x/\ud800.csv", "x" * 5000):
        assert stage.tell(key).status_code == 200
    bucket = {"bucket": {"name": 7}, "object": {"key": None}}
    assert stage.post({"Records": [{"s3": bucket, "eventName": []}]}).json()["events"] == 0
    assert stage.tell("incoming/x/y.csv").status_code == 200
    stage.drop("incoming/x/y.csv", b"n\n1\n")
    assert stage.wait_receipt(filename="y.csv")["state"] == "published"
    stage.wait_gone("incoming/x")


async def leave_as_a_reader(store: Store, receipt_id: str) -> None:
    """Leave an upload as a reader does that cannot tell the primary of it."""
    body = b"n\n1\n"
    file = IncomingFile(
        receipt_id=receipt_id,
        filename="late.csv",
        media_type=None,
        bytes=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        archive=upload_key(receipt_id, "late.csv"),
    )
    request = IncomingRequest(
        key=None,
        fields={},
        files=(file,),
        arrived_at=datetime.now(UTC),
        reader="reader",
        region="here",
    )
    await store.replace(file.archive, body)
    await store.create(incoming_key(request.id), request.encode())


def test_primary_that_dies_between_any_two_steps_takes_a_file_once(
    tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I6: a file counts once; and the look that finds it finds what readers took as well."""
    s3.give_credentials(monkeypatch)
    store = s3.url(s3.make_bucket())
    primary = Primary(tmp_path, "first", *QUICKER, "--incoming-interval", "0.2", store=store)
    drop = Store(store).replace
    asyncio.run(drop("incoming/sales/all.csv.headrace.json", b'{"mode": "append"}'))
    asyncio.run(drop("incoming/sales/all.csv", b"n\n1\n"))
    for place in (
        ("ingest.buckets.taking", "accept"),
        ("ingest.buckets.taking", "Taker._let_go"),
    ):
        primary.program = dying_at(*place)
        with primaries(primary.start()):
            assert primary.process.wait(60) == -signal.SIGKILL
        assert "incoming/sales/all.csv" in keys(store, "incoming")
    shutil.rmtree(primary.data)
    primary.program = ("-m", "headrace")
    with primaries(primary.start().wait_until_up()):
        wait_for(lambda: not keys(store, "incoming"))
        last = primary.upload(b"n\n2\n", "sales.csv", database="sales", table="all", mode="append")
        assert last["tables"][0]["unchanged"] == 1
        receipts = f"{primary.url}/ingest/receipts"
        answer = httpx.get(receipts, headers=AUTH)
        assert len(answer.json()["receipts"]) == 2
        asyncio.run(leave_as_a_reader(Store(store), "01".zfill(32)))
        wait_for(lambda: '"late.csv"' in httpx.get(receipts, headers=AUTH).text)
        primary.stop()
