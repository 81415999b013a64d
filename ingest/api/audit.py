"""The audit log, for programs and spreadsheets; a reader makes a page of it for people."""

from __future__ import annotations

import csv
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
    if kind == "json":
        return answer_json({"audit": rows, "next": more})
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    if more is not None:
        headers["Link"] = f'<{more}&_format=csv>; rel="next"'
    return web.Response(text=_csv(rows), content_type="text/csv", charset="utf-8", headers=headers)


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
    if chosen is not None and chosen not in {"json", "csv"}:
        raise Refusal("invalid-option", "_format is json or csv")
    return chosen or ("csv" if "text/csv" in request.headers.get("Accept", "") else "json")


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
