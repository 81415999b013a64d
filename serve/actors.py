"""A plugin of every worker: who is signed in to Datasette, and where that actor may upload.

The right is a permission of Datasette's, ``headrace-ingest``, with a database as its resource, or
without one for all. Plugins give it (0.65: ``permission_allowed``, 1.0:
``permission_resources_sql``), and so do ``permissions`` of the instance or of a database, as
Datasette 1.0 has them for every permission and this has them for 0.65. As there, the root actor has
it.

Source: Datasette 0.65.5 and 1.0a41, ``hookspecs.py``; ``default_permissions``; docs.datasette.io,
"Authentication and permissions".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datasette import Response, hookimpl
from datasette.utils import actor_matches_allow

from headrace.actor_claim import ALL, ASKED_AT
from headrace.names import RESERVED_DATABASES
from serve.permissions import is_allowed

if TYPE_CHECKING:
    from datasette.app import Datasette

    from serve.dressing import DressedDatasette

PERMISSION = "headrace-ingest"


# First, so that a plugin of the user has the last word.
@hookimpl(tryfirst=True)  # type: ignore[untyped-decorator] # Datasette has no types
def permission_allowed(
    datasette: Datasette, actor: dict[str, Any] | None, action: str, resource: str | None
) -> bool | None:
    """Say whether metadata gives the right; None: it says nothing. Asked by 0.65 alone."""
    if action != PERMISSION or actor is None:
        return None
    if actor.get("id") == "root":
        return True
    # Datasette's own metadata() copies that of all databases for each question.
    metadata = datasette._metadata_local  # noqa: SLF001 - DressedDatasette sets it
    places = [metadata.get("permissions")]
    if resource is not None:
        databases = metadata.get("databases") or {}
        places.append((databases.get(resource) or {}).get("permissions"))
    said = [each[PERMISSION] for each in places if isinstance(each, dict) and PERMISSION in each]
    if not said:
        return None
    return any(actor_matches_allow(actor, allow) for allow in said)


@hookimpl  # type: ignore[untyped-decorator]
def register_actions() -> list[Any]:
    """Make the right known to Datasette 1.0, which looks it up in the configuration itself."""
    from datasette.permissions import Action  # noqa: PLC0415 - 0.65 has none
    from datasette.resources import DatabaseResource  # noqa: PLC0415

    said = "Upload to a database"
    return [Action(name=PERMISSION, description=said, resource_class=DatabaseResource)]


@hookimpl  # type: ignore[untyped-decorator]
def permission_resources_sql(actor: dict[str, Any] | None, action: str) -> Any:
    """Give the root actor the right. Asked by Datasette 1.0 alone."""
    if action != PERMISSION or actor is None or actor.get("id") != "root":
        return None
    from datasette.permissions import PermissionSQL  # noqa: PLC0415 - 0.65 has none

    return PermissionSQL.allow(reason="root may upload")


@hookimpl  # type: ignore[untyped-decorator]
def register_routes() -> list[tuple[str, Any]]:
    """Answer the reader's question; to everybody else it tells only his own rights."""
    return [(rf"^{ASKED_AT}$", _get_actor)]


async def _get_actor(datasette: DressedDatasette, request: Any) -> Response:
    actor = request.actor
    document: dict[str, Any] = {"actor": None, "databases": []}
    if isinstance(actor, dict) and actor.get("id") is not None:
        asked = request.args.get("database")
        databases = await _find_databases(datasette, actor, asked)
        document = {"actor": str(actor["id"]), "databases": databases}
    return Response.json(document, headers={"Cache-Control": "no-store"})


async def _find_databases(
    datasette: DressedDatasette, actor: dict[str, Any], asked: str | None
) -> list[str]:
    """List where an actor may upload; the one that is asked for comes first."""
    if await is_allowed(datasette, actor, PERMISSION):
        return [ALL]
    names = [name for name in datasette.databases if name not in RESERVED_DATABASES]
    names += [name for name in datasette.described if name not in datasette.databases]
    if asked is not None:
        names = [asked, *(name for name in names if name != asked)]
    return [name for name in names if await is_allowed(datasette, actor, PERMISSION, name)]
