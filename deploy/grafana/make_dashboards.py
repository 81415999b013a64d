"""Writes the dashboards beside it: ``make dashboards``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.boards import database, ingest, overview, readers, storage

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parent


def made() -> Iterator[tuple[Path, str]]:
    """Give each file, and what is to be in it."""
    for board in (overview, ingest, readers, storage, database):
        text = json.dumps(board.make(), cls=JSONEncoder, indent=1, sort_keys=True)
        yield FOLDER / f"{board.__name__.rpartition('.')[2]}.json", f"{text}\n"


if __name__ == "__main__":
    for path, text in made():
        path.write_text(text)
