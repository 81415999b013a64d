"""Where on the map a place is: a grid of dots, equirectangular, true to scale at 36 degrees."""

from __future__ import annotations

NORTH, SOUTH = 78.0, -56.0  # degrees: what is beyond has neither land on the map nor readers
STEP = 2.4  # degrees of latitude between two rows
_STEP_EAST = STEP / 0.81  # cosine of 36 degrees
ROWS = round((NORTH - SOUTH) / STEP)
COLUMNS = round(360 / _STEP_EAST)
_WEST = -169.0  # where the map begins: between Asia and America


def find_spot(latitude: float, longitude: float) -> tuple[float, float]:
    """Give the column and the row of a place, in dots, from the north-west."""
    east = (longitude - _WEST) % 360
    return round(east / _STEP_EAST, 1), round((NORTH - latitude) / STEP, 1)


def place_at(column: float, row: float) -> tuple[float, float]:
    """Give the longitude and the latitude of a spot."""
    longitude = _WEST + column * _STEP_EAST
    return (longitude + 180) % 360 - 180, NORTH - row * STEP
