"""The ways that generations take, from the primary to the regions, as arcs on the map."""

from __future__ import annotations

from math import hypot
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    Spot = tuple[float, float]

_BEND = 0.18  # of its length: how far an arc leaves the straight line


def draw_ways(start: Spot, ends: Sequence[Spot]) -> list[str]:
    """Give the arcs from one spot to others, each as an SVG path's data; none to itself."""
    return [_draw_way(start, end) for end in ends if end != start]


def _draw_way(start: Spot, end: Spot) -> str:
    (x1, y1), (x2, y2) = start, end
    lift = hypot(x2 - x1, y2 - y1) * _BEND
    return f"M{x1} {y1}Q{(x1 + x2) / 2:.1f} {(y1 + y2) / 2 - lift:.1f} {x2} {y2}"
