"""Which databases somebody may see; asked as both lines of Datasette want it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from datasette.app import Datasette


async def find_visible(
    datasette: Datasette, actor: dict[str, Any] | None, names: Iterable[str]
) -> frozenset[str]:
    """Give those of some databases that an actor may see; also of those that are gone."""
    if not await _may(datasette, actor, "view-instance"):
        return frozenset()
    visible = [name for name in names if await _may(datasette, actor, "view-database", name)]
    return frozenset(visible)


async def _may(
    datasette: Datasette, actor: dict[str, Any] | None, action: str, database: str | None = None
) -> bool:
    if not hasattr(datasette, "permission_allowed"):  # Datasette 1.0
        from datasette.resources import DatabaseResource  # noqa: PLC0415 - 0.65 has none

        resource = {} if database is None else {"resource": DatabaseResource(database)}
        return bool(await datasette.allowed(action=action, actor=actor, **resource))
    asked = datasette.permission_allowed(actor, action, resource=database, default=True)
    return bool(await asked)
