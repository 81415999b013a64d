"""The status page, and a line at the foot of every page: a Datasette plugin of every worker.

Only the edge sends requests for ``/-/headrace`` here (``serve/status_pages.py``), with what there
is to see: so the page has the look of the instance, its own templates and plugins included.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasette import hookimpl
from datasette.utils.asgi import Response
from datasette.version import __version__ as datasette_version

from serve.assets import Assets
from serve.page_header import PAGE_HEADER
from serve.status_page.footer import find_origin
from serve.status_page.picture import paint
from serve.status_page.visible import find_visible

if TYPE_CHECKING:
    from datasette.app import Datasette
    from datasette.utils.asgi import Request

STATUS = "/-/headrace"  # the edge's own, so never below Datasette's `base_url`
ASSETS = Assets("/-/status-page", Path(__file__).with_name("browser"))


@hookimpl  # type: ignore[untyped-decorator] # pluggy's marks have no types here
def register_routes() -> list[tuple[str, Any]]:
    """Answer for the page, and for scripts and styles."""
    return [(rf"^{STATUS}$", _page), ASSETS.route()]


@hookimpl  # type: ignore[untyped-decorator]
def skip_csrf(scope: dict[str, Any]) -> bool:
    """Let the edge's own requests pass: nothing is changed by rendering a page."""
    return any(name == PAGE_HEADER.lower().encode() for name, _ in scope["headers"])


@hookimpl  # type: ignore[untyped-decorator]
def menu_links() -> list[dict[str, str]]:
    """Lead to the page from every page's menu."""
    return [{"href": STATUS, "label": "Status"}]


@hookimpl  # type: ignore[untyped-decorator]
def extra_template_vars(
    datasette: Datasette, request: Request | None, database: str | None
) -> dict[str, Any]:
    """Tell templates what the line at the foot says; None: there is none."""
    return {
        "headrace_origin": find_origin(datasette, request, database),
        "headrace_status_url": STATUS,
        "headrace_status_assets": ASSETS.url(datasette),
    }


async def _page(datasette: Datasette, request: Request) -> Response:
    """Render what the edge says."""
    if not request.headers.get(PAGE_HEADER.lower()):
        return Response.redirect(STATUS)
    said = json.loads(await request.post_body())
    names = {name for each in said["seen"]["generations"] for name in _names(each)}
    visible = await find_visible(datasette, request.actor, names)
    context = {
        **said,
        "picture": paint(said["seen"], visible),
        "datasette_version": datasette_version,  # base.html's footer says it
    }
    html = await datasette.render_template("headrace_status.html", context, request=request)
    # Datasette's own base.html names no language, which screen readers go by.
    return Response.html(html.replace("<html>", '<html lang="en">', 1))


def _names(generation: dict[str, Any]) -> list[str]:
    return [*generation["files"], *generation["removed"]]
