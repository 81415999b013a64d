"""Take the pictures of the status page, of a running system in five regions.

It needs what the tests need (``make test`` installs it)::

    python -m docs.images.make_status

It writes ``docs/images/status.png``, and ``status-dark.png`` for who reads the documentation so.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

from tests.e2e.page_kit import chromium
from tests.e2e.readers_kit import world

HERE = Path(__file__).parent
REGIONS = ("fra", "iad", "gru", "nrt", "syd")
UPLOADS = 34
WIDE = {"width": 1180, "height": 1000}


def upload(primary: object, number: int, chance: random.Random) -> None:
    """Upload a small file, as somebody might."""
    name = chance.choice(["orders", "weather", "stations"])
    rows = "".join(f"{n},{chance.random():.4f}\n" for n in range(50 + number))
    primary.upload(f"id,value\n{rows}".encode(), f"{name}.csv")  # type: ignore[attr-defined]


def main() -> None:
    """Take them."""
    chance = random.Random(7)  # noqa: S311 - it is no secret
    with tempfile.TemporaryDirectory() as folder, world(Path(folder), *REGIONS) as readers:
        for number in range(UPLOADS):
            upload(readers[0].primary, number, chance)
            time.sleep(chance.uniform(0.1, 1.0))
        readers[0].wait_until_ready(UPLOADS)
        with chromium() as browser:
            for scheme, name in (("light", "status.png"), ("dark", "status-dark.png")):
                page = browser.new_page(viewport=WIDE, color_scheme=scheme)  # type: ignore[arg-type]
                page.goto(f"{readers[0].url}/-/headrace")
                page.get_by_text("everywhere after").first.wait_for()
                page.screenshot(path=HERE / name)


if __name__ == "__main__":
    main()
