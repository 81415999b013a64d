"""How long the last generations took to a region, as bars: small, and read at a glance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

BARS = 30
WIDTH, GAP = 4, 1  # of a bar, with the gap after it
HEIGHT = 24
PROMISED_S = 5.0  # what uploads are to be live in
AWAY_S = 60.0  # longer ones waited for a region that slept, or was cut off
_LEAST_S = 0.01  # the scale is logarithmic, from here to AWAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One generation.

    Attributes:
        x: Where it begins.
        y: Its upper end.
        height: In the same units.
        kind: ``quick``, ``slow`` or ``away``.
    """

    x: int
    y: float
    height: float
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparkline:
    """The bars, the newest to the right, and what they say in words.

    Attributes:
        bars: One for each generation that is known.
        says: For those who do not see them.
        typical_s: The median of those that did not wait; None: there is none.
        slowest_s: The most of these.
        away: How many waited.
    """

    bars: tuple[Bar, ...]
    says: str
    typical_s: float | None
    slowest_s: float | None
    away: int


def draw(delays_s: Sequence[float | None]) -> Sparkline:
    """Draw.

    Args:
        delays_s: Seconds from published to shown of each generation, oldest first; None: unknown.
    """
    last = delays_s[-BARS:]
    first_x = (BARS - len(last)) * WIDTH
    bars = tuple(
        _draw_bar(first_x + at * WIDTH, delay_s)
        for at, delay_s in enumerate(last)
        if delay_s is not None
    )
    known = [delay_s for delay_s in last if delay_s is not None]
    here = [delay_s for delay_s in known if delay_s < AWAY_S]
    away = len(known) - len(here)
    says = "No generation was published while it was there."
    if here:
        says = (
            f"The last {len(here)} generations: typically {seconds(median(here))} after they were "
            f"published, at most {seconds(max(here))}."
        )
    return Sparkline(
        bars=bars,
        says=says,
        typical_s=median(here) if here else None,
        slowest_s=max(here, default=None),
        away=away,
    )


def seconds(value: float) -> str:
    """Write seconds as people read them, with two digits at most, and a space that never breaks."""
    digits = 2 if value < 0.095 else 1 if value < 9.5 else 0  # noqa: PLR2004
    return f"{max(value, 0.01):.{digits}f}\N{NO-BREAK SPACE}s"


def _draw_bar(x: int, delay_s: float) -> Bar:
    share = math.log(max(delay_s, _LEAST_S) / _LEAST_S) / math.log(AWAY_S / _LEAST_S)
    height = round(2 + min(share, 1.0) * (HEIGHT - 2), 1)
    kind = "quick" if delay_s <= PROMISED_S else "slow" if delay_s < AWAY_S else "away"
    return Bar(x=x, y=round(HEIGHT - height, 1), height=height, kind=kind)
