"""The dashboards are what `make dashboards` makes, and ask for what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.grafana.make_dashboards import FOLDER, made

if TYPE_CHECKING:
    from collections.abc import Iterator

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
BOARDS = sorted(FOLDER.glob("*.json"))
_SUFFIXES = r"_(bucket|count|sum)$"  # of histograms


def panels(board: Path) -> Iterator[dict[str, Any]]:
    """Give the panels of a dashboard that show something."""
    document = json.loads(board.read_text())
    yield from (each for each in document["panels"] if each["type"] != "row")


def test_dashboards_are_current() -> None:
    """Whoever changes one changes what it is made of, and makes it anew: `make dashboards`."""
    assert dict(made()) == {path: path.read_text() for path in BOARDS}


@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
def test_dashboard_is_one_for_grafana(board: Path) -> None:
    """Grafana's own model reads it and has nothing left over; no two panels are at one place."""
    document = json.loads(board.read_text())
    read = Dashboard.from_json(document)
    assert json.loads(json.dumps(read, cls=JSONEncoder)) == document
    numbers = [each["id"] for each in document["panels"]]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    squares = [
        (column, row)
        for each in document["panels"]
        for column in range(each["gridPos"]["x"], each["gridPos"]["x"] + each["gridPos"]["w"])
        for row in range(each["gridPos"]["y"], each["gridPos"]["y"] + each["gridPos"]["h"])
    ]
    assert len(squares) == len(set(squares))
    assert max(column for column, _row in squares) < 24


@pytest.mark.parametrize("board", BOARDS, ids=lambda path: path.stem)
def test_panels_say_what_they_show_out_of_metrics_that_there_are(board: Path) -> None:
    """Each has words and a unit, and asks for metrics that the reference has."""
    known = set(re.findall(r"^\| `(\w+)` \|", REFERENCE.read_text(), re.MULTILINE))
    for panel in panels(board):
        assert panel["title"]
        assert panel["description"].endswith((".", "?")), panel["title"]
        assert panel["type"] == "table" or panel["fieldConfig"]["defaults"]["unit"]
        queries = [each["expr"] for each in panel["targets"]]
        asked = {
            name
            for query in queries
            for name in re.findall(r"\b(?:headrace|litestream|process)_\w+", query)
        }
        assert {re.sub(_SUFFIXES, "", name) for name in asked} <= known | {
            re.sub(_SUFFIXES, "", name) for name in known
        }, panel["title"]
