"""What a plugin can implement, as pluggy specifies hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ingest.converters.registry import Converter

PROJECT = "headrace"  # pluggy's name for it, and the group of entry points

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_converters() -> Iterable[Converter]:  # type: ignore[empty-body]
    """Give the converters that a plugin brings along; called once, at start."""
