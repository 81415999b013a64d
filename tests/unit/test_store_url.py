"""One setting for obstore and Litestream, and what they say when it fails."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from headrace.errors import ConfigError
from headrace.litestream_binary import litestream_environment
from headrace.store import Store
from headrace.store_reason import tell_reason
from headrace.store_url import parse_store_url

if TYPE_CHECKING:
    from pathlib import Path

LOCAL = "http://127.0.0.1:9000"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Begin without anything of a cloud in the environment."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "LITESTREAM_")):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(
    ("url", "variables"),
    [
        (f"s3://bucket/a/b?endpoint={LOCAL}&region=eu-1", {}),
        ("s3://bucket/a/b/", {"AWS_ENDPOINT_URL": LOCAL, "AWS_REGION": "eu-1"}),
        (
            f"s3://bucket/a/b/?endpoint={LOCAL}",
            {"AWS_ENDPOINT_URL_S3": "https://other", "AWS_DEFAULT_REGION": "eu-1"},
        ),
    ],
)
def test_store_url_of_s3_is_told_to_obstore_and_litestream_alike(
    url: str, variables: dict[str, str], environment: pytest.MonkeyPatch
) -> None:
    """Endpoint and region are the URL's, else the environment's; for both the same."""
    for name, value in variables.items():
        environment.setenv(name, value)

    found, store = parse_store_url(url), Store(url)

    assert found.config == {
        "endpoint": LOCAL,
        "region": "eu-1",
        "virtual_hosted_style_request": False,
    }
    assert found.allow_http
    assert store.url == "s3://bucket/a/b"
    assert store.is_s3
    expected = "s3://bucket/a/b/dbs?endpoint=http%3A%2F%2F127.0.0.1%3A9000&region=eu-1"
    assert store.litestream_url("dbs") == expected


def test_store_url_of_aws_itself_leaves_what_is_not_said_to_the_clients() -> None:
    """Without an endpoint it is Amazon's, over TLS."""
    found = parse_store_url("s3://bucket")

    assert (found.config, found.query, found.allow_http) == ({}, "", False)


def test_store_url_of_a_compatible_without_regions_has_one() -> None:
    """Both clients sign for the same region where none is said."""
    found = parse_store_url("s3://bucket?endpoint=https://s3.example.org")

    assert found.query == "endpoint=https%3A%2F%2Fs3.example.org&region=us-east-1"
    assert not found.allow_http


def test_store_url_of_fly_storage_is_asked_of_the_leader(environment: pytest.MonkeyPatch) -> None:
    """What `fly storage create` sets is enough; put-if-absent holds in all of Tigris' regions."""
    environment.setenv("AWS_ENDPOINT_URL_S3", "https://fly.storage.tigris.dev")
    environment.setenv("AWS_REGION", "auto")

    found = parse_store_url("s3://acme-headrace")

    assert found.config == {
        "endpoint": "https://fly.storage.tigris.dev",
        "region": "auto",
        "virtual_hosted_style_request": False,
    }
    assert found.headers == (("X-Tigris-Consistent", "true"),)
    told = "endpoint=https%3A%2F%2Ffly.storage.tigris.dev&region=auto"
    assert found.litestream_url("dbs") == f"s3://acme-headrace/dbs?{told}"
    assert parse_store_url("s3://bucket?endpoint=https://s3.example.org").headers == ()


@pytest.mark.parametrize(
    "url",
    [
        "/tmp/with space",  # noqa: S108
        "/tmp/100%",  # noqa: S108
        "nonsense://x",
        "https://bucket.example.org/x",
        "s3://",
        "gs://bucket/x?key=secret",
        "az://container/x",
        "az://account:secret@container/x",
        "az://container/x?account=Not+Possible",
        "az://container/x?account=kept&sas=secret",
        "s3://key:secret@bucket/x",
        "s3://bucket/x?secret_access_key=secret",
        "s3://bucket/x?endpoint=https://key:secret@s3.example.org",
        "s3://bucket/x?endpoint=s3.example.org",
        "s3://bucket/x?endpoint=http://s3.example.org",
    ],
)
def test_store_url_that_cannot_work_is_refused(url: str) -> None:
    """What both could not reach the same way is refused at once, without telling secrets."""
    with pytest.raises(ConfigError) as refused:
        Store(url)
    assert "secret" not in str(refused.value).replace("secret_access_key", "")


def test_store_url_without_tls_is_taken_where_the_network_is_trusted(
    environment: pytest.MonkeyPatch,
) -> None:
    """Beyond this machine, sending data in the clear has to be asked for."""
    environment.setenv("AWS_ALLOW_HTTP", "true")

    assert parse_store_url("s3://bucket?endpoint=http://minio:9000").allow_http


def test_store_url_of_a_folder_is_its_path(tmp_path: Path) -> None:
    """Litestream finds a prefix of the store by the store's own URL."""
    assert Store(str(tmp_path)).litestream_url("dbs") == f"file://{tmp_path}/dbs"


def test_store_url_of_google_is_the_same_for_both() -> None:
    """Nothing is to be told besides; the layout of Litestream's files is not that of S3."""
    store = Store("gs://bucket/a/b/")

    assert store.url == "gs://bucket/a/b"
    assert store.litestream_url("dbs") == "gs://bucket/a/b/dbs"
    assert not store.is_s3


@pytest.mark.parametrize("how", ["url", "environment"])
def test_store_url_of_azure_has_the_account_as_each_wants_it(
    how: str, environment: pytest.MonkeyPatch
) -> None:
    """Obstore takes the account as a setting, Litestream in its own kind of URL."""
    url = "az://container/a/b"
    if how == "url":
        url += "?account=acme01"
    else:
        environment.setenv("AZURE_STORAGE_ACCOUNT_NAME", "acme01")

    found, store = parse_store_url(url), Store(url)

    assert found.config == {"account_name": "acme01"}
    assert store.url == "az://container/a/b"
    assert store.litestream_url("dbs") == "abs://acme01@container/a/b/dbs"
    assert parse_store_url(store.whole_url) == found
    assert not store.is_s3


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("AZURE_STORAGE_ACCOUNT_KEY", "LITESTREAM_AZURE_ACCOUNT_KEY"),
        ("AZURE_STORAGE_SAS_TOKEN", "LITESTREAM_AZURE_SAS_TOKEN"),
        ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_APPLICATION_CREDENTIALS"),
    ],
)
def test_credentials_have_litestreams_names_as_well(
    ours: str, theirs: str, environment: pytest.MonkeyPatch
) -> None:
    """Who sets what obstore knows has set it for Litestream, unless that was said itself."""
    environment.setenv(ours, "told")
    assert litestream_environment()[theirs] == "told"
    environment.setenv(theirs, "said")
    assert litestream_environment()[theirs] == "said"


def test_litestream_gets_the_stores_credentials_and_no_others(
    environment: pytest.MonkeyPatch,
) -> None:
    """What is in the environment for the store is for Litestream too; Headrace's own is not."""
    mine = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "c"}
    others = {
        "HEADRACE_TOKEN": "d",
        "DATASETTE_SECRET": "e",
        "AWS_CA_BUNDLE": "f",
        "LITESTREAM_S3_ENDPOINT": "g",
    }
    for name, value in {**mine, **others}.items():
        environment.setenv(name, value)

    given = litestream_environment(HEADRACE_DBS="h")

    assert given.items() >= {**mine, "HEADRACE_DBS": "h"}.items()
    assert not given.keys() & others


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            (
                "GET http://h/b/k … non-2xx status code: 500 Internal Server Error: <?xml?>\n"
                "<Error><Code>InternalError</Code><Message>We failed.</Message></Error>\n\nDebug"
            ),
            "the store answers 500 Internal Server Error (InternalError: We failed)",
        ),
        (
            "Generic S3 error: … Server returned non-2xx status code: 502 Bad Gateway: <html>",
            "the store answers 502 Bad Gateway",
        ),
        (
            'S3 error: …\n\nDebug source:\n Os { code: 111, message: "Connection refused", }',
            "the store cannot be asked: connection refused",
        ),
        ("[Errno 20] Not a directory: 'x'\nmore", "[Errno 20] Not a directory: 'x'"),
        ("", "OSError"),
    ],
)
def test_reason_of_a_store_is_one_line_for_a_person(text: str, reason: str) -> None:
    """The store's own words, without the request, the times and the tries around them."""
    assert tell_reason(OSError(text)) == reason
