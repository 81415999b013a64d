"""The audit log, for programs, spreadsheets and people."""

from __future__ import annotations

import csv
import html
import io
from typing import Any

from aiohttp import web

from headrace.errors import Refusal
from headrace.web import answer_json
from ingest.api.node import NODE
from ingest.audit_rows import COLUMNS

PAGE = 100  # rows
MAX_PAGE = 10_000
_NEWEST = 2**63 - 1
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

routes = web.RouteTableDef()


@routes.get("/ingest/audit")
async def get_audit(request: web.Request) -> web.Response:
    """Show the newest rows first; ``?before=<id>`` pages on."""
    node = request.app[NODE]
    node.identify(request).require_admin()
    before = _read_number(request, "before", _NEWEST)
    limit = min(_read_number(request, "limit", PAGE), MAX_PAGE)
    kind = _find_format(request)
    rows = await node.audit.read(before=before, limit=limit)
    more = f"/ingest/audit?before={rows[-1]['id']}&limit={limit}" if len(rows) == limit else None
    if kind == "csv":
        return _answer(_csv(rows), "text/csv", more)
    if kind == "html":
        return _answer(_page(rows, more), "text/html", more)
    return answer_json({"audit": rows, "next": more})


def _read_number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text)):  # noqa: PLR2004
        raise Refusal("invalid-option", f"{name} is not a number above 0")
    return int(text)


def _find_format(request: web.Request) -> str:
    """Tell what is asked for: by ``_format``, as Datasette has it, else by ``Accept``.

    Raises:
        Refusal: ``invalid-option``.
    """
    chosen = request.query.get("_format")
    if chosen is not None and chosen not in {"json", "csv", "html"}:
        raise Refusal("invalid-option", "_format is json, csv or html")
    accept = request.headers.get("Accept", "")
    by_accept = "html" if "text/html" in accept else "csv" if "text/csv" in accept else "json"
    return chosen or by_accept


def _answer(text: str, content_type: str, more: str | None) -> web.Response:
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
        "X-Content-Type-Options": "nosniff",
    }
    if more is not None:
        joint = "&_format=csv" if content_type == "text/csv" else ""
        headers["Link"] = f'<{more}{joint}>; rel="next"'
    return web.Response(text=text, content_type=content_type, charset="utf-8", headers=headers)


def _csv(rows: list[dict[str, Any]]) -> str:
    """Give rows as CSV; a cell that a spreadsheet would take for a formula begins with ``'``.

    Source: OWASP, CSV Injection.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for row in rows:
        cells = ["" if row[name] is None else str(row[name]) for name in COLUMNS]
        writer.writerow([f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in cells])
    return out.getvalue()


def _page(rows: list[dict[str, Any]], more: str | None) -> str:
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    lines = "".join(
        "<tr>" + "".join(f"<td>{_cell(name, row[name])}</td>" for name in COLUMNS) + "</tr>\n"
        for row in rows
    )
    link = f'<p><a href="{html.escape(more)}">Older</a></p>' if more else ""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Audit log</title>'
        "<style>body{font:15px/1.4 system-ui,sans-serif;margin:1.5em}"
        "div{overflow-x:auto}table{border-collapse:collapse}"
        "th,td{text-align:left;padding:.25em .5em;border-bottom:1px solid #ddd;white-space:nowrap}"
        "</style><h1>Audit log</h1>"
        f'<p>The newest first. <a href="?_format=csv">CSV</a> <a href="?_format=json">JSON</a></p>'
        f"<div><table><thead><tr>{head}</tr></thead><tbody>\n{lines}</tbody></table></div>{link}"
        "</html>\n"
    )


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    text = html.escape(str(value))
    if name == "receipt":
        return f'<a href="/ingest/receipts/{text}">{text[:12]}…</a>'
    return text
