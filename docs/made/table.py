"""A table in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAMES = frozenset({"Datasette", "Headrace", "Litestream"})


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Give a table; bars in cells are escaped."""
    first, *others = (f"| {' | '.join(map(_escaped, line))} |" for line in (head, *rows))
    return "\n".join((first, f"|{'---|' * len(head)}", *others))


def code(*words: str) -> str:
    """Give words as code, with commas between."""
    return ", ".join(f"`{word}`" for word in words)


def phrase(sentence: str) -> str:
    """Give a sentence as cells have it: it begins small, and has no full stop."""
    first = sentence.partition(" ")[0]
    begins_small = first.capitalize() == first and first not in _NAMES
    return (sentence[:1].lower() + sentence[1:] if begins_small else sentence).rstrip(".")


def _escaped(cell: str) -> str:
    return cell.replace("|", r"\|")
