"""Make the dotted map of the status page out of Natural Earth's land (public domain).

``npm pack world-atlas@2.0.2`` has it, of Natural Earth 4.1.0, as TopoJSON::

    python -m docs.images.make_world package/land-110m.json > serve/status_page/land.txt

A dot is drawn where the middle of its square is land. A row of dots is one line, dashed into dots.
"""

from __future__ import annotations

import json
import sys
from itertools import accumulate, groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve.status_page.world import COLUMNS, ROWS, place_at

if TYPE_CHECKING:
    from collections.abc import Iterator

Point = tuple[float, float]


def read_rings(topology: dict[str, Any]) -> list[list[Point]]:
    """Give the outlines of all land, as longitude and latitude.

    Source: the TopoJSON format specification, 2.1 (arcs) and 2.1.4 (their indexes).
    """
    (kx, ky), (x0, y0) = topology["transform"]["scale"], topology["transform"]["translate"]
    arcs = []
    for arc in topology["arcs"]:
        points = accumulate(arc, lambda at, step: (at[0] + step[0], at[1] + step[1]))
        arcs.append([(x * kx + x0, y * ky + y0) for x, y in points])
    return [
        [point for index in ring for point in (arcs[index] if index >= 0 else arcs[~index][::-1])]
        for geometry in topology["objects"]["land"]["geometries"]
        for polygon in geometry["arcs"]
        for ring in polygon
    ]


def is_land(rings: list[list[Point]], longitude: float, latitude: float) -> bool:
    """Tell whether a point is on land: a line from it to the east crosses an odd number of edges.

    An outline that goes over the 180th meridian goes on beyond it here, where it is met again.
    """
    crossed = 0
    for ring in rings:
        beyond = 0
        for (x1, y1), (x2, y2) in pairwise(ring):
            x1, beyond = x1 + beyond, beyond - round((x2 - x1) / 360) * 360  # noqa: PLW2901
            if (y1 > latitude) != (y2 > latitude):
                edge = x1 + (latitude - y1) / (y2 - y1) * (x2 + beyond - x1)
                crossed += sum(longitude + turn < edge for turn in (-360, 0, 360))
    return crossed % 2 == 1


def draw(rings: list[list[Point]]) -> Iterator[str]:
    """Give the lines of dots, as an SVG path's data."""
    for row in range(ROWS):
        dots = (is_land(rings, *place_at(column, row)) for column in range(COLUMNS))
        column = 0
        for land, run in groupby(dots):
            length = len(list(run))
            if land:
                yield f"M{column} {row}h{length - 1 or ''}.1"
            column += length


def main() -> None:
    """Print it."""
    rings = read_rings(json.loads(Path(sys.argv[1]).read_text()))
    print("".join(draw(rings)))  # noqa: T201


if __name__ == "__main__":
    main()
