"""Asking Datasette what an actor may do, in the words of the line that is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datasette.version import __version_info__

if TYPE_CHECKING:
    from datasette.app import Datasette


async def is_allowed(
    datasette: Datasette,
    actor: dict[str, Any] | None,
    action: str,
    database: str | None = None,
    *,
    default: bool = False,
) -> bool:
    """Tell whether an actor may do something, with a database or with all of them.

    Args:
        datasette: Asked.
        actor: Who; None is everybody.
        action: What, by its name there.
        database: Where; None is everywhere.
        default: Where nobody says anything. Datasette 1.0 has defaults of its own.
    """
    if __version_info__[0] == "0":
        return bool(
            await datasette.permission_allowed(actor, action, resource=database, default=default)
        )
    from datasette.resources import DatabaseResource  # noqa: PLC0415 - 0.65 has none

    resource = None if database is None else DatabaseResource(database)
    return bool(await datasette.allowed(action=action, resource=resource, actor=actor))
