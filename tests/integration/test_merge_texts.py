"""What looks like a number in a file is kept as it is written, where a live column holds texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace.wishes import Wishes
from ingest.converters import TableRows
from ingest.merge import find_texts, keeps_texts
from tests.integration.merge_kit import Live, fill, write

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = "CREATE TABLE t (k TEXT, n INTEGER)"
CITIES = (
    "CREATE TABLE zips (id INTEGER PRIMARY KEY, zip TEXT)",
    "CREATE TABLE t (k TEXT, zips_id INTEGER REFERENCES zips (id))",
)


@pytest.fixture
def live(tmp_path: Path) -> Live:
    """Give a live database that has nothing in it yet."""
    return Live(tmp_path)


@pytest.mark.parametrize("mode", ["append", "upsert"])
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("csv", "k,n\n1.10,7\n3,8\n"),
        ("html", "<table><tr><th>k<th>n<tr><td>1.10<td>7<tr><td>3<td>8</table>"),
        ("xml", "<ts><t><k>1.10</k><n>7</n></t><t><k>3</k><n>8</n></t></ts>"),
        ("json", '[{"k": 2.5, "n": 7}, {"k": 3, "n": 8}]'),
        ("ndjson", '{"k": 2.5, "n": 7}\n{"k": 3, "n": 8}\n'),
        ("yaml", "- {k: 2.5, n: 7}\n- {k: 3, n: 8}\n"),
    ],
)
def test_file_of_numbers_goes_into_texts_as_it_is_written(
    live: Live, mode: str, kind: str, text: str
) -> None:
    """Numbers where the table has numbers, and texts where it has texts."""
    live.begin(TEXTS, "INSERT INTO t VALUES ('1.2.3', 1)")
    live.send(mode, text, kind=kind, wishes=Wishes(pk=("k",) if mode == "upsert" else ()))
    first = "1.10" if "1.10" in text else "2.5"
    assert live.query("SELECT * FROM t") == [("1.2.3", 1), (first, 7), ("3", 8)]


def test_upsert_finds_a_row_by_a_key_that_looks_like_a_number(live: Live) -> None:
    """The row of the key ``1.10`` is changed; none of ``1.1`` is added."""
    live.begin(TEXTS, "INSERT INTO t VALUES ('1.10', 1)")
    live.send("upsert", "k,n\n1.10,2\n", wishes=Wishes(pk=("k",)))
    assert live.query("SELECT * FROM t") == [("1.10", 2)]


def test_empty_text_among_numbers_stays_empty_in_texts(live: Live) -> None:
    """NULL is for columns of numbers."""
    live.begin(TEXTS)
    live.send("append", "k,n\n1,\n,2\n")
    assert live.query("SELECT * FROM t") == [("1", None), ("", 2)]


@pytest.mark.parametrize(
    ("wishes", "stored"),
    [
        (Wishes(columns={"Version": "K"}), "1.10"),
        (Wishes(columns={"version": "k"}, types={"k": "real"}), "1.1"),
        (Wishes(columns={"version": "k"}, types={"version": "real"}), "1.1"),
    ],
)
def test_column_is_known_by_the_name_that_it_gets(live: Live, wishes: Wishes, stored: str) -> None:
    """Also where it is renamed; what the uploader says of its type goes first."""
    live.begin(TEXTS)
    live.send("append", "version\n1.10\n", wishes=wishes)
    assert live.query("SELECT k FROM t") == [(stored,)]


@pytest.mark.parametrize("mode", ["append", "replace"])
@pytest.mark.parametrize("extract", [{}, {"zip": "zips"}])
def test_looked_up_texts_are_found_as_they_are_written(
    live: Live, mode: str, extract: dict[str, str]
) -> None:
    """A code is no number in the file either, whether the upload asks for the lookup or not."""
    live.begin(*CITIES, "INSERT INTO zips VALUES (1, '1.10')", "INSERT INTO t VALUES ('a', 1)")
    live.send(mode, "k,zip\nb,1.10\nc,2\n", wishes=Wishes(extract=extract))
    assert live.query("SELECT * FROM zips") == [(1, "1.10"), (2, "2")]
    assert live.query("SELECT * FROM t")[-2:] == [("b", 1), ("c", 2)]


def test_table_that_is_renamed_to_the_one_that_was_named_keeps_texts(live: Live) -> None:
    """The only table of a file is the one that its uploader names, whatever the file calls it."""
    live.begin(TEXTS)
    live.send("append", '{"rows": [{"k": 3}, {"k": 2.5}]}', kind="json", table="t")
    assert live.query("SELECT k FROM t") == [("3",), ("2.5",)]


def test_replaced_table_has_the_types_of_the_file(live: Live) -> None:
    """All of its values come from there: what is a number may be one."""
    live.begin(TEXTS, "INSERT INTO t VALUES ('1.2.3', 1)")
    live.send("replace", "k,n\n5,6\n")
    assert live.query("SELECT * FROM t") == [(5, 6)]


@pytest.mark.parametrize(
    ("staged", "before", "after", "keeps"),
    [
        ("INTEGER", "INTEGER", "INTEGER", True),
        ("INTEGER", "TEXT", "TEXT", True),  # of a format that has types of its own
        ("INTEGER", "INTEGER", "TEXT", False),
        ("TEXT", "INTEGER", "TEXT", True),
        ("TEXT", "TEXT", "INTEGER", False),
        ("INTEGER", None, "TEXT", False),
        ("TEXT", "TEXT", None, False),
    ],
)
def test_file_is_converted_again_if_the_table_became_another(
    tmp_path: Path, staged: str, before: str | None, after: str | None, keeps: bool
) -> None:
    """Only if it would be typed otherwise now."""
    told, texts = (
        find_texts(
            write(tmp_path / f"{n}.db", f"CREATE TABLE {'T' if kind else 'u'} (V {kind}, x TEXT)"),
            "append",
        )
        for n, kind in enumerate((before, after))
    )
    path = fill(tmp_path / "staging.db", f"CREATE TABLE t (v {staged})", [(1,)])
    tables = [TableRows(name="t", rows=1)]
    assert keeps_texts(path, tables, told=told, texts=texts) is keeps
