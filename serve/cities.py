"""Regions as people call them: by their city.

Only Fly's names are known; whoever names regions otherwise is shown them as they are.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class City:
    """Where a region is.

    Attributes:
        name: The city.
        latitude: In degrees, to a tenth.
        longitude: The same.
    """

    name: str
    latitude: float
    longitude: float


# Codes and names: fly.io/docs/reference/regions, and those that it had before 2025. The places are
# those of the cities.
FLY = {
    "ams": City("Amsterdam", 52.4, 4.9),
    "arn": City("Stockholm", 59.3, 18.1),
    "atl": City("Atlanta", 33.7, -84.4),
    "bog": City("Bogotá", 4.7, -74.1),
    "bom": City("Mumbai", 19.1, 72.9),
    "bos": City("Boston", 42.4, -71.1),
    "cdg": City("Paris", 48.9, 2.4),
    "den": City("Denver", 39.7, -105.0),
    "dfw": City("Dallas", 32.8, -96.8),
    "ewr": City("Secaucus", 40.8, -74.1),
    "eze": City("Ezeiza", -34.9, -58.5),
    "fra": City("Frankfurt", 50.1, 8.7),
    "gdl": City("Guadalajara", 20.7, -103.3),
    "gig": City("Rio de Janeiro", -22.9, -43.2),
    "gru": City("São Paulo", -23.5, -46.6),
    "hkg": City("Hong Kong", 22.3, 114.2),
    "iad": City("Ashburn", 39.0, -77.5),
    "jnb": City("Johannesburg", -26.2, 28.0),
    "lax": City("Los Angeles", 34.1, -118.2),
    "lhr": City("London", 51.5, -0.1),
    "maa": City("Chennai", 13.1, 80.3),
    "mad": City("Madrid", 40.4, -3.7),
    "mia": City("Miami", 25.8, -80.2),
    "nrt": City("Tokyo", 35.7, 139.7),
    "ord": City("Chicago", 41.9, -87.6),
    "otp": City("Bucharest", 44.4, 26.1),
    "phx": City("Phoenix", 33.4, -112.1),
    "qro": City("Querétaro", 20.6, -100.4),
    "scl": City("Santiago", -33.4, -70.7),
    "sea": City("Seattle", 47.6, -122.3),
    "sin": City("Singapore", 1.3, 103.8),
    "sjc": City("San Jose", 37.3, -121.9),
    "syd": City("Sydney", -33.9, 151.2),
    "waw": City("Warsaw", 52.2, 21.0),
    "yul": City("Montreal", 45.5, -73.6),
    "yyz": City("Toronto", 43.7, -79.4),
}


def find_city(region: str) -> City | None:
    """Give where a region is, if its name is one of Fly's."""
    return FLY.get(region)


def name_region(region: str) -> str:
    """Give a region as people call it."""
    city = find_city(region)
    return region if city is None else city.name


def describe_place(region: str) -> str:
    """Give a region as it stands in a sentence."""
    city = find_city(region)
    return f"region {region}" if city is None else city.name
