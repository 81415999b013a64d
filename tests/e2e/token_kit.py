"""Tokens, signing in, and the audit log, as clients have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from tests.e2e.conftest import System

SAME = {"Sec-Fetch-Site": "same-origin"}


def make_token(system: System, *scopes: str, **fields: str) -> dict[str, Any]:
    """Have a token made by the root token."""
    document = {"scopes": scopes, "name": "of a test", **fields}
    response = httpx.post(f"{system.url}/ingest/tokens", json=document, headers=system.auth)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


def upload(
    system: System,
    token: str | None,
    database: str,
    *,
    body: bytes = b"id\n1\n",
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """Upload a file with a token, or without one."""
    headers = dict(headers or {})
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    params = {"database": database, "filename": f"{database}.csv"}
    url = f"{system.url}/ingest"
    return httpx.post(url, params=params, content=body, headers=headers, timeout=60)


def read_audit(system: System, **params: str) -> list[dict[str, Any]]:
    """Read the newest rows of the audit log."""
    url = f"{system.url}/ingest/audit"
    response = httpx.get(url, params=params, headers=system.auth)
    assert response.status_code == 200, response.text
    rows: list[dict[str, Any]] = response.json()["audit"]
    return rows


def sign_in(system: System, token: str) -> dict[str, str]:
    """Sign in as a browser does; give the header that it sends from then on."""
    response = httpx.post(f"{system.url}/ingest/session", data={"token": token})
    assert response.status_code == 200, response.text
    return {"Cookie": response.headers["Set-Cookie"].partition(";")[0]}


def who_is(system: System, headers: dict[str, str]) -> dict[str, Any]:
    """Ask who one is."""
    said: dict[str, Any] = httpx.get(f"{system.url}/ingest/session", headers=headers).json()
    return said
