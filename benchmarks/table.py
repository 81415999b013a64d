"""What a benchmark gives: its own tables, and its rows of the one table that shows all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One comparison.

    Attributes:
        what: What was measured.
        headrace: Ours, with its unit.
        against: The peer, or the limit, and its figure in the same run.
        goal: What is to be reached.
        reached: Whether it was.
    """

    what: str
    headrace: str
    against: str
    goal: str
    reached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one benchmark gives.

    Attributes:
        text: Its own tables, in Markdown.
        rows: Its rows of the table of all.
    """

    text: str
    rows: tuple[Row, ...]


def summarise(rows: Iterable[Row]) -> str:
    """Give the table of all."""
    lines = [
        "| what | Headrace | against | goal | reached |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        reached = "yes" if row.reached else "**no**"
        lines.append(f"| {row.what} | {row.headrace} | {row.against} | {row.goal} | {reached} |")
    return "\n".join(lines)
