"""Which server a command asks: what is said by ``--to``, or where `headrace up` runs."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from urllib.parse import urlsplit

import click

DEFAULT_URL = "http://127.0.0.1:8000"
LOCAL_FILE = Path("data") / "url"  # of `headrace up`, in the folder that it was started in
DEFAULT_SAID = f"what is in {LOCAL_FILE}, else {DEFAULT_URL}"


def is_local(url: str) -> bool:
    """Say whether a URL is one of this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def find_url() -> str:
    """Find the server that is asked if nobody says which.

    A folder that a command happens to run in may name this machine only: the token of the
    environment is sent there.
    """
    try:
        url = LOCAL_FILE.read_text().strip()
        if fault(url) is None and is_local(url):
            return url
    except (OSError, ValueError):
        pass
    return DEFAULT_URL


def read_url(_context: click.Context, _option: click.Parameter, url: str) -> str:
    """Check the URL of a server, before anything is asked; for click.

    Raises:
        click.BadParameter: It is none.
    """
    if (why := fault(url)) is not None:
        raise click.BadParameter(why)
    return url


def fault(url: str) -> str | None:
    """Say why a text is not the URL of a server; None if it is."""
    if _is_url(url):
        return None
    guess = f"http://127.0.0.1{url}" if url.startswith(":") else f"http://{url}"
    if "://" not in url and _is_url(guess):
        meant = guess if is_local(guess) else f"https://{url}"
        return f"{url!r} is no URL: did you mean {meant}?"
    return f"{url!r} is no URL like {DEFAULT_URL}"


def _is_url(text: str) -> bool:
    """Say whether a text is a URL that paths can be written after."""
    if not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and named and not parts.query and not parts.fragment
