"""Where the names of cities stand on the map: beside their dots, and not on one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from serve.status_page.world import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

_LETTER, _LINE = 1.15, 2.4  # of a name, in dots of the map
_OFF = 2.6  # from the dot's middle


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A name on the map.

    Attributes:
        x: Where it stands.
        y: The same.
        anchor: Which end of it that is, as SVG says it.
    """

    x: float
    y: float
    anchor: str


def place_labels(spots: Sequence[tuple[float, float]], names: Sequence[str]) -> list[Label]:
    """Place a name beside each spot: to the right, else to the left, above or below.

    Where there is room nowhere it stands to the right all the same.
    """
    taken = [(x - 1, y - 1, x + 1, y + 1) for x, y in spots]
    placed = []
    for (x, y), name in zip(spots, names, strict=True):
        long = len(name) * _LETTER
        choices = [
            (Label(x=x + _OFF, y=y, anchor="start"), x + _OFF),
            (Label(x=x - _OFF, y=y, anchor="end"), x - _OFF - long),
            (Label(x=x, y=y - _OFF - 0.6, anchor="middle"), x - long / 2),
            (Label(x=x, y=y + _OFF + 0.6, anchor="middle"), x - long / 2),
        ]
        boxes = [
            (left, label.y - _LINE / 2, left + long, label.y + _LINE / 2) for label, left in choices
        ]
        free = [
            at
            for at, box in enumerate(boxes)
            if box[0] >= -1
            and box[2] <= COLUMNS + 1
            and not any(_meet(box, other) for other in taken)
        ]
        best = free[0] if free else 0
        taken.append(boxes[best])
        label = choices[best][0]
        placed.append(Label(x=round(label.x, 1), y=round(label.y, 1), anchor=label.anchor))
    return placed


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
