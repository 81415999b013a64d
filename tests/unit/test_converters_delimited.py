from __future__ import annotations

import csv
import io
import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import adbc_driver_manager
import pytest
from datasette.app import Datasette

from headrace.errors import Refusal
from headrace.wishes import Wishes
from ingest.converters import (
    Conversion,
    Converted,
    TableRows,
    arrow_insert,
    delimited,
    staging,
)

if TYPE_CHECKING:
    from pathlib import Path


FORM = "application/x-www-form-urlencoded"  # as curl says of any data, unless it is told better


class Loaded:
    """A CSV file that was converted."""

    def __init__(
        self,
        folder: Path,
        data: str | bytes,
        filename: str = "",
        media_type: str | None = None,
        **wishes: Any,
    ) -> None:
        source, self.output = folder / "in.csv", folder / "out.db"
        source.write_bytes(data.encode() if isinstance(data, str) else data)
        self.output.unlink(missing_ok=True)
        self.converted: Converted = delimited.convert(
            Conversion(
                input=source,
                output=self.output,
                format="csv",
                table="t",
                filename=filename,
                media_type=media_type,
                wishes=Wishes(**wishes),
            )
        )

    def query(self, sql: str = "SELECT * FROM t") -> list[tuple[Any, ...]]:
        """Ask the staging database."""
        with closing(sqlite3.connect(self.output)) as connection:
            return connection.execute(sql).fetchall()

    @property
    def types(self) -> list[str]:
        """Give the declared types."""
        return [row[2] for row in self.query("PRAGMA table_info(t)")]

    @property
    def columns(self) -> list[str]:
        """Give the names."""
        return [row[1] for row in self.query("PRAGMA table_info(t)")]


def _refuse(folder: Path, data: str | bytes, **wishes: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        Loaded(folder, data, **wishes)
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        "01234", "+5", "1_000", "1e5", "1E5", " 5", "5 ", "9223372036854775808", "NaN", "nan",
        "inf", "-inf", "-0", "-0.0", "0x1F", "1.", ".5", "1,5", "٣", "12345678901234567890.5", "00",
        "--1", "0.1000000000000000055", "-", "1.5.2", "2024-01-01", "true", "1 000",
        "9007199254740993.5",
        "0.00000000000000000000000000000000000000000000001234567890123456789",
    ],
)  # fmt: skip
@pytest.mark.parametrize("beside", ["7", "7.5"])
def test_column_with_text_that_no_number_gives_back_stays_text(
    tmp_path: Path, text: str, beside: str
) -> None:
    """A column is a number only if every value goes back to its text; otherwise all are text."""
    loaded = Loaded(tmp_path, f'a,b\n{beside},x\n"{text}",y\n')
    assert loaded.types == ["TEXT", "TEXT"]
    assert loaded.query("SELECT a FROM t") == [(beside,), (text,)]


@pytest.mark.parametrize(
    ("texts", "declared", "values"),
    [
        (["0", "-5", "12"], "INTEGER", [0, -5, 12]),
        (["9223372036854775807", "-9223372036854775808"], "INTEGER", [2**63 - 1, -(2**63)]),
        (["1.50", "2"], "REAL", [1.5, 2.0]),
        (["-0.25", "0.0", "100.00"], "REAL", [-0.25, 0.0, 100.0]),
        (["0.30000000000000004", "-122.41941550000001"], "REAL", [0.1 + 0.2, -122.41941550000001]),
        (["1.5", "9007199254740992"], "REAL", [1.5, 2.0**53]),
        (["1.5", "9007199254740993"], "TEXT", ["1.5", "9007199254740993"]),
        (["1.5", "9007199254740994"], "TEXT", ["1.5", "9007199254740994"]),
        (["1", "", "3"], "INTEGER", [1, None, 3]),
        (["1.5", ""], "REAL", [1.5, None]),
        (["x", ""], "TEXT", ["x", ""]),
        (["", ""], "TEXT", ["", ""]),
    ],
)
def test_column_of_values_gets_the_type_that_loses_nothing(
    tmp_path: Path, texts: list[str], declared: str, values: list[object]
) -> None:
    """Numbers become numbers where that is exact, and empty is NULL among them only."""
    loaded = Loaded(tmp_path, "a,b\n" + "".join(f"{text},x\n" for text in texts))
    assert loaded.types[0] == declared
    assert [row[0] for row in loaded.query("SELECT a FROM t")] == values


@pytest.mark.parametrize(
    ("late", "declared"), [("2.5", "REAL"), ("007", "TEXT"), ("", "INTEGER"), ("x\0", None)]
)
def test_value_far_from_the_start_decides_the_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: str, declared: str | None
) -> None:
    """The last value counts as much as the first: earlier rows are loaded again to fit it."""
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 1000)
    data = "a,b,c\n" + "".join(f"{number},{number},\n" for number in range(1000)) + f"{late},1,5\n"
    if declared is None:
        assert _refuse(tmp_path, data).line == 1002
        return
    loaded = Loaded(tmp_path, data)
    assert loaded.types == [declared, "INTEGER", "INTEGER"]
    assert loaded.converted.tables == (TableRows(name="t", rows=1001),)
    assert loaded.query("SELECT count(*), sum(b), count(c) FROM t") == [(1001, 499501, 1)]


def test_staging_database_when_done_is_closed_and_plain(tmp_path: Path) -> None:
    """The staging database is one complete file that the merger can open in any journal mode."""
    loaded = Loaded(tmp_path, "a\n1\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.db"]
    assert loaded.query("PRAGMA page_size") == [(4096,)]
    assert loaded.query("PRAGMA journal_mode = WAL") == [("wal",)]
    assert loaded.query("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_delimiter_of_any_kind_is_found(tmp_path: Path, delimiter: str) -> None:
    """Commas, tabs, semicolons and bars divide values, also where others stand in the text."""
    rows = [["a", "b"], ["x, y", "1;2"], ["z|", "\t"]]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    loaded = Loaded(tmp_path, text.getvalue())
    assert [loaded.columns, *map(list, loaded.query())] == rows


def test_delimiter_of_tsv_file_is_the_tab(tmp_path: Path) -> None:
    """A file that is called TSV is divided by tabs, also if a comma looks likelier."""
    loaded = Loaded(tmp_path, "last, first\nHopper, Grace\n", "people.tsv")
    assert loaded.columns == ["last, first"]


@pytest.mark.parametrize(
    "data", ["a,b", "a,b\n", "\ufeffa,b\r\n", "a,b\n\n\n"], ids=["cut", "plain", "marked", "blank"]
)
def test_header_without_rows_makes_an_empty_table(tmp_path: Path, data: str) -> None:
    """A header alone is a table of no rows."""
    loaded = Loaded(tmp_path, data)
    assert (loaded.columns, loaded.types) == (["a", "b"], ["TEXT", "TEXT"])
    assert loaded.converted.tables == (TableRows(name="t", rows=0),)


def test_column_names_that_clash_are_made_unique_with_a_warning(tmp_path: Path) -> None:
    """Duplicate, empty and equal-but-for-case names are changed, and every change is said."""
    loaded = Loaded(tmp_path, "name,Name,,name,name_2\n1,2,3,4,5\n")
    assert loaded.columns == ["name", "Name_3", "column_3", "name_4", "name_2"]
    assert len(loaded.converted.warnings) == 3
    assert "column 3" in loaded.converted.warnings[1]
    assert loaded.query() == [(1, 2, 3, 4, 5)]


def test_column_names_of_any_characters_stay_as_they_are(tmp_path: Path) -> None:
    """Quotes, spaces, line ends and emoji are part of a name."""
    names = ['say "hi"', "(x)", "a b", "🌊", "`", "a\nb", "select", "it's", "%s", "?", " pad "]
    text = io.StringIO()
    csv.writer(text).writerows([names, range(len(names))])
    loaded = Loaded(tmp_path, text.getvalue())
    assert loaded.columns == names
    assert loaded.converted.warnings == ()
    assert loaded.query() == [tuple(range(len(names)))]


def test_columns_up_to_two_thousand_are_loaded(tmp_path: Path) -> None:
    """SQLite's own limit of columns is the limit."""
    line = ",".join(map(str, range(2000)))
    loaded = Loaded(tmp_path, f"{line}\n{line}\n")
    assert len(loaded.columns) == 2000
    assert loaded.query() == [tuple(range(2000))]


def test_columns_beyond_two_thousand_are_refused(tmp_path: Path) -> None:
    """More columns than SQLite takes are refused as a limit."""
    line = ",".join(map(str, range(2001)))
    assert _refuse(tmp_path, f"{line}\n{line}\n").code == "limit-exceeded"


def test_ragged_rows_are_refused_with_the_first_ten_lines(tmp_path: Path) -> None:
    """Rows that are too short or too long are never filled or cut: their lines are named."""
    rows = ["1,2", '"x\ny",2', "1", "1,2,3"] + ["1,2,"] * 20
    refusal = _refuse(tmp_path, "a,b\n" + "\n".join(rows))
    assert (refusal.code, refusal.line) == ("invalid-file", 5)
    assert refusal.extra["lines"] == list(range(5, 15))


def test_quote_never_closed_is_refused_with_its_line(tmp_path: Path) -> None:
    """A quote that is open at the end of the file is not taken for a long last value."""
    for end in ['1,"x', '1,"x\n', '1,"x\n3,4\n', '"', '1,"say ""hi""', '1,"']:
        refusal = _refuse(tmp_path, f"a,b\n1,2\n{end}")
        assert (refusal.code, refusal.line) == ("invalid-file", 3)


def test_quote_never_closed_in_header_is_refused(tmp_path: Path) -> None:
    """The header is held to the same rules as the rows."""
    assert _refuse(tmp_path, 'a,"b\n1,2\n').line == 1


@pytest.mark.parametrize(
    ("data", "line", "column"),
    [
        ("a,é\n1,2\n1,caf".encode() + b"\xe9\n", 3, 6),
        ("é,".encode() + b"\xff\n1,2\n", 1, 3),
        ("a,b\nü,2\n".encode() + b"\xc3", 3, 1),
        (b"a,b\n1,\x002\n", 2, 3),
        (b"a,\x00b\n1,2\n", 1, 3),
    ],
)
def test_byte_that_is_no_text_is_refused_with_its_place(
    tmp_path: Path, data: bytes, line: int, column: int | None
) -> None:
    """Bytes that are not UTF-8, and NUL characters, are refused and never replaced."""
    refusal = _refuse(tmp_path, data)
    assert (refusal.code, refusal.line, refusal.column) == ("invalid-file", line, column)


def test_bad_byte_deep_in_a_file_is_refused_with_its_offset(tmp_path: Path) -> None:
    """The offset of a byte that does not fit is counted over the whole file."""
    start = ("a,b\n" + "é,ü\n" * 500_000).encode()
    refusal = _refuse(tmp_path, start + b"\xff,1\n")
    assert (refusal.line, refusal.column) == (500_002, 1)
    assert refusal.extra["offset"] == len(start)


def test_value_larger_than_a_block_is_loaded(tmp_path: Path) -> None:
    """A long value is not a broken one."""
    text = 'x,"\n' * (delimited.BLOCK_BYTES // 2)
    quoted = text.replace('"', '""')
    loaded = Loaded(tmp_path, f'a,b\n1,"{quoted}"\n2,y\n')
    assert loaded.query() == [(1, text), (2, "y")]


def test_first_row_that_begins_with_a_byte_order_mark_keeps_it(tmp_path: Path) -> None:
    """Only the mark at the start of the file is no text."""
    loaded = Loaded(tmp_path, "\ufeffa,b\n\ufeffx,1\n")
    assert (loaded.columns, loaded.query()) == (["a", "b"], [("\ufeffx", 1)])


AS_WRITTEN: dict[str, Any] = {"delimiter": ",", "header": True, "encoding": "utf-8"}
PIECES = [
    "a", "b", "1", "2.5", "007", " ", '"', '""', ",", ";", "\n", "\r", "\r\n", "'", "\\", "é", "#",
    '"a"', '"a,b"', '"x\ny"', '"x\r\ny"', '"q""q"', '"a"b', 'a"b', "NULL", "", "\t", "\ufeff",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_any_csv_is_read_as_pythons_csv_module_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """However odd the quotes and line ends, the values are those of the csv module."""
    rng = random.Random(seed)
    compared = 0
    for _ in range(50):
        width = rng.randrange(1, 4)
        if rng.random() < 0.5:
            body = "".join(rng.choices(PIECES, k=rng.randrange(1, 20)))
        else:
            body = _nasty_rows(rng, width)
        data = ",".join("xyz"[:width]) + "\n" + body
        monkeypatch.setattr(delimited, "BLOCK_BYTES", rng.choice([8, 64, 100_000]))
        rows = _read_by_python(data, width)
        if any(len(row) != width for row in rows) or _is_open(data):
            assert _refuse(tmp_path, data, **AS_WRITTEN).code == "invalid-file", data
            continue
        compared += 1
        loaded = Loaded(tmp_path, data, **AS_WRITTEN)
        found = loaded.query()
        assert len(found) == len(rows), data
        for row, values in zip(rows, found, strict=True):
            assert all(map(_same, row, values)), (data, row, values)
    assert compared > 5


def _read_by_python(data: str, width: int) -> list[list[str]]:
    """Read the rows; blank lines are none, but before the last value of one column."""
    _header, *rows = csv.reader(io.StringIO(data, newline=""))
    if width > 1:
        return [row for row in rows if row]
    while rows and not rows[-1]:
        rows.pop()
    return [row or [""] for row in rows]


def _nasty_rows(rng: random.Random, width: int) -> str:
    ends = rng.choice(["\n", "\r\n", "\r"])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=ends)
    for _ in range(rng.randrange(6)):
        writer.writerow([rng.choice(PIECES) * rng.randrange(3) for _ in range(width)])
    return text.getvalue()


def _is_open(data: str) -> bool:
    """Say whether the last value's quote is never closed: then one more line is a part of it."""
    count = len(list(csv.reader(io.StringIO(data, newline=""))))
    return len(list(csv.reader(io.StringIO(data + "\nend", newline="")))) == count and bool(data)


def _same(text: str, value: object) -> bool:
    if isinstance(value, str):
        return value == text
    return text == "" if value is None else float(text) == value


@pytest.mark.parametrize("seed", range(15))
def test_any_csv_with_bad_rows_is_quarantined_as_pythons_csv_module_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Every row is loaded or set aside with its line and its text, and none is in both places."""
    rng = random.Random(seed)
    for _ in range(30):
        width = rng.randrange(1, 4)
        data = ",".join("xyz"[:width]) + "\n" + "".join(rng.choices(PIECES, k=rng.randrange(20)))
        monkeypatch.setattr(delimited, "BLOCK_BYTES", rng.choice([8, 64, 100_000]))
        types = {"x": "integer"} if rng.random() < 0.5 else {}
        loaded = Loaded(tmp_path, data, **AS_WRITTEN, on_bad_rows="quarantine", types=types)
        rows = _read_by_python(data, width)
        good = [row for row in rows if len(row) == width]
        if types:
            good = [row for row in good if row[0] in ("", "1", "11", "111")]
        if _is_open(data) and good and good[-1] is rows[-1]:
            good.pop()
        found = loaded.query()
        assert len(found) == len(good), data
        for row, values in zip(good, found, strict=True):
            assert all(map(_same, row, values)), (data, row, values)
        rejects = loaded.query("SELECT line, raw FROM t_rejects")
        assert len(rejects) == len(rows) - len(good), data
        lines = io.StringIO(data, newline="").readlines()
        for line, raw in rejects:
            assert "".join(lines[line - 1 :]).startswith(raw), data


@pytest.mark.parametrize("first", ["sep=|\n", '"sep=|"\r\n', "\ufeffSEP=|\n"])
def test_line_that_tells_excel_the_delimiter_is_none_of_the_table(
    tmp_path: Path, first: str
) -> None:
    """It says the delimiter here as well, and lines are counted with it."""
    loaded = Loaded(tmp_path, f"{first}a|b,c\n1|2,5\n")
    assert loaded.columns == ["a", "b,c"]
    assert loaded.query() == [(1, "2,5")]
    assert Loaded(tmp_path, f"{first}1|2\n", header=False).query() == [(1, 2)]
    refusal = _refuse(tmp_path, f"{first}a|b\n1|2\n3\n")
    assert refusal.line == 4


def test_bad_rows_in_quarantine_keep_line_text_and_reason(tmp_path: Path) -> None:
    """The rest is loaded, and each bad row lies beside it with all that is known of it."""
    data = 'id,price\n1,2.5\n"x\ny",1,2\nabc,1\n3,\n4,5\x00\n007,1\n5,"open\n6,7\n'
    types = {"id": "integer", "price": "real"}
    loaded = Loaded(tmp_path, data, on_bad_rows="quarantine", types=types)
    assert loaded.query() == [(1, 2.5), (3, None)]
    assert loaded.query("SELECT * FROM t_rejects") == [
        (3, '"x\ny",1,2', "has 3 values where the header has 2"),
        (5, "abc,1", "has 'abc' in 'id', which cannot be integer without loss"),
        (7, "4,5\0", "has a NUL character"),
        (8, "007,1", "has '007' in 'id', which cannot be integer without loss"),
        (9, '5,"open\n6,7', "has a quote that is never closed"),
    ]
    assert loaded.converted.tables == (
        TableRows(name="t", rows=2),
        TableRows(name="t_rejects", rows=5),
    )
    assert "5 bad rows" in loaded.converted.warnings[0]


def test_quarantine_without_bad_rows_makes_an_empty_table(tmp_path: Path) -> None:
    """A table of rejects from an earlier upload does not outlive a file that has none."""
    loaded = Loaded(tmp_path, "a,b\n1,2\n", on_bad_rows="quarantine")
    assert loaded.query("SELECT * FROM t_rejects") == []
    assert loaded.converted.tables[1] == TableRows(name="t_rejects", rows=0)


@pytest.mark.parametrize(
    ("wanted", "texts", "values"),
    [
        ("text", ["01", "", "3"], ["01", "", "3"]),
        ("text", ["1", "2", "3"], ["1", "2", "3"]),
        ("real", ["1", "2", ""], [1.0, 2.0, None]),
        ("integer", ["", "", ""], [None, None, None]),
        ("blob", ["é", "1", ""], ["é".encode(), b"1", b""]),
    ],
)
@pytest.mark.parametrize("strict", [False, True])
def test_type_that_is_asked_for_is_the_columns_type(
    tmp_path: Path, wanted: str, texts: list[str], values: list[object], strict: bool
) -> None:
    """``types`` decides over what the values look like, in STRICT tables and others."""
    data = "a,b\n" + "".join(f"{text},x\n" for text in texts)
    loaded = Loaded(tmp_path, data, types={"a": wanted}, strict=strict)
    assert loaded.types == [wanted.upper(), "TEXT"]
    assert [row[0] for row in loaded.query()] == values
    assert loaded.query("SELECT strict FROM pragma_table_list WHERE name = 't'") == [(int(strict),)]


@pytest.mark.parametrize("bad", ["007", "x", "1.5", "9223372036854775808", " 1"])
def test_value_that_does_not_fit_the_type_asked_for_is_refused_with_its_lines(
    tmp_path: Path, bad: str
) -> None:
    """Nothing is bent to fit: the rows are named, and the column."""
    refusal = _refuse(tmp_path, f"a,b\nx,1\nx,{bad}\nx,2\nx,{bad}\n", types={"b": "integer"})
    assert (refusal.code, refusal.line, refusal.extra["lines"]) == ("wrong-type", 3, [3, 5])
    assert refusal.detail == (
        f"line 3 has {bad!r} in 'b', which cannot be integer without loss; line 5 is wrong as well"
    )


def test_type_of_a_column_that_is_not_there_is_a_warning(tmp_path: Path) -> None:
    """A name that is spelt wrong is said; a column is also known by its name to be."""
    types = {"zipp": "text", "price": "real"}
    loaded = Loaded(tmp_path, "a,b\n1,2\n", types=types, columns={"b": "price"})
    assert loaded.types == ["INTEGER", "REAL"]
    assert loaded.converted.warnings == ("types: the file has no column 'zipp'",)


@pytest.mark.parametrize(
    ("empty", "types", "rows"),
    [
        ("auto", ["INTEGER", "TEXT", "TEXT"], [(1, "x", ""), (None, "", "")]),
        ("null", ["INTEGER", "TEXT", "TEXT"], [(1, "x", None), (None, None, None)]),
        ("text", ["TEXT", "TEXT", "TEXT"], [("1", "x", ""), ("", "", "")]),
    ],
)
def test_empty_values_are_what_is_asked_for(
    tmp_path: Path, empty: str, types: list[str], rows: list[tuple[object, ...]]
) -> None:
    """NULL among numbers and '' in text, or NULL everywhere, or '' everywhere."""
    loaded = Loaded(tmp_path, 'a,b,c\n1,x,\n,"",\n', empty=empty)
    assert (loaded.types, loaded.query()) == (types, rows)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ("id,name\n1,x\n", True),
        ("1,Ada,30.5\n2,Bela,7\n", False),
        ("country,2019,2020\nDE,5,6\n", True),
        ("0,1,2\n5,6,7\n", True),
        ("1,2,3\n5,6,7\n", True),
        ("5,x\n,y\n7,z\n", False),
        ("5,id\n6,7\n", True),
        ("a,b\nx,y\n", True),
        ("1,2.5\n", True),
    ],
)
def test_header_or_none_is_found(tmp_path: Path, data: str, named: bool) -> None:
    """A first row with numbers where all others have them is data, and the warning says so."""
    loaded = Loaded(tmp_path, data)
    first = data.partition("\n")[0].split(",")
    names = first if named else [f"column_{number + 1}" for number in range(len(first))]
    assert loaded.columns == names
    assert bool(loaded.converted.warnings) != named
    assert loaded.converted.tables[0].rows == data.count("\n") - named
    assert Loaded(tmp_path, data, header=True).columns == first
    assert Loaded(tmp_path, data, header=False).converted.tables[0].rows == data.count("\n")


def test_delimiter_that_is_said_is_used(tmp_path: Path) -> None:
    """Any character divides the values if the uploader says so."""
    assert Loaded(tmp_path, "a,b~c\n1~2\n", delimiter="~").columns == ["a,b", "c"]


def test_encoding_is_said(tmp_path: Path) -> None:
    """The receipt will say what a file was read as, and warn where that was guessed."""
    data = "a,b\nSão Paulo,“x”\n"
    loaded = Loaded(tmp_path, data.encode("cp1252"))
    assert loaded.query() == [("São Paulo", "“x”")]
    assert loaded.converted.encoding == "windows-1252"
    assert "read as windows-1252" in loaded.converted.warnings[0]
    said = Loaded(tmp_path, data.encode("utf-16"), encoding="utf-16").converted
    assert (said.encoding, said.warnings) == ("utf-16-le", ())
    assert Loaded(tmp_path, data).converted.encoding == "utf-8"


def test_encoding_that_is_said_and_wrong_is_refused_with_the_offset(tmp_path: Path) -> None:
    """What the uploader says is believed: a byte that does not fit is refused."""
    assert _refuse(tmp_path, b"a\ncaf\xe9\n", encoding="utf-8").extra == {"offset": 5}
    assert _refuse(tmp_path, b"a\ncaf\xe9\n", encoding="ascii").extra == {"offset": 5}


def test_progress_is_reported_up_to_the_end(tmp_path: Path) -> None:
    """Rows and bytes are told while they are loaded, the last ones too."""
    source = tmp_path / "in.csv"
    source.write_text("a,b\n" + "1,some text\n" * 300_000)
    seen: list[tuple[int, int]] = []
    conversion = Conversion(
        input=source,
        output=tmp_path / "out.db",
        format="csv",
        table="t",
        report=lambda rows, done: seen.append((rows, done)),
    )
    delimited.convert(conversion)
    assert len(seen) > 2
    assert seen == sorted(seen)
    assert seen[-1] == (300_000, source.stat().st_size)


async def test_dates_as_they_are_stored_are_facets_for_datasette(tmp_path: Path) -> None:
    """ISO dates and times stay as they are written, and Datasette offers to count by them."""
    days = "".join(f"2026-03-{day % 28 + 1:02d},2026-03-{day % 5 + 1:02d}T12:00:00Z\n"
                   for day in range(90))  # fmt: skip
    loaded = Loaded(tmp_path, f"day,at\n{days}")
    assert loaded.types == ["TEXT", "TEXT"]
    datasette = Datasette([], immutables=[str(loaded.output)])
    answer = await datasette.client.get("/out/t.json")
    offered = {(facet["name"], facet.get("type")) for facet in answer.json()["suggested_facets"]}
    assert {("at", "date")} <= offered


def test_error_of_the_database_in_the_middle_is_raised_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up under the bulk load is reported as that, and nothing hangs."""
    monkeypatch.setattr(arrow_insert, "PRAGMAS", (*staging.PRAGMAS, "max_page_count = 4"))
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 1000)
    with pytest.raises(adbc_driver_manager.Error, match="full"):
        Loaded(tmp_path, "a\n" + "some text\n" * 10_000)


@pytest.mark.parametrize(
    "data", ["zip,name1,Ada2,Grace", "\ufeffa", ",".join("a" * 3000), '"a",b"1"']
)
@pytest.mark.parametrize("media_type", [FORM, f"{FORM.upper()}; charset=utf-8"])
def test_file_that_curl_stripped_of_its_line_ends_is_refused(
    tmp_path: Path, data: str, media_type: str
) -> None:
    """`curl -d @file` sends one line: it is not taken for a header, and curl's option is named."""
    with pytest.raises(Refusal) as caught:
        Loaded(tmp_path, data, media_type=media_type)
    assert caught.value.code == "no-rows"
    assert "--data-binary" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("data", "wishes"),
    [
        ("a,b\n1,2\n", {}),
        ("a,b\r1,2", {}),
        ("a,b\n", {}),
        ("sep=;\na;b", {}),
        ('"a\nb",c', {}),
        ("1,2", {"header": False}),
    ],
)
def test_file_that_curl_sent_whole_is_read(
    tmp_path: Path, data: str, wishes: dict[str, Any]
) -> None:
    """Curl's media type alone says nothing: `--data-binary` has the same."""
    assert len(Loaded(tmp_path, data, media_type=FORM, **wishes).columns) == 2


@pytest.mark.parametrize("media_type", [None, "text/csv", "application/octet-stream"])
def test_header_without_line_end_is_a_table_without_rows(
    tmp_path: Path, media_type: str | None
) -> None:
    """What nobody sends as a form has not lost its line ends."""
    loaded = Loaded(tmp_path, "a,b", media_type=media_type)
    assert (loaded.columns, loaded.query()) == (["a", "b"], [])


@pytest.mark.parametrize(
    ("data", "columns"),
    [
        ("name;price, EUR\nx;1,5\ny;-2,75\n", ["name", "price, EUR"]),
        ("name|price, EUR\nx|1,5\ny|2,75\n", ["name", "price, EUR"]),
        ("id,tags; labels\n1,a;b\n2,c;d\n", ["id", "tags; labels"]),
        ("id,at; to\n1,a;b\n2,3;4\n", ["id", "at; to"]),
        ("a,b;c\n", ["a", "b;c"]),
    ],
)
def test_comma_that_is_a_decimals_in_every_row_divides_no_columns(
    tmp_path: Path, data: str, columns: list[str]
) -> None:
    """Where two delimiters divide as evenly, it is the comma unless all rows have digits there."""
    assert Loaded(tmp_path, data).columns == columns


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", ["b", "b\n", "b\n\n\n", '"b\n\nc"\n'])
def test_blank_line_between_values_of_one_column_is_an_empty_one(
    tmp_path: Path, end: str, last: str
) -> None:
    """Excel and PostgreSQL write an empty value so; blank lines at the end are none."""
    loaded = Loaded(tmp_path, f"\n\nname\n\na\n\n\n{last}".replace("\n", end))
    value = f"b{end}{end}c" if "c" in last else "b"
    assert loaded.query() == [("",), ("a",), ("",), ("",), (value,)]


def test_blank_line_between_numbers_of_one_column_is_null(tmp_path: Path) -> None:
    """As an empty field among numbers is."""
    loaded = Loaded(tmp_path, "n\n1\n\n2\n")
    assert (loaded.types, loaded.query()) == (["INTEGER"], [(1,), (None,), (2,)])


def test_blank_line_of_one_column_keeps_the_lines_of_bad_rows(tmp_path: Path) -> None:
    """What is put aside stands on the line that is said; a blank line that may not be is bad."""
    loaded = Loaded(
        tmp_path,
        "n\n1\n\n2,3\n4\n\n",
        types={"n": "integer"},
        empty="text",
        on_bad_rows="quarantine",
    )
    assert loaded.query() == [(1,), (4,)]
    assert loaded.query("SELECT line, raw FROM t_rejects") == [(3, ""), (4, "2,3")]


def test_blank_line_between_rows_of_several_columns_is_none(tmp_path: Path) -> None:
    """It has no values to be told apart."""
    assert Loaded(tmp_path, "a,b\n1,2\n\n3,4\n").query() == [(1, 2), (3, 4)]
