"""SQLite files and shaping, in the converter's process."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from headrace.errors import Refusal
from headrace.wishes import read_wishes
from ingest.converters import Conversion, Limits, TableRows
from tests.converting import convert_alone

if TYPE_CHECKING:
    from pathlib import Path


async def test_views_that_name_each_other_too_often_are_a_limit(tmp_path: Path) -> None:
    """Forty views, each naming the one before it twice, cost some seconds and no reader."""
    source = tmp_path / "in.db"
    with closing(sqlite3.connect(source)) as db:
        db.execute("CREATE TABLE t (a)")
        db.execute("CREATE VIEW v0 AS SELECT a FROM t")
        for number in range(1, 40):
            before = f"v{number - 1}"
            db.execute(f"CREATE VIEW v{number} AS SELECT x.a FROM {before} x JOIN {before} y")
    conversion = Conversion(
        input=source, output=tmp_path / "out.db", format="sqlite", table="ignored"
    )
    with pytest.raises(Refusal) as caught:
        await convert_alone(conversion, limits=Limits(), scratch=tmp_path)
    assert caught.value.code == "limit-exceeded"
    assert [path.name for path in tmp_path.iterdir()] == ["in.db"]


async def test_csv_is_shaped_in_the_process_that_converts_it(tmp_path: Path) -> None:
    """What the process says of the tables is what is there after the shaping."""
    source = tmp_path / "in.csv"
    source.write_text("id,city,note\n2,Ur,a moth\n1,Rome,none\n")
    options = {"pk": "id", "extract": "city:cities", "index": "city", "fts": "note"}
    converted = await convert_alone(
        Conversion(
            input=source,
            output=tmp_path / "out.db",
            format="csv",
            table="finds",
            wishes=read_wishes(options),
        ),
        limits=Limits(),
        scratch=tmp_path,
    )
    finds = TableRows(name="finds", rows=2, unwanted=("city",))
    assert converted.tables == (finds, TableRows(name="cities", rows=2))
    with closing(sqlite3.connect(tmp_path / "out.db")) as db:
        found = db.execute(
            "SELECT finds.id, city FROM finds JOIN cities ON cities.id = cities_id"
            " WHERE finds.rowid IN (SELECT rowid FROM finds_fts('moth'))"
        ).fetchall()
    assert found == [(2, "Ur")]


async def test_key_that_rows_share_is_refused_by_the_process(tmp_path: Path) -> None:
    """The refusal of a shaping reaches the service whole, and nothing is left."""
    source = tmp_path / "in.csv"
    source.write_text("id\n1\n2\n1\n")
    conversion = Conversion(
        input=source,
        output=tmp_path / "out.db",
        format="csv",
        table="t",
        wishes=read_wishes({"pk": "id"}),
    )
    with pytest.raises(Refusal, match="1 in rows 1 and 3") as caught:
        await convert_alone(conversion, limits=Limits(), scratch=tmp_path)
    assert caught.value.code == "duplicate-key"
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]
