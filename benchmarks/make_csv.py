"""Write the CSV file that the benchmarks load: ten columns of a realistic mix, the same every time.

A million rows are about 95 MB. The same seed and number of rows give the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import random
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = 20260317
HEADER = (
    "id",
    "customer_id",
    "ordered_on",
    "zip",
    "city",
    "name",
    "quantity",
    "price",
    "discount",
    "note",
)
CITIES = (
    "Amsterdam",
    "Bogotá",
    "Cape Town",
    "Düsseldorf",
    "Frankfurt am Main",
    "Ljubljana",
    "Pawtucket, RI",
    "San Francisco",
    "東京",
)
GIVEN_NAMES = (
    "Ada",
    "Bela",
    "Chidi",
    "Dorothea",
    "Emre",
    "Fatima",
    "Grace",
    "Hélène",
    "Ivo",
    "Jun",
)
FAMILY_NAMES = ("Abara", "Brandão", "Costa", "Dijkstra", "Eze", "Fischer", "Gupta", "Hopper", "Ito")
WORDS = (
    "deliver", "after", "noon", "leave", "with", "neighbour", "fragile", "gift", "wrap", "call",
    "first", "back", "door", "repeat", "order", "invoice", "by", "mail", "no",
    "substitutes", "please",
)  # fmt: skip


def rows(count: int, *, seed: int = SEED) -> Iterator[tuple[str, ...]]:
    """Give the rows, without the header."""
    rng = random.Random(seed)  # noqa: S311 - made-up data, no secrets
    first_day = dt.date(2019, 1, 1)
    for number in range(1, count + 1):
        yield (
            str(number),
            str(rng.randrange(1, 2_000_000)),
            str(first_day + dt.timedelta(days=rng.randrange(2500))),
            f"{rng.randrange(501, 99951):05d}",
            rng.choice(CITIES),
            f"{rng.choice(GIVEN_NAMES)} {rng.choice(FAMILY_NAMES)}",
            str(rng.randrange(1, 500)),
            f"{rng.randrange(99, 250_000) / 100:.2f}",
            "" if rng.random() < 0.7 else f"{rng.randrange(1, 60) / 100:.2f}",
            _note(rng),
        )


def _note(rng: random.Random) -> str:
    """Give a note: mostly a few words, sometimes none, sometimes with a comma or a quote."""
    kind = rng.random()
    if kind < 0.25:
        return ""
    words = " ".join(rng.choices(WORDS, k=rng.randrange(3, 10)))
    if kind < 0.30:
        return f'{words}, say "hello"'
    return words


def make_csv(path: Path, count: int, *, seed: int = SEED) -> None:
    """Write the file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(rows(count, seed=seed))


def main() -> None:
    """Write the file that the command line asks for, and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("path", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    make_csv(arguments.path, arguments.rows, seed=arguments.seed)
    print(f"{arguments.path}: {arguments.rows:,} rows, {arguments.path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
