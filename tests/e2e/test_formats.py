"""Every format goes in through `POST /ingest`, and is read back over Datasette."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import System

DATA = Path(__file__).parents[1] / "data"
MAX_PAGE_ROWS = 1_000  # that Datasette gives at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A file that was not made here (``tests/data/README.md`` says where it is from).

    Attributes:
        file: Its path below ``tests/data``.
        format: What the receipt is to call it.
        table: A table of it.
        rows: How many rows that has.
        first: Members of its first row.
        name: What it is sent as, where its own name and content do not tell the format.
        options: What must be said with the file, because the file itself does not tell.
    """

    file: str
    format: str
    table: str
    rows: int
    first: dict[str, Any]
    name: str = ""
    options: dict[str, str] = field(default_factory=dict)


CASES = [
    Case(
        file="delimited/acs2012_5yr_population.csv", format="csv", rows=93,
        table="acs2012_5yr_population",
        first={"fips": 31001, "name": "Adams County, NE", "total_population": 31299},
    ),
    Case(
        file="delimited/unemployment.tsv", format="csv", table="unemployment", rows=3218,
        first={"id": 1001, "rate": ".097"},
    ),
    Case(
        file="delimited/modechoice.csv", format="csv", table="modechoice", rows=840,
        first={"individual": 1, "mode": 1, "ttme": 69, "psize": 1},
    ),
    Case(
        file="delimited/test_utf16_little.csv", format="csv", table="test_utf16_little", rows=2,
        first={"a": 1, "b": 2, "c": "3"},
    ),
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
        file="parquet/v0.7.1.parquet", format="parquet", table="diamonds", rows=10,
        first={"carat": 0.23, "cut": "Ideal", "price": 326}, options={"table": "diamonds"},
    ),
    Case(
        file="arrow/v0.17.0.version.2-compression.lz4.feather", format="arrow",
        table="feather", rows=5, first={"a": 0}, options={"table": "feather"},
    ),
    Case(
        file="sqlite/test_gpkg_nulls.gpkg", format="sqlite", table="test_gpkg_nulls", rows=4,
        first={"fid": 1, "col_int64": 1, "col_float64": 1.5},
    ),
    Case(
        file="packed/digits.csv.gz", format="csv.gz", table="digits", rows=1797,
        first={"column_1": 0, "column_3": 5, "column_65": 0}, options={"header": "0"},
    ),
    Case(
        file="packed/table.csv.bz2", format="csv.bz2", table="table", rows=2,
        first={"id": 1, "name": "english"},
    ),
    Case(
        file="packed/table.csv.xz", format="csv.xz", table="table", rows=2,
        first={"id": 1, "name": "english"},
    ),
    Case(
        file="packed/file.txt.zst", name="lines.csv.zst", format="csv.zst", table="lines",
        rows=2, first={"column_1": "Testing, testing ..."},
        options={"header": "0", "delimiter": "tab"},
    ),
    Case(
        file="packed/gtfs.zip", format="csv.zip", table="stops", rows=10,
        first={"stop_id": "airport", "stop_code": "🛫", "stop_lat": 52.365},
    ),
    Case(
        file="packed/csv-spectrum-2.0.0.tgz", format="csv+json+markdown.tar.gz", rows=1,
        table="comma_in_quotes", first={"city": "Anytown, WW", "zip": "08123"},
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.file)
def test_format_is_read_back_over_datasette(system: System, case: Case) -> None:
    """A real file of each format is published, and its rows are what others read in it."""
    name = case.name or case.file.partition("/")[2]
    database = f"formats-{CASES.index(case)}"
    body = (DATA / case.file).read_bytes()
    receipt = system.upload(body, name, database=database, **case.options)
    assert receipt["format"] == case.format
    assert {"name": case.table, "rows": case.rows}.items() <= {
        key: value
        for table in receipt["tables"]
        if table["name"] == case.table
        for key, value in table.items()
    }.items()
    system.wait_until_live(receipt)
    rows = system.rows(f"/{database}/{case.table}")
    assert len(rows) == min(case.rows, MAX_PAGE_ROWS)
    assert case.first.items() <= rows[0].items()


@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.name], ids=lambda case: case.file
)
def test_format_is_known_by_its_content(system: System, case: Case) -> None:
    """A file without a name is converted by what is in it; NDJSON and GeoJSON too."""
    database = f"nameless-{CASES.index(case)}"
    options = {"table": "t", **case.options}
    receipt = system.upload((DATA / case.file).read_bytes(), database=database, **options)
    assert receipt["format"] == case.format
