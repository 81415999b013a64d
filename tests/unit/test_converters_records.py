from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from headrace.errors import Refusal
from ingest.converters import Conversion, Converted, TableRows, json_text, load_converter, records

if TYPE_CHECKING:
    from pathlib import Path


class Loaded:
    """A file of records that was converted."""

    def __init__(self, folder: Path, text: str | bytes, kind: str, filename: str = "") -> None:
        source, self.output = folder / "in", folder / "out.db"
        source.write_bytes(text.encode() if isinstance(text, str) else text)
        self.output.unlink(missing_ok=True)
        self.converted: Converted = load_converter(kind)(
            Conversion(input=source, output=self.output, format=kind, table="t", filename=filename)
        )

    def query(self, sql: str = "SELECT * FROM t") -> list[tuple[Any, ...]]:
        """Ask the staging database."""
        with closing(sqlite3.connect(self.output)) as connection:
            return connection.execute(sql).fetchall()

    @property
    def columns(self) -> dict[str, str]:
        """Give the names with their declared types."""
        return {row[1]: row[2] for row in self.query("PRAGMA table_info(t)")}


def _refuse(folder: Path, text: str | bytes, kind: str = "json") -> Refusal:
    with pytest.raises(Refusal) as caught:
        Loaded(folder, text, kind)
    return caught.value


def _write(kind: str, rows: list[str]) -> str:
    return "\n".join(rows) if kind == "ndjson" else f"[{', '.join(rows)}]"


@pytest.mark.parametrize("kind", ["json", "ndjson"])
@pytest.mark.parametrize(
    ("values", "declared", "stored"),
    [
        (["1", "-2", "null"], "INTEGER", [1, -2, None]),
        (["true", "null", "false"], "INTEGER", [1, None, 0]),
        (["true", "1", "0"], "TEXT", ["true", "1", "0"]),
        (["2.5", "false"], "TEXT", ["2.5", "false"]),
        (["1.5", "2", "1e3"], "REAL", [1.5, 2.0, 1000.0]),
        (["1.5", "9007199254740993"], "TEXT", ["1.5", "9007199254740993"]),
        (['"1"', '"01"'], "TEXT", ["1", "01"]),
        (['"1"', "1", "true"], "TEXT", ["1", "1", "true"]),
        (["9223372036854775807"], "INTEGER", [2**63 - 1]),
        (["9223372036854775808", "1"], "TEXT", ["9223372036854775808", "1"]),
        (["0.1000000000000000055"], "TEXT", ["0.1000000000000000055"]),
        (["1e400"], "TEXT", ["1e400"]),
        (['{"é": [1, null]}', "[]", "null"], "TEXT", ['{"é": [1, null]}', "[]", None]),
        (['"2024-01-31"'], "TEXT", ["2024-01-31"]),
        (["null", "null"], "TEXT", [None, None]),
        (['""', "null"], "TEXT", ["", None]),
        ([r'"a\u0000b"'], "TEXT", ["a\0b"]),
    ],
)
def test_json_values_keep_their_own_types(
    tmp_path: Path, kind: str, values: list[str], declared: str, stored: list[object]
) -> None:
    """A JSON value is stored as what it is, and as text where SQLite has nothing exact for it."""
    loaded = Loaded(tmp_path, _write(kind, [f'{{"a": {value}}}' for value in values]), kind)
    assert loaded.columns == {"a": declared}
    assert [row[0] for row in loaded.query()] == stored


@pytest.mark.parametrize("kind", ["json", "ndjson"])
def test_json_type_that_changes_late_fits_all_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A value or a key far from the start counts as much as the first."""
    monkeypatch.setattr("ingest.converters.json_records.BATCH_ROWS", 7)
    rows = [json.dumps({"a": number}) for number in range(100)] + ['{"b": 1, "a": "x"}']
    loaded = Loaded(tmp_path, _write(kind, rows), kind)
    assert loaded.columns == {"a": "TEXT", "b": "INTEGER"}
    assert loaded.query() == [*((str(number), None) for number in range(100)), ("x", 1)]
    assert loaded.converted.tables == (TableRows(name="t", rows=101),)


def test_json_keys_become_columns_in_the_order_of_the_file(tmp_path: Path) -> None:
    """Columns stand in the order in which their keys are first seen."""
    names = [f"k{number * 7 % 50}" for number in range(50)]
    rows = [dict.fromkeys(names[:30], 1), dict.fromkeys(reversed(names), 2)]
    loaded = Loaded(tmp_path, json.dumps(rows), "json")
    assert list(loaded.columns) == names[:30] + list(reversed(names[30:]))


def test_json_keys_that_differ_in_case_only_are_made_unique(tmp_path: Path) -> None:
    """Keys that SQLite would take for one column become two, with a warning."""
    loaded = Loaded(tmp_path, '[{"name": 1, "Name": 2, "": 3}]', "json")
    assert list(loaded.columns) == ["name", "Name_2", "column_3"]
    assert len(loaded.converted.warnings) == 2


def test_json_object_of_arrays_makes_a_table_of_each(tmp_path: Path) -> None:
    """An object whose values are arrays of objects is several tables, named by its keys."""
    text = '{"dogs": [{"id": 1}, {"id": 2}], "": [{"x": 1}], "none": [], "sqlite_x": [{"y": 1}]}'
    loaded = Loaded(tmp_path, text, "json")
    assert [(table.name, table.rows) for table in loaded.converted.tables] == [
        ("dogs", 2), ("data", 1), ("data_sqlite_x", 1),
    ]  # fmt: skip
    assert loaded.query("SELECT * FROM dogs") == [(1,), (2,)]
    assert len(loaded.converted.warnings) == 3


def test_json_object_that_holds_more_than_arrays_is_one_row(tmp_path: Path) -> None:
    """An object that is not made of tables is a row."""
    loaded = Loaded(tmp_path, '{"count": 1, "rows": [{"id": 1}]}', "json")
    assert loaded.query() == [(1, '[{"id": 1}]')]


def test_json_object_with_lists_beside_other_members_says_that_it_is_one_row(
    tmp_path: Path,
) -> None:
    """What an API wraps around its records keeps them from being rows; nobody has to guess why."""
    loaded = Loaded(tmp_path, '{"count": 2, "results": [{"id": 1}, {"id": 2}], "tags": []}', "json")
    assert loaded.query() == [(2, '[{"id": 1}, {"id": 2}]', "[]")]
    assert loaded.converted.warnings == (
        "the file is one object, so it is one row; JSON in that row are its lists 'results'",
    )


@pytest.mark.parametrize("text", ["[]", "{}", "[{}]", '{"a": []}', "[{}, {}]", "null"])
def test_json_without_values_is_refused_as_no_rows(tmp_path: Path, text: str) -> None:
    """A file of nothing makes no table."""
    assert _refuse(tmp_path, text).code == "no-rows"


@pytest.mark.parametrize("text", ["[1]", '[{"a": 1}, null]', '"x"', "12", "[[1, 2]]"])
def test_json_that_is_no_records_is_refused_with_what_would_do(tmp_path: Path, text: str) -> None:
    """Values that are not objects are refused with a word on what can be sent."""
    refusal = _refuse(tmp_path, text)
    assert refusal.code == "invalid-file"
    assert "array of objects" in (refusal.hint or "")


@pytest.mark.parametrize(
    ("text", "kind", "line", "column"),
    [
        ('[{"a": 1},\n {"a": }]', "json", 2, 8),
        ('{"a": 1,\n "b" 2}', "json", 2, 6),
        ('[{"a": 1}\n {"a": 2}]', "json", 2, 2),
        ('[{"a": 1}, ]', "json", 1, 12),
        ('[{"a": 1}] x', "json", 1, 12),
        ('[{"a": 1}', "json", 1, 10),
        ('[{"a": "x\n"}]', "json", 1, 10),
        ("[", "json", 1, 2),
        ('{"a": 1}\n\n{"a": \n', "ndjson", 3, 6),
        ('{"a": 1}\n[1]\n', "ndjson", 2, None),
        ('[{"a": NaN}]', "json", 1, None),
        ('[{"a": "é", "b": "'.encode() + b'\xe9"}]', "json", 1, 19),
    ],
)
def test_json_that_is_broken_is_refused_with_its_place(
    tmp_path: Path, text: str | bytes, kind: str, line: int | None, column: int | None
) -> None:
    """Broken JSON is refused with line and column."""
    refusal = _refuse(tmp_path, text, kind)
    assert (refusal.code, refusal.line, refusal.column) == ("invalid-file", line, column)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 50])
def test_json_array_read_in_small_pieces_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """Wherever the file is cut for reading, each item and each error's place is the same."""
    monkeypatch.setattr(json_text, "CHUNK_CHARACTERS", chunk)
    rows: list[dict[str, Any]] = [
        {"a": 'x"\\é😀', "b": [1.25, True, None]},
        {"a": "", "b": {"c": -1e9}},
    ] * 5
    loaded = Loaded(tmp_path, "\ufeff \n" + json.dumps(rows, indent=1), "json")
    assert [row[0] for row in loaded.query()] == [row["a"] for row in rows]
    assert [json.loads(row[1]) for row in loaded.query()] == [row["b"] for row in rows]
    refusal = _refuse(tmp_path, json.dumps(rows, indent=1).replace("-1000000000.0", "-x"))
    assert (refusal.line, refusal.column) == (13, 9)


@pytest.mark.parametrize("text", ['[{"a": ' + "[" * 100_000, '{"a":' * 100_000, "[" * 100_000])
def test_json_nested_without_end_is_refused(tmp_path: Path, text: str) -> None:
    """Depth cannot exhaust the stack."""
    assert _refuse(tmp_path, text).code == "limit-exceeded"


def test_json_number_without_end_is_refused(tmp_path: Path) -> None:
    """A number of thousands of digits is refused as a limit."""
    assert _refuse(tmp_path, '[{"a": ' + "9" * 5000 + "}]").code == "limit-exceeded"


def test_json_half_character_is_refused(tmp_path: Path) -> None:
    """Half of a surrogate pair is no text that SQLite could give back."""
    assert _refuse(tmp_path, r'[{"a": "\ud800"}]').code == "invalid-file"
    assert _refuse(tmp_path, r'[{"\ud800": 1}]').code == "invalid-file"


def test_json_with_more_keys_than_columns_is_refused(tmp_path: Path) -> None:
    """Keys that change with every record end at the limit of columns."""
    rows = [{f"k{number}": 1} for number in range(2001)]
    assert _refuse(tmp_path, json.dumps(rows)).code == "limit-exceeded"


def test_records_without_rows_are_found_in_no_document() -> None:
    """A document that is empty has no tables."""
    with pytest.raises(Refusal) as caught:
        records.find_tables([], "t")
    assert caught.value.code == "no-rows"


@pytest.mark.parametrize(
    ("written", "declared", "stored"),
    [
        ("1", "INTEGER", 1),
        ("-1.50", "REAL", -1.5),
        ("true", "INTEGER", 1),
        ("no", "TEXT", "no"),
        ("NO", "TEXT", "NO"),
        ("on", "TEXT", "on"),
        ("0123", "TEXT", "0123"),
        ("0x1F", "TEXT", "0x1F"),
        ("1_000", "TEXT", "1_000"),
        ("+1", "TEXT", "+1"),
        ("1e5", "TEXT", "1e5"),
        ("12:30", "TEXT", "12:30"),
        (".inf", "TEXT", ".inf"),
        ("2024-01-31", "TEXT", "2024-01-31"),
        ("2024-01-31 10:00:00 +01:00", "TEXT", "2024-01-31 10:00:00 +01:00"),
        ("!!timestamp 2024-01-31", "TEXT", "2024-01-31"),
        ("9223372036854775808", "TEXT", "9223372036854775808"),
        ("'7'", "TEXT", "7"),
        ("~", "TEXT", None),
        ("", "TEXT", None),
        ("[1, {x: 2024-01-01}]", "TEXT", '[1, {"x": "2024-01-01"}]'),
    ],
)
def test_yaml_scalar_keeps_what_is_written(
    tmp_path: Path, written: str, declared: str, stored: object
) -> None:
    """A YAML value is a number or a boolean only where nothing is lost; the rest stays text."""
    loaded = Loaded(tmp_path, f"- a: {written}\n  b: x\n", "yaml")
    assert loaded.columns["a"] == declared
    assert loaded.query("SELECT a FROM t") == [(stored,)]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("- a: 1\n- a: 2\n", [(1,), (2,)]),
        ("a: 1\n---\na: 2\n", [(1,), (2,)]),
        ("\ufeffa: 1\n", [(1,)]),
        ("t:\n- a: 1\n- a: 2\n", [(1,), (2,)]),
        ("- &x {a: 1}\n- *x\n- <<: *x\n", [(1,), (1,), (1,)]),
        ("- &x {a: 1}\n- <<: *x\n  a: 2\n- *x\n", [(1,), (2,), (1,)]),
    ],
)
def test_yaml_of_any_shape_makes_rows(
    tmp_path: Path, text: str, rows: list[tuple[object, ...]]
) -> None:
    """Lists, documents, tables, aliases and merge keys of YAML are read as rows."""
    assert Loaded(tmp_path, text, "yaml").query() == rows


def test_yaml_keys_are_texts_as_they_are_written(tmp_path: Path) -> None:
    """A key is a name, also if it looks like a number, a date or a boolean."""
    loaded = Loaded(tmp_path, "{1: a, no: b, 2024-01-01: c, 010: d}", "yaml")
    assert list(loaded.columns) == ["1", "no", "2024-01-01", "010"]


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("a: [1\nb: 2\n", "invalid-file", 2),
        ("a: 1\n b: 2\n", "invalid-file", 2),
        ("a: *missing\n", "invalid-file", 1),
        ("x: 1\na: !!python/object/apply:os.system [id]\n", "invalid-file", 2),
        ("a: &a [*a]\n", "invalid-file", 1),
        ("a: 1\nb: \x01\n", "invalid-file", 2),
        ("? [1]\n: 2\n", "invalid-file", 1),
        ("- a: 1\n  b: 2\n  'a': 3\n", "invalid-file", 3),
        ("- 1\n- 2\n", "invalid-file", None),
        ("just text\n", "invalid-file", None),
        ("a: é\nb: ".encode() + b"\xff\n", "invalid-file", 2),
        ("# nothing\n", "no-rows", None),
        ("---\n---\n", "no-rows", None),
        ("[" * 100_000, "limit-exceeded", 1),
    ],
)
def test_yaml_that_cannot_be_rows_is_refused_with_its_line(
    tmp_path: Path, text: str | bytes, code: str, line: int | None
) -> None:
    """Broken or hostile YAML is refused, with a line where there is one."""
    refusal = _refuse(tmp_path, text, "yaml")
    assert (refusal.code, refusal.line) == (code, line)


@pytest.mark.parametrize("form", ["[{}]", "{{<<: [{}]}}"])
def test_yaml_alias_bomb_is_refused(tmp_path: Path, form: str) -> None:
    """Aliases of aliases cannot make gigabytes of a small file."""
    lines = ["a0: &a0 {x: 1}"]
    lines += [
        f"a{level}: &a{level} {form.format(', '.join([f'*a{level - 1}'] * 9))}"
        for level in range(1, 12)
    ]
    assert _refuse(tmp_path, "\n".join(lines), "yaml").code == "limit-exceeded"


MARKDOWN = "---\ntitle: Été\ndate: 2024-01-31\ntags: [a, b]\nn: 3\n---\n\n# Hi\n\n*text*\n"


def test_markdown_with_front_matter_makes_one_row(tmp_path: Path) -> None:
    """A Markdown file is a row of its name, its front matter, and its text as it is written."""
    loaded = Loaded(tmp_path, MARKDOWN, "markdown", "posts/first-post.md")
    assert list(loaded.columns) == ["name", "title", "date", "tags", "n", "body"]
    assert loaded.query() == [
        ("first-post", "Été", "2024-01-31", '["a", "b"]', 3, "\n# Hi\n\n*text*\n")
    ]


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("# Hi\n", ("t", "# Hi\n")),
        ("---\n---\nHi\r\n", ("t", "Hi\r\n")),
        ("---\nname: mine\n---\nHi", ("mine", "Hi")),
        ("---\r\nname: mine\r\n---\r\nHi", ("mine", "Hi")),
        ("text\n---\na: 1\n---\n", ("t", "text\n---\na: 1\n---\n")),
        ("---\nnever closed\n", ("t", "---\nnever closed\n")),
    ],
)
def test_markdown_of_any_form_keeps_its_text(
    tmp_path: Path, text: str, row: tuple[str, str]
) -> None:
    """What is not front matter is the body, unchanged; a name in the front matter is the name."""
    assert Loaded(tmp_path, text, "markdown").query() == [row]


def test_markdown_front_matter_with_body_keeps_both(tmp_path: Path) -> None:
    """A key that has the text's name is renamed, with a warning."""
    loaded = Loaded(tmp_path, "---\nbody: x\n---\ny", "markdown")
    assert loaded.columns.keys() == {"name", "front_matter_body", "body"}
    assert len(loaded.converted.warnings) == 1


@pytest.mark.parametrize(("text", "line"), [("---\na: 1\nb: [\n---\n", 4), ("---\n- a\n---\n", 2)])
def test_markdown_with_broken_front_matter_is_refused(tmp_path: Path, text: str, line: int) -> None:
    """The line of an error in the front matter is counted from the start of the file."""
    refusal = _refuse(tmp_path, text, "markdown")
    assert (refusal.code, refusal.line) == ("invalid-file", line)
