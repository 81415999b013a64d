"""Datasette's metadata, made of a generation and of what the user wrote.

Where a database came from and how fresh it is stands on its page. Everything is text, which
Datasette escapes: file names come from strangers. What the user wrote wins.
"""

from __future__ import annotations

import copy
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from headrace.errors import WorkerError
from headrace.names import INTERNAL_TABLES
from serve.published import prefer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from headrace.generation import Cut

_SHOWN_DIGITS = 12  # of a SHA-256: all 64 are wider than a phone; receipts have them
NOTHING: Mapping[str, Any] = MappingProxyType({})
# What a user writes under one of these names replaces what Headrace would say.
_SAID_BY = {
    "description": ("description", "description_html"),
    "source": ("source", "source_url"),
}


class Published(Protocol):
    """A generation, or a change that leads to one."""

    @property
    def number(self) -> int:
        """Give its number."""

    @property
    def created_at(self) -> datetime | None:
        """Give when it was published; None for generation 0."""


def assemble_metadata(
    user: Any, generation: Published, sections: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """Give the metadata of the instance; the user's own document is not changed.

    Args:
        user: The parsed metadata file, ``{}`` without one.
        generation: The generation that it is about.
        sections: What ``describe_database`` gave for each database.

    Raises:
        WorkerError: The user's metadata has another shape than Datasette's.
    """
    merged = _section(copy.deepcopy(user), "the metadata")  # Datasette writes into it
    _say(merged, "description", _instance_description(generation))
    merged["databases"] = {**_section(merged.get("databases") or {}, "databases"), **sections}
    return merged


def describe_database(
    user: Any, name: str, cut: Cut, published: Mapping[str, Any] = NOTHING
) -> dict[str, Any]:
    """Give the metadata of one database.

    Args:
        user: What the user says about it, ``{}`` if nothing.
        name: Its name.
        cut: What it is.
        published: What is said about it in the generation.

    Raises:
        WorkerError: The user's metadata has another shape than Datasette's.
    """
    merged = prefer(_section(user, f"databases.{name}"), published)
    _say(merged, "description", _database_description(cut))
    if cut.source is not None:
        _say(merged, "source", one_line(cut.source.filename))
    tables = _section(merged.get("tables") or {}, f"databases.{name}.tables")
    for table in sorted(INTERNAL_TABLES):
        tables[table] = {
            "hidden": True,
            **_section(tables.get(table) or {}, f"databases.{name}.tables.{table}"),
        }
    merged["tables"] = tables
    return merged


def _section(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise WorkerError(
            f"cannot use {where}: it is not an object",
            hint="see docs.datasette.io/en/stable/metadata.html",
        )
    return dict(value)


def _say(section: dict[str, Any], key: str, text: str) -> None:
    if not any(said in section for said in _SAID_BY[key]):
        section[key] = text


def _instance_description(generation: Published) -> str:
    if generation.created_at is None:
        return "Nothing has been published yet."
    return f"Generation {generation.number}, published {format_moment(generation.created_at)}."


def _database_description(cut: Cut) -> str:
    """Say how fresh it is; nothing here changes while the database does not."""
    updated = f"Updated {format_moment(cut.updated_at)}"
    if cut.source is None:
        return f"{updated}."
    filename = one_line(cut.source.filename)
    return f"{updated} from {filename} (SHA-256 {cut.source.sha256[:_SHOWN_DIGITS]}…)."


def format_moment(at: datetime) -> str:
    """Give a time for people."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def one_line(text: str) -> str:
    """Replace what would break a line or turn its direction (U+202E and the like)."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
