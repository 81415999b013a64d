"""A server, as a command asks it: what failed is told apart by what can be done about it."""

from __future__ import annotations

import json
import os
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx

from headrace import __version__
from headrace.errors import NotAllowedError, RefusedError, RemoteError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

CONNECT_S = 10.0
SILENCE_S = 60.0  # of a server that was asked
MAX_RETRY_AFTER_S = 30.0

_NO_ERRNO = (socket.gaierror, ssl.SSLError)
_NOT_ALLOWED = frozenset({401, 403})
# What passes by itself: somebody in between, a restart, a limit on requests.
_PASSING = frozenset({429, 502, 503, 504})
# ...and, of answers that are no success and no failure of the server, these.
_BUSY = frozenset({"in-flight", "upload-locked"})


class Server:
    """One server.

    Args:
        url: Of a reader, or of the primary.
        token: None: it is asked without.
        client: Asks.

    Attributes:
        url: Without a slash at its end.
    """

    def __init__(self, url: str, token: str | None, client: httpx.AsyncClient) -> None:
        self.url = url.rstrip("/")
        self.client = client
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._was_there = False

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | AsyncIterator[bytes] | None = None,
        silence_s: float = SILENCE_S,
    ) -> httpx.Response:
        """Ask; give the answer, if it is a success.

        Args:
            method: Of the request.
            path: Below the server's URL.
            params: The query.
            headers: Besides the token's.
            content: The body.
            silence_s: How long it may say nothing.

        Raises:
            NotAllowedError: 401 or 403.
            RefusedError: Another answer that is no success.
            UnreachableError: It passes.
        """
        timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_S, read=silence_s, pool=None)
        try:
            response = await self.client.request(
                method,
                self.url + path,
                params=params,
                headers={**self.headers, **(headers or {})},
                content=content,
                timeout=timeout,
            )
        except httpx.TransportError as exc:
            error = unreachable(self.url, exc)
            if not isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout):
                self._was_there = True
            error.is_first = not self._was_there
            raise error from exc
        except (httpx.InvalidURL, UnicodeError) as exc:
            raise RemoteError(f"cannot use the URL {self.url}: {exc}", code="bad-url") from exc
        self._was_there = True
        if not response.is_success:
            raise error_of(response, response.content)
        return response


@asynccontextmanager
async def connected(url: str, token: str | None) -> AsyncIterator[Server]:
    """Give a server to ask while the block runs."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
    agent = {"User-Agent": f"headrace/{__version__}", "Accept": "application/json"}
    secure = url.lower().startswith("https:")  # else no certificate is read: they take 50 ms
    async with httpx.AsyncClient(limits=limits, headers=agent, verify=secure) as client:
        yield Server(url, token, client)


def unreachable(url: str, exc: Exception) -> UnreachableError:
    """Give the error of a connection that could not be made, or broke."""
    return UnreachableError(
        f"cannot reach {url}: {_reason(exc)}",
        hint="is it running, and is --to (HEADRACE_URL) its URL?",
    )


def _reason(exc: Exception) -> str:
    """Give what the system says of a connection: httpx has several tries as one failure."""
    found: BaseException | None = exc
    while found is not None:
        if isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        # Of names and TLS the number is no errno, and the words are good.
        if isinstance(found, OSError) and found.errno and not isinstance(found, _NO_ERRNO):
            return os.strerror(found.errno).lower()
        found = found.__cause__ or found.__context__
    return str(exc) or type(exc).__name__


def error_of(response: httpx.Response, body: bytes) -> RemoteError:
    """Give the error of an answer that is no success."""
    document = _read_problem(response, body)
    said = str(document.get("detail") or f"the server answered {response.status_code}")
    hint = document.get("hint")
    code = document.get("code")
    if response.status_code in _NOT_ALLOWED:
        if code == "forbidden" or "Authorization" not in response.request.headers:
            hint = "give one that may: `headrace login`, --token-file or HEADRACE_TOKEN"
        return NotAllowedError(said, hint=hint, code=code, document=document)
    if response.status_code in _PASSING or code in _BUSY:
        error = UnreachableError(said, hint=hint, code=code, document=document)
        error.retry_after_s = _read_retry_after(response)
        return error
    if response.is_redirect:
        to = response.headers.get("Location", "")
        hint = f"it sends on to {to}: is that the URL for --to?"
    if not document:
        hint = hint or "it may be no Headrace: what answers there is something else"
        document = {"status": response.status_code}
    return RefusedError(said, hint=hint, code=code, document=document)


def _read_problem(response: httpx.Response, body: bytes) -> dict[str, Any]:
    """Read a problem document; empty if there is none, as in an answer to HEAD."""
    try:
        document = httpx.Response(200, content=body).json()
    except ValueError:
        return {"code": "upload-locked"} if response.status_code == httpx.codes.LOCKED else {}
    return document if isinstance(document, dict) and "code" in document else {}


def _read_retry_after(response: httpx.Response) -> float | None:
    """Read in how many seconds to ask again; a date is not read. Source: RFC 9110, 10.2.3."""
    value = response.headers.get("Retry-After", "")
    return min(float(value), MAX_RETRY_AFTER_S) if value.isascii() and value.isdigit() else None


def decode_document(text: str) -> dict[str, Any]:
    """Read an answer that is to be a JSON object.

    Raises:
        RemoteError: It is none: perhaps nobody there knows of Headrace.
    """
    try:
        document = json.loads(text)
    except ValueError as exc:
        raise RemoteError("the server's answer is not JSON: is it a Headrace?") from exc
    if not isinstance(document, dict):
        raise RemoteError("the server's answer is not what it should be")
    return document
