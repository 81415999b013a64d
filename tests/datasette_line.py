"""What the tests ask Datasette, in the words of the line that is installed: 0.65, or 1.0."""

from __future__ import annotations

from typing import Any

from datasette.version import __version_info__

IS_1 = __version_info__[0] != "0"


def query_path(database: str) -> str:
    """Give the path that answers SQL (``?sql=``) in JSON."""
    return f"/{database}/-/query.json" if IS_1 else f"/{database}.json"


def databases_of(home: Any) -> dict[str, Any]:
    """Give what ``/.json`` says of each database, by name."""
    return {each["name"]: each for each in home["databases"]} if IS_1 else home


def facet_of(answer: Any, column: str) -> Any:
    """Give the values of a facet, of a table's JSON."""
    facets = answer["facet_results"]
    return (facets["results"] if IS_1 else facets)[column]["results"]
