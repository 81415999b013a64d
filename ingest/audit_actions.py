"""What the audit log calls that which a request asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

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
    "POST /{database}/-/create": "create-rows",
    "POST /{database}/{table}/-/insert": "insert-rows",
    "POST /{database}/{table}/-/upsert": "upsert-rows",
    "POST /{database}/{table}/-/drop": "drop-rows",
    "POST /{database}/{table}/{pks}/-/update": "update-rows",
    "POST /{database}/{table}/{pks}/-/delete": "delete-rows",
    "POST /-/insert/{database}/{table}": "insert-rows",
    "POST /-/upsert/{database}/{table}": "upsert-rows",
    "POST /ingest/prune": "prune",
    "POST /ingest/tokens": "create-token",
    "DELETE /ingest/tokens/{id}": "revoke-token",
    "POST /ingest/session": SIGN_IN,
    "DELETE /ingest/session": SIGN_OUT,
    "POST /ingest/session/end": SIGN_OUT,
}


def action_of(request: web.Request) -> str:
    """Name what a request asks for: a word, or its method and route."""
    resource = request.match_info.route.resource
    route = f"{request.method} {resource.canonical if resource else request.path}"
    return _ACTIONS.get(route, route)
