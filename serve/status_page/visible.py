"""Which databases somebody may see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serve.permissions import is_allowed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from datasette.app import Datasette


async def find_visible(
    datasette: Datasette, actor: dict[str, Any] | None, names: Iterable[str]
) -> frozenset[str]:
    """Give those of some databases that an actor may see; also of those that are gone."""
    if not await is_allowed(datasette, actor, "view-instance", default=True):
        return frozenset()
    visible = [
        name
        for name in names
        if await is_allowed(datasette, actor, "view-database", name, default=True)
    ]
    return frozenset(visible)
