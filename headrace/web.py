"""What both sides' HTTP servers share: problem documents, listening, and the metrics port."""

from __future__ import annotations

import html
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from headrace.errors import ConfigError, Refusal, problem_document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger()

# A browser's request for a page asks for HTML by name; curl and programs ask for */*.
_HTML = "text/html"
_TRY_AGAIN = frozenset({429, 503})


def problem_response(
    request: web.BaseRequest, document: dict[str, Any], headers: dict[str, str] | None = None
) -> web.Response:
    """Answer with a problem document: HTML for a person's browser, else RFC 9457 JSON."""
    headers = dict(headers or {})
    headers["Cache-Control"] = "no-store"
    if document["status"] == 401:  # noqa: PLR2004 - RFC 9110, 11.6.1: must name a challenge
        headers["WWW-Authenticate"] = 'Bearer realm="headrace"'
    if document["status"] in _TRY_AGAIN:
        headers.setdefault("Retry-After", "1")
    if _HTML in request.headers.get("Accept", ""):
        return web.Response(
            status=document["status"],
            text=_problem_page(document),
            content_type=_HTML,
            headers=headers,
        )
    return web.Response(
        status=document["status"],
        text=json.dumps(document, ensure_ascii=False) + "\n",
        content_type="application/problem+json",
        headers=headers,
    )


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what a handler raises into a problem document; one log line a defect."""
    try:
        return await handler(request)
    except Refusal as refusal:
        return problem_response(request, refusal.document())
    except web.HTTPNotFound:
        document = problem_document("not-found", f"there is nothing at {request.path}")
        return problem_response(request, document)
    except web.HTTPMethodNotAllowed as exc:
        allowed = ", ".join(sorted(exc.allowed_methods))
        document = problem_document("method-not-allowed", f"{request.path} takes {allowed}")
        return problem_response(request, document, {"Allow": allowed})
    except web.HTTPException:
        raise
    except ConnectionError:  # the client is gone: there is nobody to answer
        raise
    except Exception:
        log.exception("request failed", method=request.method, path=request.path)
        document = problem_document("internal-error", "the failure is in the server's log")
        return problem_response(request, document)


@asynccontextmanager
async def listening(
    app: web.Application, host: str, port: int, **options: Any
) -> AsyncIterator[int]:
    """Serve an application while the block runs; gives the port (port 0: the kernel picks one).

    Raises:
        ConfigError: The port is taken.
    """
    defaults = {"handler_cancellation": True, "shutdown_timeout": 5.0}
    async with _listening(
        web.AppRunner(app, access_log=None, **{**defaults, **options}), host, port
    ) as actual:
        yield actual


@asynccontextmanager
async def listening_server(server: web.Server, host: str, port: int) -> AsyncIterator[int]:
    """Do as ``listening`` for a server without routes."""
    async with _listening(web.ServerRunner(server, shutdown_timeout=5.0), host, port) as actual:
        yield actual


@asynccontextmanager
async def _listening(runner: web.BaseRunner, host: str, port: int) -> AsyncIterator[int]:
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as exc:
            raise ConfigError(
                f"cannot listen on {host}:{port}: {exc.strerror}", hint="choose another --port"
            ) from exc
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _nothing() -> None:
    """Do nothing."""


def metrics_app(
    registry: CollectorRegistry, refresh: Callable[[], Awaitable[None]] = _nothing
) -> web.Application:
    """Give the application of the metrics port: ``/metrics`` and ``/-/healthz``.

    Args:
        registry: What is shown.
        refresh: Brings up to date what has to be asked for; called each time.
    """

    async def metrics(_request: web.Request) -> web.Response:
        await refresh()
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    app = web.Application(middlewares=[problems])
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/-/healthz", healthz)
    return app


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
