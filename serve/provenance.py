"""Where the data of a worker comes from, as its pages say it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from headrace.generation import Cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What is served, and where.

    Attributes:
        read_in: The place of the reader, for people; None: pages say nothing of all this.
        generation: Its number.
        published_at: When it was published; None for generation 0.
        cuts: Every published database's cut.
    """

    read_in: str | None = None
    generation: int = 0
    published_at: datetime | None = None
    cuts: Mapping[str, Cut] = field(default_factory=dict)
