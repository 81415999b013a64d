"""The audit log, for programs and spreadsheets; a reader makes a page of it for people."""

from __future__ import annotations

import csv
import io
from typing import Any

from aiohttp import web

from headrace.operation import JSON, Answer, Parameter, Who, number, operation
from headrace.web import answer_json
from ingest.api.node import NODE
from ingest.audit_rows import COLUMNS
from ingest.documents import AuditPage

PAGE = 100  # rows
MAX_PAGE = 10_000
_NEWEST = 10**18 - 1  # the largest number that is taken for one
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

_BEFORE = number("before", "Only older rows than that one.", low=1, high=_NEWEST)
_LIMIT = number("limit", "How many, at most 10,000.", low=1, high=_NEWEST, default=PAGE)
_FORMAT = Parameter(
    name="_format",
    what="In what form; as `Accept` says, if nothing is said.",
    schema={"enum": ["json", "csv"]},
)

routes = web.RouteTableDef()


@routes.get("/ingest/audit")
@operation(
    _BEFORE,
    _LIMIT,
    _FORMAT,
    answers={
        200: Answer(
            what="A page of the log.",
            schema=AuditPage,
            kinds=(JSON, "text/csv"),
            headers={"Link": "Where older rows are, of CSV."},
        )
    },
    who=Who.ADMIN_READER,
)
async def get_audit(request: web.Request) -> web.Response:
    """Show the newest rows of the audit log first."""
    node = request.app[NODE]
    node.identify(request).require_admin()
    before = int(request.query.get("before", _NEWEST))
    limit = min(int(request.query.get("limit", PAGE)), MAX_PAGE)
    kind = _find_format(request)
    rows = await node.audit.read(before=before, limit=limit)
    more = f"/ingest/audit?before={rows[-1]['id']}&limit={limit}" if len(rows) == limit else None
    if kind == "json":
        return answer_json({"audit": rows, "next": more})
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    if more is not None:
        headers["Link"] = f'<{more}&_format=csv>; rel="next"'
    return web.Response(text=_csv(rows), content_type="text/csv", charset="utf-8", headers=headers)


def _find_format(request: web.Request) -> str:
    """Tell what is asked for: by ``_format``, as Datasette has it, else by ``Accept``."""
    chosen = request.query.get("_format")
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
