from __future__ import annotations

from html import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.convert_kit import DATA, Loaded, refuse

WORDS = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=10)
TABLES = st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=8).filter(
    lambda rows: any(map(any, rows))
)


def test_html_tables_are_named_by_caption_id_heading_or_number() -> None:
    """Each table of a page is a table, with the best name that it has."""
    row = "<tr><th>a<th>b<tr><td>1<td>2"
    page = f"""<!DOCTYPE html><table>{row}</table><h2>Sales &amp; more</h2><table>{row}</table>
        <table id=x>{row}</table><table id=y><caption>Prices <b>2024</b></caption>{row}</table>"""
    loaded = Loaded(page, "html")
    assert list(loaded.tables) == ["table_1", "Sales & more", "x", "Prices 2024"]
    assert set(map(tuple, loaded.tables.values())) == {((1, 2),)}


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        ("<thead><tr><td>a<td>b</thead><tbody><tr><td>1<td>2", ["a", "b"]),
        ("<tr><th>a<th>b<tr><td>1<td>2", ["a", "b"]),
        ("<tr><th>a<td>1<tr><th>b<td>2", ["column_1", "column_2"]),
        ("<tr><td>a<td>b<tr><td>1<td>2", ["column_1", "column_2"]),
        ("<thead><tr><th colspan=2>x<tr><th>a<th>b</thead><tr><td>1<td>2", ["x a", "x b"]),
    ],
)
def test_html_header_is_found(rows: str, columns: list[str]) -> None:
    """A header is what the page says is one, and nothing else."""
    assert list(Loaded(f"<table>{rows}</table>", "html").types["t"]) == columns


@pytest.mark.parametrize("rows", ["<tr><th>a<tr><td>x", "<thead><tr><td>a</thead><tbody><tr><td>x"])
def test_html_table_of_one_value_under_a_header_is_data(rows: str) -> None:
    """Who names a column means a table, and no frame around something."""
    loaded = Loaded(f"<table>{rows}</table>", "html")
    assert (loaded.records(), loaded.converted.warnings) == ([{"a": "x"}], ())


@pytest.mark.parametrize("rows", ["<tr><td>x", "<tr><th>a<tr><td>", "<tr><th>a"])
def test_html_table_of_one_value_or_none_is_left_out(rows: str) -> None:
    """A frame around something, and a header above nothing, are no data."""
    assert refuse(f"<table>{rows}</table>", "html").code == "no-rows"


def test_html_header_is_what_the_uploader_says() -> None:
    """A page that does not say which row is its header can be helped."""
    page = "<table><tr><td>a<td>b<tr><td>1<td>2</table>"
    assert Loaded(page, "html", header=True).records() == [{"a": 1, "b": 2}]


def test_html_cells_that_span_several_places_are_repeated() -> None:
    """Rows and columns stay where they belong."""
    loaded = Loaded(
        "<table><tr><th>a<th>b<th>c<tr><td rowspan=2>1<td colspan=2>x<tr><td>y"
        "<tr><td>3<td>z<td>q</table>",
        "html",
    )
    assert loaded.tables["t"] == [(1, "x", "x"), (1, "y", None), (3, "z", "q")]


def test_html_cell_text_is_what_is_seen() -> None:
    """White space is one space, breaks are line ends, and scripts are no text."""
    loaded = Loaded(
        "<table><tr><td> a\n <b>b</b>&nbsp;c<br>d<script>x</script><p>e</p><!-- f -->g"
        "<td><pre>  x\n   y</pre><td>&nbsp;</table>",
        "html",
    )
    assert loaded.tables["t"] == [("a b\xa0c\nd\ne\ng", "  x\n   y", "")]


def test_html_table_within_a_table_is_a_table_of_its_own() -> None:
    """A page that is laid out by tables does not hide those with data."""
    loaded = Loaded(
        "<table><tr><td>menu<td><table id=in><tr><td>1<td>2</table></td></tr></table>", "html"
    )
    assert loaded.tables["in"] == [(1, 2)]


def test_html_that_leaves_something_out_says_so() -> None:
    """Addresses of links, and tables of nothing, are named in warnings."""
    loaded = Loaded("<table><tr><td><a href=x>1</a><td>2</table><table><tr><td></table>", "html")
    assert loaded.converted.warnings == (
        "the addresses of 1 links and pictures were left out",
        "1 tables without data were left out",
    )


@given(TABLES)
def test_html_of_any_table_is_read_back(table: list[tuple[str, ...]]) -> None:
    """What was written as HTML has the same values."""
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(value)}</td>' for value in row)}</tr>" for row in table
    )
    page = f"<table><thead><tr><th>a</th><th>b</th><th>c</th></tr></thead>{rows}</table>"
    loaded = Loaded(page, "html")
    for position, kind in enumerate(loaded.types["t"].values()):
        stored = [row[position] for row in loaded.tables["t"]]
        written = [row[position] for row in table]
        if kind == "TEXT":
            assert stored == written
        else:
            assert stored == [float(text) if text else None for text in written]


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ("<meta charset=windows-1252>", "cp1252"),
        ("<meta charset=iso-8859-1>", "cp1252"),
        ('<meta http-equiv="Content-Type" content="text/html; charset=Shift_JIS">', "cp932"),
        ("<meta charset=big5>", "big5"),
        ("", "utf-8"),
        ("", "utf-16"),
    ],
)
def test_html_encoding_is_what_the_page_says(head: str, encoding: str) -> None:
    """A page is decoded as browsers would."""
    text = {"cp932": "日本", "big5": "中文"}.get(encoding, "é €")
    page = f"<html><head>{head}</head><table><tr><td>{text}<td>1</table>".encode(encoding)
    assert Loaded(page, "html").tables["t"] == [(text, 1)]


def test_html_byte_that_does_not_fit_is_refused_with_its_offset() -> None:
    """A byte that the encoding does not have is no question mark."""
    page = b"<table><tr><td>caf\xe9<td>1</table>"
    assert refuse(page, "html", encoding="utf-8").extra == {"offset": 18}
    assert refuse(b"<meta charset=utf-8>" + page, "html").extra == {"offset": 38}
    assert Loaded(page, "html", encoding="latin-1").tables["t"] == [("café", 1)]


def test_html_that_says_no_encoding_is_read_by_what_it_looks_like() -> None:
    """An old page is Windows' code page more often than UTF-8; that it is a guess is said."""
    loaded = Loaded(b"<table><tr><td>caf\xe9<td>1</table>", "html")
    assert loaded.tables["t"] == [("café", 1)]
    assert loaded.converted.encoding == "windows-1252"
    assert "read as windows-1252, by what its bytes look like" in loaded.converted.warnings


@pytest.mark.parametrize(
    ("page", "code"),
    [
        ("<table><tr>" + "<td>x" * 100_000 + "</table>", "limit-exceeded"),
        ("<table><tr>" + "<td colspan=1000>x" * 1000 + "</table>", "limit-exceeded"),
        ("<table><tr><td>" * 3000, "limit-exceeded"),
        ("<table><tr><td>" + "<div>" * 100_000, "limit-exceeded"),
        ("<table><tr><td>1<td>2</table>" * 1001, "limit-exceeded"),
        ("<html><p>no table", "no-rows"),
        ("<table></table>", "no-rows"),
    ],
    ids=range(7),
)
def test_html_that_is_hostile_or_empty_is_refused(page: str, code: str) -> None:
    """Width, depth and number have their limits; a page without data makes no table."""
    assert refuse(page, "html").code == code


def test_html_pages_of_others_are_read() -> None:
    """Pages of html_text's tests."""
    iana = Loaded((DATA / "html" / "iana-reserved-domains.html").read_bytes(), "html")
    assert iana.records("arpa-table")[0] == {
        "Domain": "إختبار",
        "Domain (A-label)": "XN--KGBECHTV",
        "Language": "Arabic",
        "Script": "Arabic",
    }
    book = Loaded((DATA / "html" / "a-light-in-the-attic.html").read_bytes(), "html")
    assert ("UPC", "a897fe39b1053632") in book.tables["t"]
