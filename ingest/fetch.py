"""fetch: a file from a URL, as if somebody had sent it.

Every hop of a redirect is looked at anew: its scheme, host and port, all addresses that its name
stands for, and once more the address that a socket is made for. So a name that stands for another
address a moment later leads nowhere else.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from headrace import __version__
from headrace.errors import Refusal
from headrace.fetching import read_url
from headrace.options import filename_of
from ingest.fetch_rules import check_addresses

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from ingest.fetch_rules import FetchRules, Permit

MAX_REDIRECTS = 5
CONNECT_S = 10.0
STALL_S = 60.0  # for the next bytes
CHUNK_BYTES = 256 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NOT_MODIFIED = 304
_OK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Validators:
    """What a server said of a file, to be asked with the next time (RFC 9110, section 8.8)."""

    etag: str | None = None
    last_modified: str | None = None

    def headers(self) -> dict[str, str]:
        """Give the headers of a conditional request."""
        named = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in named.items() if value}


NONE = Validators()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A file that is about to come.

    Attributes:
        modified: Whether it is another one than the validators stood for; else nothing comes.
        filename: Its name; empty if there is none.
        media_type: As the server says.
        length: Its size, if the server says.
        validators: For the next time.
    """

    modified: bool
    filename: str
    media_type: str | None
    length: int | None
    validators: Validators
    _response: aiohttp.ClientResponse

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give the file in pieces.

        Raises:
            Refusal: ``fetch-failed``.
        """
        try:
            async for chunk in self._response.content.iter_chunked(CHUNK_BYTES):
                yield chunk
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise _failure("the connection ended before the file did") from exc


class Fetcher:
    """Fetches files.

    Args:
        rules: From where.
        within_s: For a whole file, with all redirects.
    """

    def __init__(self, rules: FetchRules, within_s: float) -> None:
        self.rules = rules
        self._within_s = within_s

    @asynccontextmanager
    async def open(self, url: URL, known: Validators = NONE) -> AsyncGenerator[Answer]:
        """Ask for a file; it comes while the block runs.

        Args:
            url: Where it is.
            known: What was said of it the last time.

        Raises:
            Refusal: ``fetch-off``, ``fetch-forbidden`` or ``fetch-failed``.
        """
        try:
            async with asyncio.timeout(self._within_s):
                first = url
                for _ in range(MAX_REDIRECTS + 1):
                    permit = self.rules.permit(url)
                    async with _asked(url, permit, known) as response:
                        if response.status not in _REDIRECTS:
                            yield _read_answer(first, url, response, known)
                            return
                        url = _next_url(url, response)
                raise _failure(f"it was redirected more than {MAX_REDIRECTS} times")
        except TimeoutError as exc:
            raise _failure(f"the file did not come within {self._within_s:g} s") from exc


@asynccontextmanager
async def _asked(
    url: URL, permit: Permit, known: Validators
) -> AsyncGenerator[aiohttp.ClientResponse]:
    """Ask one server.

    Raises:
        Refusal: ``fetch-forbidden`` or ``fetch-failed``.
    """
    _check_literal(url, permit)

    def make_socket(info: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
        family, kind, protocol, _, address = info
        if not permit.allows(str(address[0])):
            raise PermissionError(errno.EACCES, "its address is not public")
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(
        resolver=_CheckedResolver(url, permit),
        use_dns_cache=False,
        force_close=True,
        socket_factory=make_socket,
    )
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=STALL_S),
        headers={"User-Agent": f"Headrace/{__version__}", "Accept-Encoding": "identity"},
    )
    async with session:
        try:
            response = await session.get(url, headers=known.headers(), allow_redirects=False)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as exc:
            # The text of these may hold the whole URL.
            raise _failure(f"{url.host} could not be asked: {_name(exc)}") from exc
        async with response:
            yield response


def _read_answer(
    first: URL, url: URL, response: aiohttp.ClientResponse, known: Validators
) -> Answer:
    """Read the head of an answer that is no redirect.

    Raises:
        Refusal: ``fetch-failed``: it is not the file.
    """
    unmodified = response.status == _NOT_MODIFIED and bool(known.headers())
    if response.status != _OK and not unmodified:
        raise _failure(
            f"{url.host} answered {response.status}", extra={"upstream_status": response.status}
        )
    return Answer(
        modified=not unmodified,
        filename=filename_of(response.headers) or first.name or url.name,
        media_type=response.headers.get("Content-Type"),
        length=response.content_length,
        validators=Validators(
            etag=response.headers.get("ETag"),
            last_modified=response.headers.get("Last-Modified"),
        ),
        _response=response,
    )


def _next_url(url: URL, response: aiohttp.ClientResponse) -> URL:
    """Give where an answer leads.

    Raises:
        Refusal: ``fetch-failed``: nowhere.
    """
    try:
        return read_url(str(url.join(URL(response.headers["Location"]))))
    except (KeyError, ValueError, Refusal) as exc:
        raise _failure(f"{url.host} redirects to what is no http or https URL") from exc


class _CheckedResolver(AbstractResolver):
    """Gives the addresses of a name if all of them may be connected to."""

    def __init__(self, url: URL, permit: Permit) -> None:
        self._url = url
        self._permit = permit
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve a name.

        Raises:
            Refusal: ``fetch-forbidden``.
        """
        found = await self._resolver.resolve(host, port, family)
        check_addresses(self._url, self._permit, [each["host"] for each in found])
        return found

    async def close(self) -> None:
        """Close what resolves."""
        await self._resolver.close()


def _check_literal(url: URL, permit: Permit) -> None:
    """Refuse an address that is written in the URL: it is not resolved.

    Raises:
        Refusal: ``fetch-forbidden``.
    """
    host = url.host or ""
    if host.replace(".", "").isdigit() or ":" in host:
        try:
            check_addresses(url, permit, [host])
        except ValueError as exc:  # 127.1 and the like: some take that for an address
            raise Refusal("fetch-forbidden", f"{host} is not fetched from") from exc


def _name(exc: BaseException) -> str:
    """Say what went wrong, without the URL."""
    if isinstance(exc, aiohttp.ClientConnectorDNSError):
        return "its name has no address"
    if isinstance(exc, aiohttp.ClientSSLError):
        return "its certificate cannot be trusted, or TLS failed"
    if isinstance(exc, aiohttp.ClientConnectorError):
        return exc.os_error.strerror or "it cannot be connected to"
    return "it did not answer in time" if isinstance(exc, TimeoutError) else type(exc).__name__


def _failure(why: str, extra: dict[str, Any] | None = None) -> Refusal:
    return Refusal("fetch-failed", f"the file could not be fetched: {why}", extra=extra)
