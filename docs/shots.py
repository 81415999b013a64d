"""Takes the screenshots that ``shots.yml`` lists, of two systems that it starts: `make shots`.

The browser is Debian's Chromium. shot-scraper has no option for its path, nor for a dark look; both
are given to Playwright, which it drives.
"""

from __future__ import annotations

import json
import random
import time
from functools import partialmethod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import httpx
import oxipng
import yaml
from playwright.sync_api import Browser, BrowserType
from shot_scraper.cli import cli

from tests.e2e.conftest import running
from tests.e2e.page_kit import CHROMIUM
from tests.e2e.primary_kit import TOKEN
from tests.e2e.readers_kit import world

if TYPE_CHECKING:
    from tests.e2e.readers_kit import Reader

HERE = Path(__file__).parent
REGIONS = ("fra", "iad", "gru", "nrt", "syd")
PEOPLE = b"id,name,zip\n1,Ada,01234\n2,Grace,94110\n"
UPLOADS = 34  # before that: what is drawn over time should have something to draw
LAUNCH, NEW_CONTEXT = BrowserType.launch, Browser.new_context
DARK = "{-dark}"
SUFFIXES = {"light": "", "dark": "-dark"}


def main() -> None:
    """Take all of them."""
    with TemporaryDirectory(prefix="headrace-shots-") as folder:
        root = Path(folder)
        with world(root, *REGIONS) as readers, running(root / "first") as first:
            upload_files(readers)
            first.upload(PEOPLE, "people.csv", wait_for="regions")
            auth = root / "auth.json"
            auth.write_text(json.dumps(sign_in(readers[0].url)))
            for scheme in SUFFIXES:
                take(list_shots(readers[0].url, first.url, scheme), auth, scheme)


def upload_files(readers: list[Reader]) -> None:
    """Publish what the screenshots show, and wait until every region does."""
    chance = random.Random(7)  # noqa: S311 - it is no secret
    for number in range(UPLOADS):
        name = chance.choice(["orders", "weather", "stations"])
        rows = "".join(f"{n},{chance.random():.4f}\n" for n in range(50 + number))
        readers[0].primary.upload(f"id,value\n{rows}".encode(), f"{name}.csv")
        time.sleep(chance.uniform(0.1, 1.0))
    readers[0].primary.upload(PEOPLE, "people.csv")
    for reader in readers:
        reader.wait_until_ready(UPLOADS + 1)


def sign_in(url: str) -> dict[str, Any]:
    """Give what a browser that has signed in keeps, as Playwright has it."""
    answer = httpx.post(f"{url}/ingest/session", data={"token": TOKEN}).raise_for_status()
    cookies = [
        {"name": name, "value": value, "url": f"{url}/ingest"}
        for name, value in answer.cookies.items()
    ]
    return {"cookies": cookies, "origins": []}


def list_shots(url: str, first: str, scheme: str) -> list[dict[str, Any]]:
    """List what is taken in a scheme: all of it in the light one, what differs in the dark one."""
    text = (HERE / "shots.yml").read_text().replace("{url}", url).replace("{first}", first)
    shots = yaml.safe_load(text)
    return [
        {**shot, "output": str(HERE / "images" / shot["output"].replace(DARK, SUFFIXES[scheme]))}
        for shot in shots
        if scheme == "light" or DARK in shot["output"]
    ]


def take(shots: list[dict[str, Any]], auth: Path, scheme: str) -> None:
    """Take screenshots, and make their files small without changing a pixel."""
    listed = auth.with_name("shots.yml")
    listed.write_text(yaml.safe_dump(shots))
    options = ["--auth", str(auth), "--browser-arg", "--no-sandbox", "--fail"]
    with (
        patch.object(BrowserType, "launch", partialmethod(LAUNCH, executable_path=CHROMIUM)),
        patch.object(Browser, "new_context", partialmethod(NEW_CONTEXT, color_scheme=scheme)),
    ):
        cli.main(["multi", str(listed), *options], standalone_mode=False)
    for shot in shots:
        oxipng.optimize(shot["output"], level=6, strip=oxipng.StripChunks.all())


if __name__ == "__main__":
    main()
