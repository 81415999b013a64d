"""The formats that are built in: by what a file is told, and what can be said about reading it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docs.made.table import code, table
from ingest.converters import FORMATS

if TYPE_CHECKING:
    from ingest.converters import Format


def formats() -> str:
    """Give the table of formats."""
    rows = (
        (
            code(each.name),
            code(*sorted(each.suffixes)),
            code(*sorted(each.media_types)),
            _options(each),
            code(f"ingest/converters/{each.module}.py"),
        )
        for each in FORMATS
    )
    return table(
        ("format", "names end in", "media types", "options of its reading", "module"), rows
    )


def _options(each: Format) -> str:
    """Give what a format knows of ``wishes.READING``."""
    if each.honours is None:
        return "those of what is in it"
    return code(*sorted(each.honours)) if each.honours else "none"
