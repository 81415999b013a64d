"""Previews: the beginning of a file through the real detection and conversion, and nothing kept."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from headrace.errors import Refusal
from headrace.options import read_target
from ingest.converters import BUILT_IN, Limits
from ingest.disk import Disk
from ingest.metrics import IngestMetrics
from ingest.preview import AT_ONCE, MAX_HEAD_BYTES, MAX_ROWS, MAX_TEXT, WAITING, Head, Previews
from tests.converting import nursery_in
from tests.integration.merge_kit import write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def previews_in(folder: Path) -> AsyncIterator[Previews]:
    """Give previews that work in a folder, which is empty in the end."""
    async with nursery_in(folder) as nursery:
        yield Previews(
            folder,
            registry=BUILT_IN,
            limits=Limits(),
            nursery=nursery,
            disk=Disk(folder, 0, IngestMetrics()),
        )
    assert list(folder.iterdir()) == []


def head_of(
    body: bytes,
    filename: str,
    *,
    complete: bool = True,
    media_type: str | None = None,
    **options: str,
) -> Head:
    """Give the beginning of a file."""
    target = read_target(options, filename)
    return Head(
        body=body, complete=complete, target=target, media_type=media_type, sender="somebody"
    )


async def test_preview_of_a_megabyte_of_csv_shows_types_and_first_rows(tmp_path: Path) -> None:
    """The types are those of all rows in it, and a row that is cut off is none."""
    rows = "".join(f"{n};name {n};{n}.5;0{n}\n" for n in range(60_000))
    body = ("id;name;price;zip\n" + rows).encode("utf-16")[: MAX_HEAD_BYTES - 1]
    async with previews_in(tmp_path) as previews:
        found = await previews.make(head_of(body, "a.csv", complete=False, media_type="image/png"))
    assert (found["format"], found["encoding"], found["delimiter"]) == (
        "csv",
        "utf-16-le",
        "semicolon",
    )
    (table,) = found["tables"]
    assert [(each["name"], each["type"]) for each in table["columns"]] == [
        ("id", "INTEGER"),
        ("name", "TEXT"),
        ("price", "REAL"),
        ("zip", "TEXT"),
    ]
    assert len(table["rows"]) == MAX_ROWS
    assert table["rows"][1] == [1, "name 1", 1.5, "01"]
    assert 10_000 < table["row_count"] < 60_000


@pytest.mark.parametrize("name", ["a.zip", "a.json", "a.xml"])
async def test_preview_of_what_has_to_be_whole_says_why_there_is_none(
    tmp_path: Path, name: str
) -> None:
    """Nobody takes a guess for what will be."""
    heads = {"a.zip": b"PK\x03\x04" + bytes(60), "a.json": b'{"a": [1,', "a.xml": b"<a><b>1</b>"}
    async with previews_in(tmp_path) as previews:
        found = await previews.make(head_of(heads[name], name, complete=False))
    assert found["previewable"] is False
    assert found["reason"]
    assert (found["database"], found["tables"]) == ("a", [])


async def test_preview_refuses_what_an_upload_would(tmp_path: Path) -> None:
    """With line and hint; options count, as they will."""
    body = b"a,b\n1,2\n3,4,5\n"
    async with previews_in(tmp_path) as previews:
        with pytest.raises(Refusal, match="line 3") as caught:
            await previews.make(head_of(body, "a.csv"))
        found = await previews.make(
            head_of(body, "a.csv", on_bad_rows="quarantine", types="b:text")
        )
    assert (caught.value.code, caught.value.line) == ("invalid-file", 3)
    assert [table["name"] for table in found["tables"]] == ["a", "a_rejects"]
    assert found["tables"][0]["columns"][1]["type"] == "TEXT"


async def test_preview_shows_values_that_json_and_a_page_can_hold(tmp_path: Path) -> None:
    """Large integers are not rounded, infinity is JSON, bytes are counted, long text is cut."""
    path = tmp_path.with_name(f"{tmp_path.name}.db")
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (a, b, c, d)")
        row = (2**60, 9e999, b"\0\1", "x" * 1000)
        db.execute("INSERT INTO t VALUES (?, ?, ?, ?)", row)
        db.commit()
    async with previews_in(tmp_path) as previews:
        found = await previews.make(head_of(path.read_bytes(), "t.db"))
    assert found["tables"][0]["rows"] == [[str(2**60), "inf", "<2 bytes>", "x" * MAX_TEXT + "…"]]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, ["zip", "shop_id"]),
        ({"mode": "append"}, ["zip", "shop_id"]),
        ({"mode": "upsert", "pk": "id"}, ["zip", "shop_id"]),
        ({"mode": "create"}, []),
        ({"columns": "id,city"}, []),
        ({"table": "other"}, []),
    ],
)
async def test_preview_names_the_columns_that_a_file_does_not_have(
    tmp_path: Path, options: dict[str, str], kept: list[str]
) -> None:
    """But for one whose values the file has: they are looked up."""
    live = tmp_path.with_name(f"{tmp_path.name}.db")
    with closing(sqlite3.connect(live)) as db:
        db.executescript("""
            CREATE TABLE cities (id INTEGER PRIMARY KEY, city TEXT);
            CREATE TABLE shops (id INTEGER PRIMARY KEY, shop TEXT);
            CREATE TABLE t (id INTEGER PRIMARY KEY, zip TEXT, city_id REFERENCES cities (id),
                shop_id REFERENCES shops (id));
        """)
    target = read_target(options, "t.csv")
    body = b"ID,city\n1,Bern\n"
    head = Head(
        body=body, complete=True, target=target, media_type=None, sender="somebody", live=live
    )
    async with previews_in(tmp_path) as previews:
        (table,) = (await previews.make(head))["tables"]
    assert table["kept_columns"] == kept


async def test_preview_shows_what_stays_text_in_the_live_table(tmp_path: Path) -> None:
    """A column of numbers is one of texts where it goes into one, as in the upload itself."""
    live = write(tmp_path / "live.db", "CREATE TABLE a (v TEXT)")
    folder = tmp_path / "staging"
    folder.mkdir()
    async with previews_in(folder) as previews:
        head = replace(head_of(b"v\n1.10\n", "a.csv", mode="append"), live=live)
        found = await previews.make(head)
    assert found["tables"][0]["columns"] == [{"name": "v", "type": "TEXT"}]
    assert found["tables"][0]["rows"] == [["1.10"]]


async def test_previews_are_made_a_few_at_once(tmp_path: Path) -> None:
    """A hundred people get their previews, and the hundred-first hears that he has to wait."""
    head = head_of(b"a\n1\n", "a.csv")
    async with previews_in(tmp_path) as previews:
        asking = [
            asyncio.create_task(_code_of(previews, head)) for _ in range(AT_ONCE + WAITING + 1)
        ]
        await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        refused = [task for task in asking if task.done() and task.result() == "overloaded"]
        assert len(refused) == 1
        assert len(list(tmp_path.glob("preview-*"))) <= AT_ONCE
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def _code_of(previews: Previews, head: Head) -> Any:
    try:
        return (await previews.make(head))["format"]
    except Refusal as refusal:
        return refusal.code
