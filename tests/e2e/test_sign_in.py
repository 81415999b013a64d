"""Signing in, by a token or by Datasette's own sign-in, over the running system."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from datasette.app import Datasette

from headrace.actor_claim import HEADER, ActorClaim, ActorClaims
from tests.e2e.conftest import System, running
from tests.e2e.page_kit import chromium, drop
from tests.e2e.token_kit import SAME, make_token, read_audit, sign_in, upload, who_is

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "of-these-tests"  # noqa: S105 - Datasette's, of these tests
PLUGIN = """
import base64
from datasette import hookimpl

@hookimpl
def actor_from_request(request):
    name = request.cookies.get("sso")
    if name == "broken":
        raise ValueError("the identity provider is away")
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme == "Basic":
        user, _, password = base64.b64decode(encoded).decode().partition(":")
        name = user if password == "sso" else None
    return {"id": name} if name else None

@hookimpl
def permission_allowed(actor, action, resource):
    if action == "headrace-ingest" and actor and actor["id"] == "dave":
        return resource in ("daves", "daves_page", "daves_form", "daves_file")
    if action == "headrace-ingest" and actor and actor["id"] == "carol":
        return False  # metadata says yes

@hookimpl
def permission_resources_sql(actor, action):  # the same for Datasette 1.0
    from datasette.permissions import PermissionSQL
    if action == "headrace-ingest" and actor and actor["id"] == "dave":
        return PermissionSQL(
            "SELECT column1 AS parent, NULL AS child, 1 AS allow, 'his' AS reason"
            " FROM (VALUES ('daves'), ('daves_page'), ('daves_form'), ('daves_file'))"
        )
    if action == "headrace-ingest" and actor and actor["id"] == "carol":
        return PermissionSQL("SELECT 'sales' AS parent, NULL AS child, 0 AS allow, 'not' AS reason")
"""
METADATA = {
    "databases": {"sales": {"permissions": {"headrace-ingest": {"id": ["alice", "carol"]}}}}
}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Give one system, whose Datasette knows Alice."""
    root = tmp_path_factory.mktemp("sign-in")
    (root / "datasette" / "plugins").mkdir(parents=True)
    (root / "datasette" / "plugins" / "single_sign_on.py").write_text(PLUGIN)
    (root / "datasette" / "metadata.json").write_text(json.dumps(METADATA))
    flags = ["--datasette-dir", str(root / "datasette"), "--workers", "1"]
    with running(root / "data", *flags, DATASETTE_SECRET=SECRET) as system:
        system.upload(b"id\n1\n", "sales.csv")
        yield system


def ds_actor(actor: str) -> dict[str, str]:
    """Give the cookie by which Datasette knows an actor, signed by Datasette itself."""
    signed = Datasette(secret=SECRET).sign({"a": {"id": actor}}, "actor")
    return {"Cookie": f"ds_actor={signed}"}


def test_browser_signs_in_by_a_token_and_uploads_from_a_page_of_this_host(system: System) -> None:
    """The cookie is out of reach of scripts, of other sites, and of Datasette."""
    made = make_token(system, "ingest:sales", name="Bea", expires="1h")
    response = httpx.post(
        f"{system.url}/ingest/session",
        data={"token": made["token"], "next": "/ingest?a=b"},
        headers={"Origin": system.url},
    )
    assert (response.status_code, response.headers["Location"]) == (303, "/ingest?a=b")
    cookie = response.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Lax", "Path=/ingest"} <= set(cookie.split("; "))
    assert "Secure" not in cookie  # asked over http
    assert 3500 < int(cookie.partition("Max-Age=")[2].partition(";")[0]) <= 3600
    assert made["token"] not in cookie

    send = {"Cookie": cookie.partition(";")[0]}
    said = who_is(system, send)
    assert (said["signed_in"], said["name"], said["scopes"]) == (True, "Bea", ["ingest:sales"])
    assert upload(system, None, "sales", headers={**send, **SAME}).status_code == 201
    assert upload(system, None, "sales", headers={**send, "Origin": system.url}).status_code == 201
    assert upload(system, None, "wages", headers={**send, **SAME}).status_code == 403

    https = httpx.post(
        f"http://127.0.0.1:{system.port + 100}/ingest/session",
        json={"token": made["token"]},
        headers={"X-Forwarded-Proto": "https"},
    )
    assert "Secure" in https.headers["Set-Cookie"].split("; ")

    ended = httpx.post(f"{system.url}/ingest/session/end", headers={**send, **SAME})
    assert 'headrace_session=""' in ended.headers["Set-Cookie"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none", "Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"},
    ],
)
def test_form_of_another_site_is_refused(system: System, headers: dict[str, str]) -> None:
    """A cookie does not count for what another page asks for (CSRF), a session's and an actor's."""
    token = make_token(system, "admin")["token"]
    cookie = sign_in(system, token)
    for who in (cookie, ds_actor("root")):
        response = upload(system, None, "sales", headers={**who, **headers})
        assert (response.status_code, response.json()["code"]) == (403, "cross-site")
        gone = httpx.delete(f"{system.url}/ingest/databases/sales", headers={**who, **headers})
        assert gone.status_code == 403


def test_browser_behind_basic_authentication_signs_in_as_any_other(system: System) -> None:
    """What a proxy asks for says nothing of who writes; a plugin that goes by it says who does."""
    proxy, page = ("staging", "pw"), {"Accept": "text/html", **SAME}
    with httpx.Client(base_url=system.url, auth=proxy, headers=SAME) as client:
        token = make_token(system, "ingest:sales")["token"]
        assert client.post("/ingest/session", data={"token": token}).status_code == 200
        assert client.get("/ingest/session").json()["scopes"] == ["ingest:sales"]
        assert 'name="token"' not in client.get("/ingest", headers=page).text
        sent = client.post("/ingest?filename=sales.csv", content=b"id\n1\n")
        assert sent.status_code == 201
    with httpx.Client(base_url=system.url, auth=("dave", "sso")) as client:
        assert client.get("/ingest/session").json()["id"] == "actor:dave"
        assert 'name="token"' not in client.get("/ingest", headers=page).text
        url = "/ingest?filename=daves.csv"
        assert client.post(url, content=b"id\n1\n", headers=SAME).status_code == 201
        assert client.post(url, content=b"id\n1\n").json()["code"] == "cross-site"
        wrong = client.post(url, content=b"id\n1\n", headers=SAME, auth=("dave", "guessed"))
        assert wrong.status_code == 401


@pytest.mark.parametrize("path", ["https://evil.example", "//evil.example", "/\\evil.example", "x"])
def test_sign_in_leads_to_no_other_host(system: System, path: str) -> None:
    """``next`` is a path of this host."""
    fields = {"token": system.token, "next": path}
    response = httpx.post(f"{system.url}/ingest/session", data=fields)
    assert (response.status_code, response.json()["code"]) == (400, "invalid-option")


def test_sign_in_of_another_site_or_with_a_wrong_token_is_refused(system: System) -> None:
    """Nobody is signed in as somebody else."""
    evil = {"Origin": "https://evil.example"}
    url = f"{system.url}/ingest/session"
    response = httpx.post(url, data={"token": system.token}, headers=evil)
    assert response.json()["code"] == "cross-site"
    response = httpx.post(url, json={"token": "hr_wrong"})
    assert (response.status_code, "Set-Cookie" in response.headers) == (401, False)


def test_forged_cookies_and_actors_are_nobody(system: System) -> None:
    """A cookie of another key, and a header that a client makes up, say nothing."""
    forged = {"Cookie": "headrace_session=WyJyb290Iiw5OTk5OTk5OTk5XQ.AAAA", **SAME}
    assert upload(system, None, "sales", headers=forged).status_code == 401
    made_up = {"Headrace-Actor": "WyJyb290IixbIioiXV0.AAAA", **SAME}
    assert upload(system, None, "sales", headers=made_up).status_code == 401
    claims = ActorClaims(system.token)
    claim = ActorClaim(actor="root", databases=("*",))
    signed = claims.encode(claim, method="POST", path="/ingest", now_s=time.time())
    genuine = {HEADER: signed, **SAME}
    assert upload(system, None, "sales", headers=genuine).status_code == 401  # the reader drops it
    primary = f"http://127.0.0.1:{system.port + 100}/ingest?filename=sales.csv"
    assert httpx.post(primary, content=b"id\n1\n", headers=genuine).status_code == 201
    wrong = Datasette(secret="another").sign({"a": {"id": "alice"}}, "actor")  # noqa: S106
    cookie = {"Cookie": f"ds_actor={wrong}", **SAME}
    assert upload(system, None, "sales", headers=cookie).status_code == 401


def test_actor_of_datasette_uploads_where_he_may(system: System) -> None:
    """Who is signed in to Datasette, and has the permission there, needs nothing else."""
    alice = {**ds_actor("alice"), **SAME}
    assert upload(system, None, "sales", headers=alice).status_code == 201
    assert upload(system, None, "wages", headers=alice).status_code == 403
    assert upload(system, None, "sales", headers={**ds_actor("bob"), **SAME}).status_code == 403
    assert upload(system, None, "anything", headers={**ds_actor("root"), **SAME}).status_code == 201

    form = httpx.post(
        f"{system.url}/ingest",
        files={"file": ("sales.csv", b"id\n1\n")},
        data={"database": "sales"},
        headers=alice,
    )
    assert form.status_code == 201
    said = who_is(system, alice)
    assert (said["id"], said["scopes"], said["by"]) == ("actor:alice", ["ingest:sales"], "actor")
    assert httpx.get(f"{system.url}/ingest/tokens", headers=ds_actor("root")).status_code == 403
    assert ("actor:alice", "sales", "published") in {
        (row["who"], row["database"], row["outcome"]) for row in read_audit(system)
    }


def test_plugin_that_signs_people_in_gives_them_rights_or_takes_them(system: System) -> None:
    """A plugin has the last word; a token in a header is who counts beside a cookie."""
    dave = {"Cookie": "sso=dave", **SAME}
    assert upload(system, None, "daves", headers=dave).status_code == 201
    assert upload(system, None, "sales", headers=dave).status_code == 403
    carol = {"Cookie": "sso=carol", **SAME}
    assert upload(system, None, "sales", headers=carol).status_code == 403
    assert upload(system, "wrong", "daves", headers=dave).status_code == 401
    token = make_token(system, "ingest:sales")["token"]
    assert upload(system, token, "sales", headers={"Cookie": "sso=dave"}).status_code == 201
    mine = {**sign_in(system, token), **SAME}
    assert upload(system, None, "daves", headers=mine).status_code == 403


def test_actor_makes_a_database_on_the_page_as_by_its_form(system: System) -> None:
    """One that is not there yet is in no list of what he may write to: Datasette is asked of it."""
    with chromium() as browser, browser.new_context() as context:
        context.add_cookies([{"name": "sso", "value": "dave", "url": system.url}])
        page = context.new_page()
        page.goto(f"{system.url}/ingest")
        drop(page, ("daves_page.csv", "text/csv", "id\n1\n"))
        page.locator(".headrace-card").get_by_label("Database").fill("daves_page")
        page.get_by_role("button", name="Upload", exact=True).click()
        page.get_by_role("link", name="/daves_page/daves_page").wait_for(timeout=20_000)

    dave = {"Cookie": "sso=dave", **SAME}
    url = f"{system.url}/ingest"
    for path, status in {"/preview?complete=1&": 200, "?": 201}.items():
        named = f"{url}{path}filename=daves_file.csv"
        assert httpx.post(named, content=b"id\n1\n", headers=dave).status_code == status
    form = httpx.get(f"{url}?database=daves_form", headers={**dave, "Accept": "text/html"}).text
    (action,) = re.findall(r'action="([^"]*)">\s*<div class="headrace-drop">', form)
    files = {"file": ("a.csv", b"id\n1\n")}
    fields = {"database": "daves_form"}
    sent = httpx.post(system.url + action, files=files, data=fields, headers=dave)
    assert sent.status_code == 201
    assert httpx.post(url, files=files, data={"database": "a"}, headers=dave).status_code == 403


def test_write_of_whom_datasette_cannot_tell_is_to_be_sent_again(system: System) -> None:
    """It is not refused for good; a session that is signed in here needs no answer."""
    broken = upload(system, None, "daves", headers={"Cookie": "sso=broken", **SAME})
    assert (broken.status_code, broken.json()["code"]) == (502, "worker-failed")
    mine = sign_in(system, system.token)["Cookie"]
    both = {"Cookie": f"sso=broken; {mine}", **SAME}
    assert upload(system, None, "daves", headers=both).status_code == 201
