"""The upload page: a Datasette plugin that readers load into their workers.

Only the edge sends requests for ``/ingest…`` here (``serve/ingest_pages.py``). It knows what the
primary says, and has it rendered: so the pages have the look of the instance, its own templates
and plugins included, and a worker needs no way to the primary.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from datasette import hookimpl
from datasette.utils.asgi import Response
from datasette.version import __version__ as datasette_version

from headrace.options import MODES
from headrace.receipt import NOTHING_CHANGED
from headrace.remote.wording import size
from serve.assets import Assets
from serve.page_header import PAGE_HEADER
from serve.permissions import is_allowed
from serve.upload_page.advice import of_person, script
from serve.upload_page.docs import code_marks, describe, kind_of

if TYPE_CHECKING:
    from datasette.app import Datasette
    from datasette.utils.asgi import Request

_TEMPLATES = {
    "upload": "headrace_upload.html",
    "receipt": "headrace_receipt.html",
    "receipts": "headrace_receipts.html",
    "audit": "headrace_audit.html",
    "problem": "headrace_problem.html",
    "docs": "headrace_docs.html",
}
ASSETS = Assets("/-/upload-page", Path(__file__).with_name("browser"), {"advice.js": script()})


@hookimpl  # type: ignore[untyped-decorator] # pluggy's marks have no types here
def register_routes() -> list[tuple[str, Any]]:
    """Answer for the pages below ``/ingest``, and for their scripts and styles."""
    return [(r"^/ingest(/.*)?$", _page), ASSETS.route()]


@hookimpl  # type: ignore[untyped-decorator]
def skip_csrf(scope: dict[str, Any]) -> bool:
    """Let the edge's own requests pass: nothing is changed by rendering a page.

    Datasette 1.0 has no such hook: it goes by headers, which the edge takes off.
    """
    return any(name == PAGE_HEADER.lower().encode() for name, _ in scope["headers"])


@hookimpl  # type: ignore[untyped-decorator]
def menu_links() -> list[dict[str, str]]:
    """Lead to the page from every page's menu."""
    return [{"href": upload_url(), "label": "Upload a file"}]


@hookimpl  # type: ignore[untyped-decorator]
def database_actions(datasette: Datasette, database: str) -> list[dict[str, str]]:
    """Lead to the page from the menu of a database that can be written."""
    if database not in datasette.published:
        return []
    return [{"href": upload_url(database), "label": "Upload a file to this database"}]


@hookimpl  # type: ignore[untyped-decorator]
def extra_template_vars(datasette: Datasette, database: str | None) -> dict[str, Any]:
    """Lead to the page from the home page and from databases; templates show it."""
    writable = database is None or database in datasette.published
    return {"headrace_upload_url": upload_url(database) if writable else None}


def upload_url(database: str | None = None) -> str:
    """Give the page's path: the edge's own, so never below Datasette's ``base_url``."""
    return "/ingest" if database is None else f"/ingest?database={quote(database)}"


def _moment(at: str) -> str:
    """Give a time of a document as people read it: ``2026-11-27 21:16:29 UTC``."""
    return f"{at[:10]} {at[11:19]} UTC"


async def _page(datasette: Datasette, request: Request) -> Response:
    """Render what the edge says; without a word of it the page of somebody who is not signed in."""
    said: dict[str, Any] = {"page": "upload"}
    if request.headers.get(PAGE_HEADER.lower()):
        said = json.loads(await request.post_body())
    session = _signed_in(said.get("session"))
    wanted = request.args.get("database")
    by_actor = session is not None and session["by"] == "actor"
    context = {
        # A form's fields are not read where Datasette is asked what an actor may.
        "action": upload_url(wanted if by_actor else None),
        "assets": ASSETS.url(datasette),
        "modes": MODES,
        "document": None,
        **said,
        "described": describe(said["document"]) if said["page"] == "docs" else None,
        "code": code_marks,
        "kind_of": kind_of,
        "of_person": of_person,
        "size": size,
        "moment": _moment,
        "nothing_changed": NOTHING_CHANGED,
        "session": session,
        "goes_on": said.get("goes_on") or request.full_path,
        "databases": await _visible(datasette, request) if said.get("session") else [],
        "database_wanted": wanted or _only_one(session),
        "datasette_version": datasette_version,  # base.html's footer says it
    }
    html = await datasette.render_template(_TEMPLATES[said["page"]], context, request=request)
    # Datasette's own base.html names no language, which screen readers go by.
    html = html.replace("<html>", '<html lang="en">', 1)
    return Response.html(html, headers={"Vary": "Accept"})  # programs get JSON at the same path


def _signed_in(session: dict[str, Any] | None) -> dict[str, Any] | None:
    """Give who is signed in, and what he may write to: ``databases``, None for all."""
    if not session or not session["signed_in"]:
        return None
    scopes = set(session.get("scopes") or ())
    everywhere = not scopes.isdisjoint({"admin", "ingest:*"})
    named = sorted(scope.removeprefix("ingest:") for scope in scopes)
    databases = None if everywhere else named
    return {**session, "databases": databases, "is_admin": "admin" in scopes}


def _only_one(session: dict[str, Any] | None) -> str:
    """Give the database that somebody may write to, if there is one only."""
    databases = session and session["databases"]
    return databases[0] if databases and len(databases) == 1 else ""


async def _visible(datasette: Datasette, request: Request) -> list[str]:
    """List published databases that this person may see."""
    return [
        name
        for name in datasette.published
        if await is_allowed(datasette, request.actor, "view-database", name, default=True)
    ]
