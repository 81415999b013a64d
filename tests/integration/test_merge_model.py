"""Random old and new tables: a merge makes what a few lines of Python would make of them."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.wishes import Wishes
from ingest.merge import tables
from ingest.merge.database import LiveConnection, connect
from tests.integration.merge_kit import Live, counts

if TYPE_CHECKING:
    from collections.abc import Iterator

Row = tuple[Any, ...]

INTEGERS = st.integers(min_value=-(2**63), max_value=2**63 - 1)
REALS = st.floats(allow_nan=False, allow_infinity=False).map(lambda value: value + 0.0)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
NUMBER_TEXTS = st.sampled_from(["", "007", "1", "1.50", "1e5", "+5", "9007199254740993"]) | TEXTS
VALUES = {"INTEGER": INTEGERS, "REAL": REALS, "TEXT": NUMBER_TEXTS}
KEYS = {
    "INTEGER": st.integers(min_value=-5, max_value=25),
    "TEXT": st.sampled_from([*"abcdefghijklmnopqrst", "A", "B", "", "é"]),
}
STEPS = settings(max_examples=80, derandomize=True)


@contextmanager
def live_database() -> Iterator[Live]:
    """Give a live database in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="headrace-merge-") as folder:
        yield Live(Path(folder))


@st.composite
def keyed_tables(draw: st.DrawFn) -> tuple[str, str, list[Row], list[Row]]:
    """Draw the type of the key, the table's SQL, and old and new rows (key, small, other)."""
    kind = draw(st.sampled_from(sorted(KEYS)))
    value = draw(st.sampled_from(sorted(VALUES)))
    few = st.sampled_from(["x", "y", None])
    rows = st.lists(
        st.tuples(KEYS[kind], few, st.none() | VALUES[value]), unique_by=lambda row: row[0]
    )
    strict = draw(st.sampled_from(["", " STRICT"]))
    sql = f"CREATE TABLE t (k {kind} PRIMARY KEY, small TEXT, other {value}){strict}"
    return kind, sql, draw(rows), draw(rows)


@given(keyed_tables(), st.booleans())
@STEPS
def test_replace_by_key_is_what_the_file_says(
    drawn: tuple[str, str, list[Row], list[Row]], with_index: bool
) -> None:
    """The rows are the file's, and only those are written that differ."""
    _kind, sql, old, new = drawn
    before, after = {row[0]: row for row in old}, {row[0]: row for row in new}
    with live_database() as live:
        live.begin_with(sql, old)
        if with_index:
            run(live, "CREATE INDEX t_small ON t (small)")
        with watched(live):
            merged = live.merge_rows("replace", sql, new)
        assert {row[0]: row for row in live.query("SELECT * FROM t")} == after
        changed = {key for key in before.keys() & after if before[key] != after[key]}
        assert counts(merged) == (
            len(after.keys() - before.keys()),
            len(changed),
            len(before.keys() - after.keys()),
            len(before.keys() & after) - len(changed),
        )
        assert written(live) == changed | (before.keys() ^ after.keys())
        assert live.query("PRAGMA integrity_check") == [("ok",)]


@given(keyed_tables())
@STEPS
def test_upsert_changes_and_adds_and_removes_nothing(
    drawn: tuple[str, str, list[Row], list[Row]],
) -> None:
    """Keys of the file have its values, all others keep theirs."""
    _kind, sql, old, new = drawn
    before, after = {row[0]: row for row in old}, {row[0]: row for row in new}
    with live_database() as live:
        live.begin_with(sql, old)
        with watched(live):
            merged = live.merge_rows("upsert", sql.replace(" PRIMARY KEY", ""), new, key=["K"])
        assert {row[0]: row for row in live.query("SELECT * FROM t")} == {**before, **after}
        changed = {key for key in before.keys() & after if before[key] != after[key]}
        added = after.keys() - before.keys()
        assert counts(merged) == (len(added), len(changed), 0, len(before) - len(changed))
        assert written(live) == changed | added


@given(
    st.lists(st.tuples(INTEGERS, st.none() | TEXTS)),
    st.lists(st.tuples(INTEGERS, st.none() | TEXTS)),
    st.integers(min_value=0, max_value=10),
)
@STEPS
def test_replace_by_position_is_what_the_file_says(
    old: list[Row], other: list[Row], kept: int
) -> None:
    """Without a key, the rows are the file's in its order; those at the same place are compared."""
    sql = "CREATE TABLE t (a INTEGER, b TEXT)"
    new = [*old[:kept], *other]
    with live_database() as live:
        live.begin_with(sql, old)
        merged = live.merge_rows("replace", sql, new)
        assert live.query("SELECT * FROM t ORDER BY rowid") == new
        both = min(len(old), len(new))
        changed = sum(before != after for before, after in zip(old, new, strict=False))
        assert counts(merged) == (len(new) - both, changed, len(old) - both, both - changed)


@st.composite
def appended(draw: st.DrawFn) -> tuple[str, str, bool, list[Any], list[Any]]:
    """Draw the types of a column in a table and in a file, and the values."""
    old, new = draw(st.sampled_from(sorted(VALUES))), draw(st.sampled_from(sorted(VALUES)))
    return (
        old,
        new,
        draw(st.booleans()),
        draw(st.lists(st.none() | VALUES[old], max_size=6)),
        draw(st.lists(st.none() | VALUES[new], max_size=6)),
    )


@given(appended())
@STEPS
def test_append_changes_no_value(case: tuple[str, str, bool, list[Any], list[Any]]) -> None:
    """Whatever the types: a value is what it was, or the text of it; an empty one may be NULL."""
    old_type, new_type, strict, old, new = case
    ending = " STRICT" if strict else ""
    with live_database() as live:
        live.begin_with(f"CREATE TABLE t (a {old_type}, n INT){ending}", list(numbered(old)))
        live.merge_rows("append", f"CREATE TABLE t (a {new_type}, n INT)", list(numbered(new)))
        stored = [row[0] for row in live.query("SELECT a FROM t ORDER BY rowid")]
        for value, found in zip([*old, *new], stored, strict=True):
            assert same(value, found), (value, found)


CELLS = st.sampled_from(["", "1", "1.10", "2.50", "-0.0", "0.30000000000000004", "1.2.3"]) | TEXTS


@st.composite
def files(draw: st.DrawFn) -> list[list[tuple[str, str]]]:
    """Draw files of rows, each of a key that is unique in its file, and a text."""
    keys = st.sampled_from(["1", "1.0", "1.10", "1.1", "01", "a", "é"])
    rows = st.lists(st.tuples(keys, CELLS), max_size=6, unique_by=lambda row: row[0])
    return draw(st.lists(rows, max_size=4))


@given(files(), st.sampled_from(["csv", "json"]), st.sampled_from(["append", "upsert"]))
@settings(STEPS, max_examples=40)
def test_texts_of_files_reach_a_column_of_texts_as_they_are_written(
    sent: list[list[tuple[str, str]]], kind: str, mode: str
) -> None:
    """Whatever numbers a file's texts look like, what is read is what the file has."""
    wanted = [("key", "1.2.3")]
    with live_database() as live:
        live.send("replace", as_file(wanted, kind), kind=kind)
        for rows in filter(None, sent):
            wishes = Wishes(pk=("k",) if mode == "upsert" else ())
            live.send(mode, as_file(rows, kind), kind=kind, wishes=wishes)
            wanted += rows
            if mode == "upsert":
                wanted = list(dict(wanted).items())
        assert live.query("SELECT k, v FROM t ORDER BY rowid") == wanted


def as_file(rows: list[tuple[str, str]], kind: str) -> str:
    """Write texts as a file: quoted as CSV, and as numbers in JSON where their text is one."""
    if kind == "csv":
        file = io.StringIO()
        csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([("k", "v"), *rows])
        return file.getvalue()
    written = (f'{{"k": {as_json(key)}, "v": {as_json(value)}}}' for key, value in rows)
    return f"[{', '.join(written)}]"


def as_json(text: str) -> str:
    """Write a text as the JSON number that it is the shortest text of, or as a string."""
    if text in ("1", "0.30000000000000004"):
        return text
    return json.dumps(text)


def same(value: Any, found: Any) -> bool:
    """Say whether a value was kept, as itself or as its text."""
    if value == "" and found is None:
        return True
    if isinstance(found, str) and not isinstance(value, str):
        return bool(found == (repr(value) if isinstance(value, float) else str(value)))
    return bool(value == found)


def numbered(values: list[Any]) -> Iterator[Row]:
    """Give rows of a value and its number."""
    return ((value, number) for number, value in enumerate(values))


def run(live: Live, *statements: str) -> None:
    """Run statements on a live database."""
    with closing(sqlite3.connect(live.path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


@contextmanager
def watched(live: Live) -> Iterator[None]:
    """Note every row that merges write while the block runs: by triggers of their connection."""
    run(live, "CREATE TABLE log (k)")

    def open_and_note(path: Path, *attached: Path) -> LiveConnection:
        db = connect(path, *attached)
        for event, row in (("INSERT", "new"), ("UPDATE", "new"), ("DELETE", "old")):
            db.execute(
                f"CREATE TEMP TRIGGER on_{event} AFTER {event} ON main.t "
                f"BEGIN INSERT INTO log VALUES ({row}.k); END"
            )
        return db

    with patch.object(tables, "connect", open_and_note):
        yield


def written(live: Live) -> set[Any]:
    """Give the keys of the rows that were written."""
    return {row[0] for row in live.query("SELECT k FROM log")}
