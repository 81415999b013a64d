"""From where files may be fetched."""

from __future__ import annotations

import pytest
from yarl import URL

from headrace.errors import ConfigError, Refusal
from headrace.fetching import decode_fetch, read_url, show_url
from ingest.fetch_rules import FetchRules, check_addresses, is_public

PUBLIC = ["93.184.215.14", "2606:2800:21f::1", "64:ff9b::5db8:d70e", "::ffff:93.184.215.14"]
NOT_PUBLIC = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",  # noqa: S104 - an address that is refused
    "10.0.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::a00:1",
    "64:ff9b:1::a00:1",
    "2001:db8::1",
    "2001:0:5ef5:79fb::1",
    "2002:a00:1::1",
    "2002:a9fe:a9fe::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_address_of_the_internet_is_public(address: str) -> None:
    """What anybody can reach may be fetched from."""
    assert is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_address_of_any_other_network_is_not(address: str) -> None:
    """Private, special and embedded addresses are none of the internet's."""
    assert not is_public(address)


def test_rules_are_off_unless_something_is_said() -> None:
    """Without --fetch nothing is fetched, and the refusal says how it is allowed."""
    for text in ("off", ""):
        with pytest.raises(Refusal) as refused:
            FetchRules.parse(text).permit(URL("https://example.org/"))
        assert refused.value.code == "fetch-off"
        assert "--fetch public" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("rules", "url", "allowed"),
    [
        ("public", "https://example.org/a", True),
        ("public", "http://example.org/a", True),
        ("public", "https://example.org:8443/a", False),
        ("public", "http://example.org:443/a", False),
        ("data.example.org", "https://DATA.example.org./a", True),
        ("data.example.org", "https://example.org/a", False),
        ("*.example.org", "https://a.b.example.org/a", True),
        ("*.example.org", "https://example.org/a", False),
        ("*.example.org", "https://badexample.org/a", False),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/a", True),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8081/a", False),
        ("http://127.0.0.1:8080", "https://127.0.0.1:8080/a", False),
        ("a.org, https://b.org:8443", "https://b.org:8443/x", True),
    ],
)
def test_rules_allow_what_they_name(rules: str, url: str, *, allowed: bool) -> None:
    """Hosts, everything below a host, and origins are told apart, with their ports."""
    if allowed:
        FetchRules.parse(rules).permit(URL(url))
        return
    with pytest.raises(Refusal) as refused:
        FetchRules.parse(rules).permit(URL(url))
    assert refused.value.code == "fetch-forbidden"


def test_origin_that_is_written_out_may_lie_in_a_private_network() -> None:
    """The operator's own word counts; but a name never leads to a metadata service."""
    named = FetchRules.parse("http://wiki.internal:8080").permit(URL("http://wiki.internal:8080/"))
    check_addresses(URL("http://wiki.internal:8080/"), named, ["10.0.0.5"])
    for address in ("169.254.169.254", "fe80::1", "fd00:ec2::254", "::ffff:169.254.169.254"):
        with pytest.raises(Refusal):
            check_addresses(URL("http://wiki.internal:8080/"), named, ["10.0.0.5", address])
    public = FetchRules.parse("wiki.internal").permit(URL("http://wiki.internal/"))
    with pytest.raises(Refusal) as refused:
        check_addresses(URL("http://wiki.internal/"), public, ["93.184.215.14", "10.0.0.5"])
    assert "10.0.0.5" not in refused.value.detail


@pytest.mark.parametrize(
    "text", ["public, off", "ftp://a.org", "http://a.org/path", "http://u@a.org", "a b", "http://"]
)
def test_rules_that_say_nothing_sensible_are_refused(text: str) -> None:
    """A mistake in --fetch is found at the start."""
    with pytest.raises(ConfigError):
        FetchRules.parse(text)


@pytest.mark.parametrize(
    "value",
    [None, 1, "", "example.org", "ftp://example.org", "file:///etc/passwd", "http://", "http://[x"],
)
def test_url_that_is_none_is_refused(value: object) -> None:
    """Only http and https URLs with a host are fetched."""
    with pytest.raises(Refusal) as refused:
        read_url(value)
    assert refused.value.code == "invalid-option"


def test_url_is_shown_without_its_secrets() -> None:
    """User, password, query and fragment stand in no receipt."""
    url = URL("https://user:secret@example.org/a%20b.csv?sig=secret#secret")
    assert show_url(url) == "https://example.org/a%20b.csv?…"
    assert show_url(URL("https://example.org/a.csv")) == "https://example.org/a.csv"


def test_options_may_be_json_values() -> None:
    """What is a text in a form may be a list, an object or a truth in JSON."""
    asked = decode_fetch(
        {"url": "https://a.org/x", "pk": ["a,b"], "strict": True, "types": {"a": "text"}}
    )
    assert asked.fields == {"pk": '["a,b"]', "strict": "1", "types": '{"a": "text"}'}
    for document in ({}, {"url": "https://a.org", "mod": "append"}):
        with pytest.raises(Refusal) as refused:
            decode_fetch(document)
        assert refused.value.code == "invalid-option"
