"""Files that the primary fetches, from a real web server, and from where it must not."""

from __future__ import annotations

import re
import sqlite3
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import wait_for
from tests.e2e.conftest import System, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

CITIES = b"city,people\nBern,133000\n"


class Web(BaseHTTPRequestHandler):
    """What is on the web."""

    server: Site

    def do_GET(self) -> None:
        """Answer."""
        self.server.asked.append((self.path, dict(self.headers)))
        path = self.path.partition("?")[0]
        if path in self.server.redirects:
            return self._say(302, headers={"Location": self.server.redirects[path]})
        if path == "/slow.csv":
            return self._drip()
        if path not in self.server.files:
            return self._say(404, b"no")
        tag = f'"{hash(self.server.files[path])}"'
        headers = {"ETag": tag} if path.startswith("/tagged") else {}
        if headers and self.headers["If-None-Match"] == tag:
            return self._say(304, headers=headers)
        return self._say(200, self.server.files[path], headers)

    def _say(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while not self.server.closing.wait(0.05):
                self.wfile.write(b"a\n")
        except OSError:
            self.server.cut.set()

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


class Site(ThreadingHTTPServer):
    """A web server of the test.

    Attributes:
        files: By path.
        redirects: Where paths lead to.
        asked: Paths and headers of the requests.
        cut: Set when somebody hung up in the middle.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Web)
        self.files: dict[str, bytes] = {"/cities.csv": CITIES}
        self.redirects: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.closing = threading.Event()
        self.cut = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving() -> Iterator[Site]:
    """Run a web server while the block runs."""
    site = Site()
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield site
    finally:
        site.closing.set()
        site.shutdown()
        thread.join()
        site.server_close()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Give the web server that may be fetched from."""
    with serving() as site:
        yield site


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[System]:
    """Give one system that may fetch from that server, and from two names."""
    data = tmp_path_factory.mktemp("system") / "data"
    flags = ("--fetch", f"{site.url},localhost,no-such-name.invalid", "--fetch-time", "5")
    with running(data, "--max-upload", "1000000", "--workers", "1", *flags) as system:
        yield system


def fetch(system: System, url: str, *, key: str = "", **options: Any) -> httpx.Response:
    """Ask for a file to be fetched."""
    headers = {**system.auth, **({"Idempotency-Key": key} if key else {})}
    return system.client.post("/ingest", json={"url": url, **options}, headers=headers)


def problem(system: System, url: str, **options: Any) -> tuple[str, str]:
    """Ask for a file that is not to be had; give the code, and what is said."""
    answer = fetch(system, url, **options)
    receipt = system.client.get(answer.headers["Location"]).json()
    assert receipt["state"] == "failed"
    assert receipt["error"]["code"] == answer.json()["code"]
    return answer.json()["code"], answer.json()["detail"]


def test_file_is_fetched_as_if_it_had_been_sent(system: System, site: Site) -> None:
    """The URL names it, options hold, and the receipt says from where, without secrets."""
    answer = fetch(
        system, f"{site.url}/cities.csv?key=secret", pk=["city"], metadata={"title": "X"}
    )
    assert answer.status_code == 201, answer.text
    receipt = answer.json()
    assert (receipt["url"], receipt["filename"]) == ("/cities/cities", "cities.csv")
    assert receipt["source_url"] == f"{site.url}/cities.csv?…"
    system.wait_until_live(receipt)
    assert system.rows("/cities/cities") == [{"city": "Bern", "people": 133000}]
    assert receipt["metadata"] == {"title": "X"}
    assert site.asked[-1][0] == "/cities.csv?key=secret"
    assert site.asked[-1][1]["User-Agent"].startswith("Headrace/")


def test_redirect_is_followed_and_names_the_file(system: System, site: Site) -> None:
    """Where a short URL leads is fetched, under the name of the URL that was asked for."""
    site.redirects["/short.csv"] = "/longer"
    site.redirects["/longer"] = f"{site.url}/cities.csv"
    assert fetch(system, f"{site.url}/short.csv").json()["database"] == "short"


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/iam/",
        "http://[::ffff:169.254.169.254]/latest/",
        "http://127.0.0.1:{other}/secret.csv",
        "http://0x7f000001:{other}/secret.csv",
        "http://2130706433/secret.csv",
        "http://127.1/secret.csv",
        "http://[::1]:{other}/secret.csv",
        "http://localhost/secret.csv",
        "http://localhost:{other}/secret.csv",
    ],
)
def test_redirect_into_the_private_network_is_not_followed(
    system: System, site: Site, target: str
) -> None:
    """However an address is written or named: what is not public is never even connected to."""
    with serving() as other:
        url = target.format(other=other.server_port)
        site.redirects["/away.csv"] = url
        assert problem(system, f"{site.url}/away.csv")[0] == "fetch-forbidden"
        assert problem(system, url, database="x")[0] == "fetch-forbidden"
        assert other.asked == []


def test_file_that_cannot_be_had_is_said_to_be_so(system: System, site: Site) -> None:
    """What is missing, endless, too large, or leads in circles changes nothing, and says why."""
    before = system.client.get("/ingest").json()["databases"]
    site.files["/large.csv"] = b"a\n" * 600_000
    site.redirects["/circle.csv"] = "/circle.csv"
    site.redirects["/file.csv"] = "file:///etc/passwd"
    assert "answered 404" in problem(system, f"{site.url}/none.csv")[1]
    assert problem(system, f"{site.url}/large.csv")[0] == "too-large"
    assert "more than 5" in problem(system, f"{site.url}/circle.csv")[1]
    assert "no http or https URL" in problem(system, f"{site.url}/file.csv")[1]
    assert "no address" in problem(system, "http://no-such-name.invalid/a.csv")[1]
    assert "within 5 s" in problem(system, f"{site.url}/slow.csv")[1]
    assert site.cut.wait(20)
    assert system.client.get("/ingest").json()["databases"] == before


def test_file_that_has_not_changed_makes_no_generation(system: System, site: Site) -> None:
    """The server, or else the SHA-256, says that it is the same: the last receipt is the answer."""
    for path in ("/tagged.csv", "/plain.csv"):
        site.files[path] = CITIES
        first = fetch(system, site.url + path, mode="append").json()
        again = fetch(system, site.url + path, mode="append")
        assert again.status_code == 200
        assert (again.json()["id"], again.json()["generation"]) == (
            first["id"],
            first["generation"],
        )
        assert "has not changed since" in again.json()["warnings"][-1]
        site.files[path] = b"city,people\nBasel,171000\n"
        changed = fetch(system, site.url + path, mode="append").json()
        system.wait_until_live(changed)
        assert [row["city"] for row in system.rows(first["url"])] == ["Bern", "Basel"]
    tagged = [headers for path, headers in site.asked if path == "/tagged.csv"]
    assert ["If-None-Match" in headers for headers in tagged] == [False, True, True]

    site.files["/tagged2.csv"] = CITIES
    fetch(system, f"{site.url}/tagged2.csv")
    system.client.delete("/ingest/databases/tagged2", headers=system.auth)
    assert fetch(system, f"{site.url}/tagged2.csv").status_code == 201  # it is wanted again


def test_key_used_again_fetches_nothing(system: System, site: Site) -> None:
    """The same request with the same key counts once, also if the file has changed since."""
    site.files["/once.csv"] = CITIES
    first = fetch(system, f"{site.url}/once.csv", key="one").json()
    site.files["/once.csv"] = CITIES * 2
    asked = len(site.asked)
    assert fetch(system, f"{site.url}/once.csv", key="one").json()["id"] == first["id"]
    assert len(site.asked) == asked
    other = fetch(system, f"{site.url}/cities.csv", key="one")
    assert other.json()["code"] == "key-reused"


def test_json_that_is_a_file_is_taken_as_a_file(system: System, site: Site) -> None:
    """A document with a member `url` is rows, wherever it names a database or a file."""
    asked = len(site.asked)
    body = f'[{{"url": "{site.url}/cities.csv"}}]'.encode()
    headers = {**system.auth, "Content-Type": "application/json"}
    params = {"database": "links"}
    answer = system.client.post("/ingest", content=body, params=params, headers=headers)
    assert answer.status_code == 201, answer.text
    assert len(site.asked) == asked
    unnamed = system.client.post("/ingest", content=body, headers=headers)
    assert (unnamed.status_code, "filename" in unnamed.json()["hint"]) == (400, True)
    assert system.client.post("/ingest", json={"url": site.url}).status_code == 401


def test_schedule_fetches_at_its_time_and_says_what_came_of_it(system: System, site: Site) -> None:
    """It is kept, runs, notices what is unchanged, tells its failures, and can be removed."""
    site.files["/daily.csv"] = CITIES
    asked = {"url": f"{site.url}/daily.csv?key=secret", "cron": "0 6 * * *", "database": "daily"}
    made = system.client.post("/ingest/schedules", json=asked, headers=system.auth)
    assert made.status_code == 201, made.text
    path = made.headers["Location"]
    ran = system.client.post(f"{path}/run", headers=system.auth).json()
    assert ran["last_outcome"] == "published"
    receipt = system.client.get(f"/ingest/receipts/{ran['last_receipt']}").json()
    assert receipt["url"] == "/daily/daily"
    assert system.client.post(f"{path}/run", headers=system.auth).json()["last_outcome"] == (
        "unchanged"
    )
    del site.files["/daily.csv"]
    failed = system.client.post(f"{path}/run", headers=system.auth).json()
    assert (failed["last_outcome"], failed["failures"]) == ("failed", 1)
    assert "404" in failed["last_error"]["detail"]

    listed = system.client.get("/ingest/schedules", headers=system.auth)
    assert "secret" not in listed.text
    assert [each["cron"] for each in listed.json()["schedules"]] == ["0 6 * * *"]
    assert system.client.get("/ingest/schedules").status_code == 401
    assert system.client.post("/ingest/schedules", json=asked).status_code == 401
    assert system.client.delete(path, headers=system.auth).status_code == 200
    assert system.client.get(path, headers=system.auth).status_code == 404
    for wrong in ({"cron": "daily"}, {"url": "http://10.0.0.1/x.csv"}, {"timezone": "Here"}):
        answer = system.client.post("/ingest/schedules", json=asked | wrong, headers=system.auth)
        assert answer.json()["code"] in {"invalid-option", "fetch-forbidden"}


def test_schedule_runs_when_its_time_has_come(system: System, site: Site) -> None:
    """Nobody has to ask: what is due is fetched, once, and has a next time."""
    site.files["/due.csv"] = CITIES
    asked = {"url": f"{site.url}/due.csv", "cron": "0 6 1 1 *"}
    made = system.client.post("/ingest/schedules", json=asked, headers=system.auth).json()
    path = f"/ingest/schedules/{made['id']}"
    folder = system.data / "primary" / "dbs" / "_headrace"
    [journal] = (path for path in folder.iterdir() if re.fullmatch("[0-9a-f]{16}", path.name))
    with closing(sqlite3.connect(journal, timeout=10)) as db, db:  # time passes
        db.execute(
            "UPDATE notes SET note = json_set(note, '$.next_at', '2026-01-01T06:00:00.000Z') "
            "WHERE id = ?",
            (made["id"],),
        )
    other = system.client.post("/ingest/schedules", json=asked, headers=system.auth).json()
    ran = wait_for(
        lambda: (
            (found := system.client.get(path, headers=system.auth).json())["last_outcome"] and found
        ),
        timeout_s=20,
    )
    assert (ran["last_outcome"], ran["failures"]) == ("published", 0)
    assert ran["next_at"] == made["next_at"]
    assert [path for path, _ in site.asked].count("/due.csv") == 1
    untouched = system.client.get(f"/ingest/schedules/{other['id']}", headers=system.auth).json()
    assert untouched["last_at"] is None


def test_token_of_one_database_fetches_into_that_one_alone(system: System, site: Site) -> None:
    """Who may write to one database sees and makes schedules of that, as long as he may."""
    site.files["/mine.csv"] = site.files["/yours.csv"] = CITIES
    made = system.client.post(
        "/ingest/tokens", json={"scopes": ["ingest:mine"]}, headers=system.auth
    )
    assert made.status_code == 201, made.text
    mine = {"Authorization": f"Bearer {made.json()['token']}"}

    def ask(url: str, **more: str) -> httpx.Response:
        path = "/ingest/schedules" if "cron" in more else "/ingest"
        return system.client.post(path, json={"url": site.url + url, **more}, headers=mine)

    assert ask("/mine.csv").status_code == 201
    assert ask("/yours.csv").json()["code"] == "forbidden"
    assert ask("/mine.csv", database="yours").json()["code"] == "forbidden"
    assert ask("/yours.csv", cron="0 6 * * *").json()["code"] == "forbidden"
    assert "yours" not in system.client.get("/ingest").json()["databases"]
    own = ask("/mine.csv", cron="0 6 * * *").json()
    everybody = {"url": f"{site.url}/yours.csv", "cron": "0 6 * * *"}
    other = system.client.post("/ingest/schedules", json=everybody, headers=system.auth).json()
    seen = system.client.get("/ingest/schedules", headers=mine).json()["schedules"]
    assert [each["id"] for each in seen] == [own["id"]]
    removed = system.client.delete(f"/ingest/schedules/{other['id']}", headers=mine)
    assert removed.status_code == 404
    token = made.json()["id"]
    assert system.client.delete(f"/ingest/tokens/{token}", headers=system.auth).status_code == 200
    ran = system.client.post(f"/ingest/schedules/{own['id']}/run", headers=system.auth).json()
    assert (ran["last_outcome"], ran["last_error"]["code"]) == ("failed", "forbidden")
