"""Who may write what, and what is believed of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from headrace.actor_claim import ActorClaim, ActorClaims
from headrace.errors import Refusal
from headrace.names import MAX_DATABASE_NAME
from ingest.same_origin import require_same_origin
from ingest.sessions import Sessions
from ingest.writer import MAX_SCOPES, Writer, read_scopes

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
CLAIM = ActorClaim(actor="alice", databases=("sales",))


@pytest.mark.parametrize(
    ("scopes", "sees", "admin"),
    [
        ("ingest:sales", {"sales"}, False),
        ("ingest:sales,ingest:more", {"sales", "more"}, False),
        ("ingest:*", {"sales", "more", "wages", None}, False),
        ("admin", {"sales", "more", "wages", None}, True),
    ],
)
def test_scopes_allow_what_they_say_and_nothing_else(
    scopes: str, sees: set[str | None], *, admin: bool
) -> None:
    """One database, several, all, or everything."""
    writer = Writer(id="token:1", name="", scopes=read_scopes([scopes]))
    assert {name for name in ("sales", "more", "wages", "SALES", "sale", None) if writer.sees(name)}
    assert {name for name in ("sales", "more", "wages", None) if writer.sees(name)} == sees
    assert writer.is_admin is admin


@pytest.mark.parametrize(
    "texts",
    [
        [],
        [" , "],
        ["everything"],
        ["ingest:"],
        ["ingest:a b/../c"],
        ["ingest:_headrace"],
        ["Admin"],
        ["read"],
        [f"ingest:d{number}" for number in range(MAX_SCOPES + 1)],
    ],
)
def test_scopes_that_say_nothing_known_are_refused(texts: list[str]) -> None:
    """A token never has a scope that nobody understands."""
    with pytest.raises(Refusal) as refusal:
        read_scopes(texts)
    assert refusal.value.code in {"invalid-option", "invalid-name"}


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://other"}, True),
        ({"Sec-Fetch-Site": "same-site", "Origin": "https://host"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "https://HOST:8000", "Host": "host:8000"}, True),
        ({"Origin": "https://host", "Host": "primary", "X-Forwarded-Host": "host"}, True),
        ({"Origin": "https://host", "Host": "host", "X-Forwarded-Host": "other"}, False),
        ({"Origin": "https://host.evil", "Host": "host"}, False),
        ({"Origin": "null", "Host": ""}, False),
        ({"Origin": "null"}, False),
        ({"Host": "host"}, False),
    ],
)
def test_write_by_a_cookie_comes_from_the_host_that_was_asked(
    headers: dict[str, str], *, allowed: bool
) -> None:
    """What says that it comes from elsewhere, or does not say it, is refused."""
    if allowed:
        require_same_origin(headers)
        return
    with pytest.raises(Refusal) as refusal:
        require_same_origin(headers)
    assert refusal.value.code == "cross-site"


def test_session_is_good_for_its_time_and_for_the_keys_that_signed_it() -> None:
    """Another root token, another journal, or a changed letter end it."""
    sessions = Sessions("root", "secret")
    cookie = sessions.encode("token-id", NOW + timedelta(hours=1))
    assert sessions.decode(cookie, NOW) == "token-id"
    assert sessions.decode(cookie, NOW + timedelta(hours=1)) is None
    assert Sessions("other", "secret").decode(cookie, NOW) is None
    assert Sessions("root", "other").decode(cookie, NOW) is None
    assert sessions.decode(cookie[:-1] + ("A" if cookie[-1] != "A" else "B"), NOW) is None
    for text in ("", ".", "a.b", cookie.partition(".")[0], "\N{SNOWMAN}.x"):
        assert sessions.decode(text, NOW) is None


@pytest.mark.parametrize(
    ("method", "path", "now_s"),
    [
        ("DELETE", "/ingest", 1000.0),
        ("POST", "/ingest/prune", 1000.0),
        ("POST", "/ingest", 1000.0 + 301),
        ("POST", "/ingest", 1000.0 - 301),
    ],
)
def test_actor_is_believed_for_one_request_and_for_a_while(
    method: str, path: str, now_s: float
) -> None:
    """A claim that is seen somewhere cannot be used for another request, or later."""
    claims = ActorClaims("root")
    header = claims.encode(CLAIM, method="POST", path="/ingest", now_s=1000.0)
    assert claims.decode(header, method="POST", path="/ingest", now_s=1001.0) == CLAIM
    assert claims.decode(header, method=method, path=path, now_s=now_s) is None
    other = ActorClaims("other")
    assert other.decode(header, method="POST", path="/ingest", now_s=1000.0) is None


def test_actor_of_many_databases_fits_into_a_header() -> None:
    """What does not fit is left out, from the end: the one that is asked for comes first."""
    names = tuple(f"d{number}".ljust(MAX_DATABASE_NAME, "x") for number in range(1000))
    claims = ActorClaims("root")
    claim = ActorClaim(actor="a" * 10_000, databases=names)
    header = claims.encode(claim, method="POST", path="/ingest", now_s=0.0)
    assert len(header) < 8190
    read = claims.decode(header, method="POST", path="/ingest", now_s=0.0)
    assert read is not None
    assert read.databases == names[: len(read.databases)]
    assert len(read.databases) > 50
