"""Every format goes in through `POST /ingest`, and is read back over Datasette."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import System

DATA = Path(__file__).parents[1] / "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A file that was not made here (``tests/data/*/README.md`` says where it is from).

    Attributes:
        file: Its path below ``tests/data``.
        format: What the receipt is to call it.
        table: A table of it.
        rows: How many rows that has.
        first: Members of its first row.
    """

    file: str
    format: str
    table: str
    rows: int
    first: dict[str, Any]


CASES = [
    Case(
        file="json/us-state-capitals.json", format="json", table="us-state-capitals", rows=50,
        first={"lon": -86.3005639, "state": "Alabama", "city": "Montgomery"},
    ),
    Case(
        file="ndjson/todos.ndjson", format="ndjson", table="todos", rows=300,
        first={"date": "2017-02-24 03:07:45", "user": "21109850", "product": "134"},
    ),
    Case(
        file="geojson/featurecollection.geojson", format="geojson", table="featurecollection",
        rows=3, first={"prop0": "value0", "min_lon": 102.0, "max_lat": 0.5},
    ),
    Case(
        file="sheets/founders.xlsx", format="sheets", table="founders", rows=3,
        first={"first_name": "John", "gpa": 90},
    ),
    Case(
        file="sheets/date_field.xls", format="sheets", table="Sheet1", rows=4,
        first={"Date": "2014-12-25", "Time": "11:11:11"},
    ),
    Case(
        file="sheets/ods_formats.ods", format="sheets", table="Sheet1", rows=5,
        first={"Date": "2014-11-11", "Boolean": 1, "Float": 11.11, "Text": "abc"},
    ),
    Case(
        file="parquet/v0.7.1.parquet", format="parquet", table="v0_7_1", rows=10,
        first={"carat": 0.23, "cut": "Ideal", "price": 326},
    ),
    Case(
        file="arrow/v0.17.0.version.2-compression.lz4.feather", format="arrow",
        table="feather", rows=5, first={"a": 0},
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.file)
def test_format_is_read_back_over_datasette(system: System, case: Case) -> None:
    """A real file of each format is published, and its rows are what others read in it."""
    name = case.file.partition("/")[2]
    single = {} if case.table == "Sheet1" else {"table": case.table}
    database = f"formats-{CASES.index(case)}"
    receipt = system.upload((DATA / case.file).read_bytes(), name, database=database, **single)
    assert {"name": case.table, "rows": case.rows}.items() <= {
        key: value
        for table in receipt["tables"]
        if table["name"] == case.table
        for key, value in table.items()
    }.items()
    system.wait_until_live(receipt)
    rows = system.rows(f"/{database}/{case.table}")
    assert len(rows) == case.rows
    assert case.first.items() <= rows[0].items()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.file)
def test_format_is_known_by_its_content(system: System, case: Case) -> None:
    """A file without a name is converted by what is in it; NDJSON and GeoJSON too."""
    database = f"nameless-{CASES.index(case)}"
    receipt = system.upload((DATA / case.file).read_bytes(), database=database, table="t")
    assert receipt["format"] == case.format
