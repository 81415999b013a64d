"""What the one setting ``--store`` means, to obstore and to Litestream alike.

For S3 and its compatibles both have to be told the same endpoint, region and style of addressing.
They are taken from the URL's query, else from the environment; so whatever either of them would
look up by itself, the other one is told too. Credentials are in the environment only, where both
find them.

Source: Litestream 0.5, ``s3/replica_client.go``, ``NewReplicaClientFromURL``: an endpoint in the
query means path-style addressing, as it does by default for obstore.
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
    from obstore.store import S3Config

# Litestream 0.5 percent-encodes the path of a file URL and then takes it as it is
# (its replica_url.go, ParseReplicaURLWithQuery), so only these characters arrive unchanged.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./~-]+")

# The nearest first, as the AWS SDKs have it; the last of the endpoints is obstore's own.
_FROM_ENVIRONMENT = {
    "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
}
_ENDPOINT_REGION = "us-east-1"  # what a compatible that knows no regions is told
_ALLOW_HTTP = "AWS_ALLOW_HTTP"  # obstore's own


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUrl:
    """Where a store is.

    Attributes:
        base: Its URL, without query or final slash.
        query: What Litestream has to be told besides.
        folder: The local folder that it is, if it is one.
        config: What obstore has to be told besides; None unless it is S3.
        allow_http: Whether it is asked without TLS.
    """

    base: str
    query: str = ""
    folder: Path | None = None
    config: S3Config | None = None
    allow_http: bool = False


def parse_store_url(url: str) -> StoreUrl:
    """Read the setting.

    Args:
        url: ``file:///folder``, a plain folder, ``s3://bucket/prefix``, ``gs://…`` or ``az://…``.
            S3 takes the query ``?endpoint=…&region=…``.

    Raises:
        ConfigError: It cannot be used; no value of its query is told, for it might be a secret.
    """
    if "://" not in url:
        url = Path(url).absolute().as_uri()
    parts = urlsplit(url)
    if parts.scheme == "file":
        folder = check_plain_path(Path(parts.path))
        return StoreUrl(base=f"file://{folder}", folder=folder)
    if parts.username or parts.password:
        raise ConfigError("cannot take credentials from the store's URL: use the environment")
    base, _, query = url.partition("?")
    if parts.scheme != "s3":
        return StoreUrl(base=base.rstrip("/"), query=query)
    return _parse_s3(base.rstrip("/"), dict(parse_qsl(query)))


def _parse_s3(base: str, given: dict[str, str]) -> StoreUrl:
    if unknown := sorted(set(given) - set(_FROM_ENVIRONMENT)):
        raise ConfigError(
            f"cannot use {unknown[0]!r} in the store's URL",
            hint="?endpoint=… and &region=… are known; credentials are in the environment",
        )
    found = {
        name: value
        for name, variables in _FROM_ENVIRONMENT.items()
        if (value := given.get(name) or _first_of(variables))
    }
    config: S3Config = {}
    allow_http = False
    if "endpoint" in found:
        allow_http = _check_endpoint(found["endpoint"])
        found.setdefault("region", _ENDPOINT_REGION)
        config["endpoint"] = found["endpoint"]
        config["virtual_hosted_style_request"] = False
    if "region" in found:
        config["region"] = found["region"]
    return StoreUrl(base=base, query=urlencode(found), config=config, allow_http=allow_http)


def _first_of(variables: tuple[str, ...]) -> str | None:
    return next((value for name in variables if (value := os.environ.get(name))), None)


def _check_endpoint(endpoint: str) -> bool:
    """Tell whether an endpoint is asked without TLS.

    Raises:
        ConfigError: It is no URL, holds credentials, or would send data in the clear.
    """
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
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
