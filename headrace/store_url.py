"""What the one setting ``--store`` means, to obstore and to Litestream alike.

For S3 and its compatibles both have to be told the same endpoint, region and style of addressing.
They are taken from the URL's query, else from the environment; so whatever either of them would
look up by itself, the other one is told too. Credentials are in the environment only, where both
find them.

Azure's account is part of its URL for Litestream, and a setting for obstore.

Source: Litestream 0.5.17, ``NewReplicaClientFromURL`` of ``s3/replica_client.go`` (an endpoint in
the query means path-style addressing, as it does by default for obstore) and of
``abs/replica_client.go`` (``abs://account@container/path``).
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

from headrace.errors import ConfigError

if TYPE_CHECKING:
    from obstore.store import AzureConfig, S3Config

# Litestream 0.5 percent-encodes the path of a file URL and then takes it as it is
# (its replica_url.go, ParseReplicaURLWithQuery), so only these characters arrive unchanged.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./~-]+")

# What the query of each kind's URL can hold, and where else it is looked for: the nearest first, as
# the AWS SDKs have it; the last of the endpoints is obstore's own.
_QUERIES: dict[str, dict[str, tuple[str, ...]]] = {
    "s3": {
        "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    },
    "gs": {},
    "az": {"account": ("AZURE_STORAGE_ACCOUNT_NAME",)},
}
_AZURE_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")  # Azure's own rule
_ENDPOINT_REGION = "us-east-1"  # what a compatible that knows no regions is told
_ALLOW_HTTP = "AWS_ALLOW_HTTP"  # obstore's own
_TIGRIS = frozenset({"fly.storage.tigris.dev", "t3.storage.dev"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUrl:
    """Where a store is.

    Attributes:
        base: Its URL, without query or final slash.
        for_litestream: The same as Litestream writes it, if that differs.
        query: What has to be told besides, in the URL.
        folder: The local folder that it is, if it is one.
        config: What obstore has to be told besides.
        allow_http: Whether it is asked without TLS.
        headers: What each request has to say besides.
    """

    base: str
    for_litestream: str = ""
    query: str = ""
    folder: Path | None = None
    config: S3Config | AzureConfig | None = None
    allow_http: bool = False
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def is_s3(self) -> bool:
        """Whether it is S3 or a compatible."""
        return self.base.startswith("s3:")

    @property
    def whole_url(self) -> str:
        """The URL that is read as the same."""
        return f"{self.base}{self._question}"

    def litestream_url(self, key: str) -> str:
        """Give the URL by which Litestream finds a prefix of it."""
        if self.for_litestream:
            return f"{self.for_litestream}/{key}"
        return f"{self.base}/{key}{self._question}"

    @property
    def _question(self) -> str:
        return f"?{self.query}" if self.query else ""


def parse_store_url(url: str) -> StoreUrl:
    """Read the setting.

    Args:
        url: ``file:///folder``, a plain folder, ``s3://bucket/prefix``, ``gs://bucket/prefix`` or
            ``az://container/prefix``; ``memory:///``, which Litestream does not know, for tests.
            S3 takes the query ``?endpoint=…&region=…``, Azure ``?account=…``.

    Raises:
        ConfigError: It cannot be used; no value of its query is told, for it might be a secret.
    """
    if "://" not in url:
        url = Path(url).absolute().as_uri()
    parts = urlsplit(url)
    if parts.scheme == "file":
        folder = check_plain_path(Path(parts.path))
        return StoreUrl(base=f"file://{folder}", folder=folder)
    if "@" in parts.netloc:
        raise ConfigError("cannot take credentials from the store's URL: use the environment")
    base = url.partition("?")[0].rstrip("/")
    if parts.scheme == "memory":
        return StoreUrl(base=url)
    if parts.scheme not in _QUERIES or not parts.netloc:
        raise ConfigError(
            "cannot use the store: it is none that Headrace knows",
            hint="a folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix",
        )
    given = dict(parse_qsl(parts.query))
    if unknown := sorted(set(given) - set(_QUERIES[parts.scheme])):
        known = " and ".join(f"{name}=…" for name in _QUERIES[parts.scheme]) or "nothing"
        raise ConfigError(
            f"cannot use {unknown[0]!r} in the store's URL",
            hint=f"its query can hold {known}; credentials are in the environment",
        )
    found = {
        name: value
        for name, variables in _QUERIES[parts.scheme].items()
        if (value := given.get(name) or _first_of(variables))
    }
    if parts.scheme == "az":
        return _make_azure(base, found)
    return _make_s3(base, found) if parts.scheme == "s3" else StoreUrl(base=base)


def _make_s3(base: str, found: dict[str, str]) -> StoreUrl:
    config: S3Config = {}
    allow_http = False
    headers: tuple[tuple[str, str], ...] = ()
    if "endpoint" in found:
        allow_http = _check_endpoint(found["endpoint"])
        headers = _headers_for(found["endpoint"])
        found.setdefault("region", _ENDPOINT_REGION)
        config["endpoint"] = found["endpoint"]
        config["virtual_hosted_style_request"] = False
    if "region" in found:
        config["region"] = found["region"]
    return StoreUrl(
        base=base,
        query=urlencode(found),
        config=config,
        allow_http=allow_http,
        headers=headers,
    )


def _make_azure(base: str, found: dict[str, str]) -> StoreUrl:
    account = found.get("account", "")
    if not _AZURE_ACCOUNT.fullmatch(account):
        raise ConfigError(
            "cannot use the store: no storage account is named, or none of a possible name",
            hint="az://container/prefix?account=name, or AZURE_STORAGE_ACCOUNT_NAME",
        )
    place = base.removeprefix("az://")
    config: AzureConfig = {"account_name": account}
    return StoreUrl(
        base=base,
        for_litestream=f"abs://{account}@{place}",
        query=urlencode(found),
        config=config,
    )


def _first_of(variables: tuple[str, ...]) -> str | None:
    return next((value for name in variables if (value := os.environ.get(name))), None)


def _headers_for(endpoint: str) -> tuple[tuple[str, str], ...]:
    """Have Tigris ask its leader: put-if-absent holds in all regions then, also in a global bucket.

    Source: Tigris' documentation, "Conditional Operations"; Litestream 0.5.17 does the same
    (``s3/replica_client.go``, ``LitestreamTigrisConsistent``; ``replica_url.go``,
    ``IsTigrisEndpoint``).
    """
    host = urlsplit(endpoint).hostname
    return (("X-Tigris-Consistent", "true"),) if host in _TIGRIS else ()


def _check_endpoint(endpoint: str) -> bool:
    """Tell whether an endpoint is asked without TLS.

    Raises:
        ConfigError: It is no URL, holds credentials, or would send data in the clear.
    """
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise ConfigError(
            "cannot use the store's endpoint: it is no HTTP URL of a host",
            hint="such as https://s3.example.org",
        )
    if parts.scheme == "https":
        return False
    if not _is_loopback(parts.hostname) and os.environ.get(_ALLOW_HTTP, "").lower() != "true":
        raise ConfigError(
            f"cannot use the store's endpoint: data would go to {parts.hostname} in the clear",
            hint=f"use https; or, on a network that you trust, set {_ALLOW_HTTP}=true",
        )
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_plain_path(path: Path) -> Path:
    """Return the absolute path if Litestream's and SQLite's URLs can carry it.

    Raises:
        ConfigError: It has a space or another character that they cannot.
    """
    path = path.absolute()
    if not _PLAIN_PATH.fullmatch(str(path)):
        raise ConfigError(
            f"cannot use the folder {str(path)!r}: Litestream's file URLs carry only letters, "
            "digits and '_ . ~ - /'",
            hint="choose another folder",
        )
    return path
