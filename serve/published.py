"""What uploaders say about a database, as a reader shows it: what the operator says wins.

So does Datasette itself: what plugins say never replaces what stands in ``metadata.json``. Source:
datasette 0.65.5, ``app.py``, ``metadata``.
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

from headrace.names import INTERNAL_TABLES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

# They say one thing together: who says a part of it says all.
_TOGETHER = (
    ("description", "description_html"),
    ("license", "license_url"),
    ("source", "source_url"),
    ("about", "about_url"),
    ("sort", "sort_desc"),
)
_NUMERIC = re.compile("INT|REAL|FLOA|DOUB|NUM|DEC", re.IGNORECASE)


def prefer(operator: Mapping[str, Any], published: Mapping[str, Any]) -> dict[str, Any]:
    """Give both together, key by key; what the operator says wins.

    A list, and a canned query, is taken whole from one of them.
    """
    merged = dict(operator)
    for key, said in published.items():
        mine = operator.get(key)
        together = next((pair for pair in _TOGETHER if key in pair), (key,))
        if isinstance(mine, dict) and isinstance(said, dict) and key != "queries":
            merged[key] = prefer(mine, said)
        elif isinstance(mine, dict) and isinstance(said, dict):
            merged[key] = {**copy.deepcopy(said), **mine}
        elif not any(each in operator for each in together):
            merged[key] = copy.deepcopy(said)  # Datasette writes into it
    return merged


def showable(
    metadata: Mapping[str, Any],
    tables: Collection[str],
    columns: Mapping[str, Mapping[str, str]],
) -> dict[str, Any]:
    """Give what can be shown: what names a column that is gone would be an error on the page.

    Args:
        metadata: What is said in the generation.
        tables: Names of the tables that there are.
        columns: Of each table that something is said about, with the types they are declared with.
    """
    shown = {key: value for key, value in metadata.items() if key not in {"tables", "queries"}}
    shown["tables"] = {
        table: _showable_table(said, columns[table])
        for table, said in metadata.get("tables", {}).items()
        if table in columns and table not in INTERNAL_TABLES
    }
    taken = {table.lower() for table in tables}
    shown["queries"] = {  # one that has the name of a table would hide it
        name: query
        for name, query in metadata.get("queries", {}).items()
        if name.lower() not in taken
    }
    return {key: value for key, value in shown.items() if value not in ({}, None)}


def names_units(metadata: Mapping[str, Any]) -> bool:
    """Say whether any column has a unit."""
    return any(table.get("units") for table in metadata.get("tables", {}).values())


def _showable_table(said: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    there = columns.keys() | {"rowid"}
    shown = {
        key: value
        for key, value in said.items()
        if key not in {"sort", "sort_desc", "label_column"} or value in there
    }
    if "facets" in said:
        shown["facets"] = [
            facet
            for facet in said["facets"]
            if (set(facet.values()) if isinstance(facet, dict) else {facet}) <= there
        ]
    if "units" in said:  # Datasette multiplies: a text is an error
        shown["units"] = {
            column: unit
            for column, unit in said["units"].items()
            if _NUMERIC.search(columns.get(column, ""))
        }
    return shown
