"""What both sides' HTTP servers share: problem documents, and listening."""

from __future__ import annotations

import asyncio
import html
import json
import socket
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from headrace.errors import PROBLEM, ConfigError, Refusal, problem_document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger()

_HTML = "text/html"
_PATHS_HINT = (
    "files go to POST /ingest of a reader, without a slash at its end; /ingest/docs names all paths"
)
# Of what aiohttp refuses by itself.
_CODES = {413: "too-large"}
TRY_AGAIN = frozenset({429, 503})

# For what is still being answered when a server ends: whoever stops in order has waited before.
CUT_AFTER_S = 0.5

BACKLOG = 1024  # connections that wait to be taken: a thousand clients may come at once


def is_of_person(request: web.BaseRequest) -> bool:
    """Tell whether somebody looks at the answer: only browsers ask for HTML by name."""
    return _HTML in request.headers.get("Accept", "")


def problem_response(
    request: web.BaseRequest, document: dict[str, Any], headers: dict[str, str] | None = None
) -> web.Response:
    """Answer with a problem document: HTML for a person's browser, else RFC 9457 JSON."""
    headers = {**problem_headers(document), **(headers or {}), "Cache-Control": "no-store"}
    if is_of_person(request):
        return web.Response(
            status=document["status"],
            text=_problem_page(document),
            content_type=_HTML,
            headers=headers,
        )
    return web.Response(
        status=document["status"],
        text=json.dumps(document, ensure_ascii=False) + "\n",
        content_type=PROBLEM,
        headers=headers,
    )


def problem_headers(document: dict[str, Any]) -> dict[str, str]:
    """Give the headers that belong to a problem document, whatever its answer looks like."""
    if document["status"] == 401:  # noqa: PLR2004 - RFC 9110, 11.6.1: must name a challenge
        return {"WWW-Authenticate": 'Bearer realm="headrace"'}
    if document["status"] in TRY_AGAIN:
        return {"Retry-After": str(document.get("retry_after", 1))}
    return {}


def refuse_method(request: web.BaseRequest, path: str, allowed: str) -> web.Response:
    """Answer that a path does not take the method of a request.

    Source: RFC 9110, section 15.5.6: ``Allow`` says which ones it takes.
    """
    document = problem_document("method-not-allowed", f"{path} takes {allowed}")
    return problem_response(request, document, {"Allow": allowed})


def answer_json(
    document: Any, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """Answer with JSON that nobody caches."""
    headers = {"Cache-Control": "no-store", **(headers or {})}
    text = json.dumps(document, ensure_ascii=False) + "\n"  # a newline, for people's terminals
    return web.json_response(text=text, status=status, headers=headers)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what a handler raises into a problem document; one log line a defect."""
    try:
        return await handler(request)
    except Refusal as refusal:
        return problem_response(request, refusal.document())
    except web.HTTPNotFound:
        document = problem_document(
            "not-found", f"there is nothing at {request.path}", hint=_PATHS_HINT
        )
        return problem_response(request, document)
    except web.HTTPMethodNotAllowed as exc:
        return refuse_method(request, request.path, ", ".join(sorted(exc.allowed_methods)))
    except web.HTTPException as exc:
        if exc.status < HTTPStatus.BAD_REQUEST:
            raise
        code = _CODES.get(exc.status, "bad-request")
        return problem_response(request, problem_document(code, exc.reason))
    except ConnectionError:  # the client is gone: there is nobody to answer
        raise
    except Exception:
        log.exception("request failed", method=request.method, path=request.path)
        document = problem_document("internal-error", "the failure is in the server's log")
        return problem_response(request, document)


class Requests:
    """Those that are being answered."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count one while the block runs."""
        self._count += 1
        self._none.clear()
        try:
            yield
        finally:
            self._count -= 1
            if self._count == 0:
                self._none.set()

    async def wait_none(self) -> None:
        """Wait until all are answered."""
        await self._none.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Where a server is reached.

    Attributes:
        port: Its port.
    """

    port: int
    site: web.BaseSite

    async def refuse(self) -> None:
        """Take no new connections; those that are open go on."""
        await self.site.stop()


@asynccontextmanager
async def listening(
    app: web.Application, host: str, port: int, **options: Any
) -> AsyncIterator[Listener]:
    """Serve an application while the block runs; on port 0 the kernel picks one.

    ``::`` is all addresses, of IPv4 as well.

    Raises:
        ConfigError: The port is taken.
    """
    defaults = {"handler_cancellation": True, "shutdown_timeout": CUT_AFTER_S}
    runner = web.AppRunner(app, access_log=None, **{**defaults, **options})
    async with _listening(runner, host, port) as listener:
        yield listener


@asynccontextmanager
async def listening_server(server: web.Server, host: str, port: int) -> AsyncIterator[Listener]:
    """Do as ``listening`` for a server without routes."""
    runner = web.ServerRunner(server, shutdown_timeout=CUT_AFTER_S)
    async with _listening(runner, host, port) as listener:
        yield listener


@asynccontextmanager
async def _listening(runner: web.BaseRunner, host: str, port: int) -> AsyncIterator[Listener]:
    await runner.setup()
    try:
        try:
            site = _make_site(runner, host, port)
            await site.start()
        except OSError as exc:
            raise ConfigError(
                f"cannot listen on {host}:{port}: {exc.strerror}", hint="choose another --port"
            ) from exc
        yield Listener(port=runner.addresses[0][1], site=site)
    finally:
        await runner.cleanup()


def _make_site(runner: web.BaseRunner, host: str, port: int) -> web.BaseSite:
    """Make what listens.

    asyncio gives a socket of ``::`` no IPv4, and Fly's proxy and checks have nothing else. Source:
    CPython, ``asyncio/base_events.py``, IPV6_V6ONLY; Fly's documentation, "Connect to an App
    Service".
    """
    if host != "::":
        return web.TCPSite(runner, host, port, backlog=BACKLOG)
    both = socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True)
    return web.SockSite(runner, both, backlog=BACKLOG)


def url_of(host: str, port: int) -> str:
    """Give the URL of a server; an IPv6 address stands in brackets there."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _problem_page(document: dict[str, Any]) -> str:
    lines = [f"<p>{html.escape(document['detail'])}</p>"]
    if "line" in document:
        column = f", column {document['column']}" if "column" in document else ""
        lines.append(f"<p>Line {document['line']}{column}.</p>")
    if "hint" in document:
        lines.append(f"<p>{html.escape(document['hint'])}</p>")
    title = html.escape(document["title"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<h1>{title}</h1>{''.join(lines)}<p><code>{document['code']}</code></p></html>"
    )
