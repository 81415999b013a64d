"""What the audit log calls that which a request asks for."""

from __future__ import annotations

from aiohttp import web

# Of a request whose route does not tell: one of a bundle of rows.
ACTION = web.RequestKey("ACTION", str)

UPLOAD = "upload"
REPROCESS = "reprocess"
SIGN_IN = "sign-in"
SIGN_OUT = "sign-out"
PREVIEW = "preview"

_ACTIONS = {
    "POST /ingest": UPLOAD,
    "POST /ingest/tus": UPLOAD,
    "PATCH /ingest/tus/{id}": "send-bytes",
    "POST /ingest/tus/{id}": "send-bytes",
    "DELETE /ingest/tus/{id}": "cancel-upload",
    "POST /ingest/preview": PREVIEW,
    "POST /ingest/events": "tell-of-objects",
    "POST /ingest/receipts/{id}/reprocess": REPROCESS,
    "DELETE /ingest/databases/{database}": "delete-database",
    "DELETE /ingest/databases/{database}/{table}": "delete-table",
    "PATCH /ingest/databases/{database}/metadata": "describe",
    "PUT /ingest/databases/{database}/metadata": "describe",
    "POST /ingest/schedules": "create-schedule",
    "DELETE /ingest/schedules/{id}": "remove-schedule",
    "POST /ingest/schedules/{id}/run": "run-schedule",
    "POST /ingest/generations/{number}/rollback": "roll-back",
    "POST /ingest/prune": "prune",
    "POST /ingest/tokens": "create-token",
    "DELETE /ingest/tokens/{id}": "revoke-token",
    "POST /ingest/session": SIGN_IN,
    "DELETE /ingest/session": SIGN_OUT,
    "POST /ingest/session/end": SIGN_OUT,
}


def action_of(request: web.Request) -> str:
    """Name what a request asks for: a word, or its method and route."""
    said: str | None = request.get(ACTION)
    if said is not None:
        return said
    resource = request.match_info.route.resource
    route = f"{request.method} {resource.canonical if resource else request.path}"
    return _ACTIONS.get(route, route)
