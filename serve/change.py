"""What a worker is told when its databases change: only the difference.

Light to import, because the reader itself never runs Datasette.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.generation import Cut, State, format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """One database, as a worker is told of it.

    Attributes:
        cut: What it is.
        slot: Its file.
        inspected: What Datasette would else find by reading the file (describe.py).
    """

    cut: Cut
    slot: Path
    inspected: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """From what a worker has to what it shall have.

    Attributes:
        number: The generation that it leads to.
        created_at: When that was published.
        databases: Those that are new, or have another cut or file.
        removed: Names of those that are gone.
        order: All names in their order, where it is not the old one with new names at its end.
    """

    number: int
    created_at: datetime | None
    databases: Mapping[str, Attached]
    removed: tuple[str, ...] = ()
    order: tuple[str, ...] | None = None

    def encode(self) -> dict[str, Any]:
        """Give the JSON form."""
        return {
            "number": self.number,
            "created_at": self.created_at and format_time(self.created_at),
            "databases": {
                name: {
                    "cut": each.cut.encode(),
                    "slot": str(each.slot),
                    "inspected": dict(each.inspected),
                }
                for name, each in self.databases.items()
            },
            "removed": list(self.removed),
            "order": self.order and list(self.order),
        }

    @classmethod
    def decode(cls, document: dict[str, Any]) -> Change:
        """Read the JSON form."""
        created_at, order = document["created_at"], document["order"]
        return cls(
            number=document["number"],
            created_at=created_at and parse_time(created_at),
            databases={
                name: Attached(
                    cut=Cut.decode(each["cut"]),
                    slot=Path(each["slot"]),
                    inspected=each["inspected"],
                )
                for name, each in document["databases"].items()
            },
            removed=tuple(document["removed"]),
            order=order and tuple(order),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a worker has: a generation, and the file of each of its databases."""

    state: State
    slots: Mapping[str, Path]


NOTHING = Holding(state=State(), slots={})


def changed_names(old: Holding, new: Holding) -> list[str]:
    """Name the databases that are new, or have another cut or file; the cost is a comparison each.

    A file that is the same is not enough: slots are rolled forward in place.
    """
    return [
        name
        for name, cut in new.state.databases.items()
        if not _is_same(old.state.databases.get(name), cut)
        or not _is_same(old.slots.get(name), new.slots[name])
    ]


def find_change(old: Holding, new: Holding, inspected: Mapping[str, Mapping[str, Any]]) -> Change:
    """Give the difference; ``inspected`` describes at least the changed databases."""
    names = changed_names(old, new)
    removed = tuple(name for name in old.state.databases if name not in new.state.databases)
    kept = [name for name in old.state.databases if name in new.state.databases]
    order = kept + [name for name in names if name not in old.state.databases]
    return Change(
        number=new.state.number,
        created_at=new.state.created_at,
        databases={
            name: Attached(
                cut=new.state.databases[name], slot=new.slots[name], inspected=inspected[name]
            )
            for name in names
        },
        removed=removed,
        order=None if order == list(new.state.databases) else tuple(new.state.databases),
    )


def _is_same(old: object, new: object) -> bool:
    return old is new or old == new  # mostly the first, which costs nothing
