from __future__ import annotations

import json
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.convert_kit import DATA, Loaded, refuse

TEXTS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=12
)
NUMBERS = st.sampled_from(["1", "-5", "01", "1.50", "0.1", "1e5", "+3", "9223372036854775808", ""])
TABLES = st.lists(
    st.fixed_dictionaries({"a": TEXTS | NUMBERS, "b": NUMBERS}), min_size=2, max_size=8
)


def test_xml_elements_that_repeat_are_rows_with_attributes_and_children() -> None:
    """Attributes and children are columns; what is nested or repeats is JSON."""
    loaded = Loaded(
        '<people><person id="1"><name>Ada</name><tag>a</tag><tag>b</tag></person>'
        '<person id="2"><name/><home><city zip="01234">Bern</city></home></person></people>',
        "xml",
    )
    assert loaded.types["t"] == {
        "id": "INTEGER", "name": "TEXT", "tag": "TEXT", "home": "TEXT",
    }  # fmt: skip
    assert loaded.tables["t"] == [
        (1, "Ada", '["a", "b"]', None),
        (2, "", None, '{"city": {"@zip": "01234", "#text": "Bern"}}'),
    ]


def test_xml_of_several_kinds_makes_a_table_of_each_and_one_of_the_rest() -> None:
    """Nothing beside the rows is lost, and rows of two kinds may stand in any order."""
    loaded = Loaded(
        '<shop version="2"><item>1</item><order n="1"/><item>2</item><order n="2"/>'
        "<owner><name>Ada</name></owner></shop>",
        "xml",
    )
    assert loaded.tables == {
        "item": [(1,), (2,)],
        "order": [(1,), (2,)],
        "shop": [(2, '{"name": "Ada"}')],
    }


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("<rows><row><a>1</a></row></rows>", [{"a": 1}]),
        ("<c><a>1</a><b>x</b></c>", [{"a": 1, "b": "x"}]),
        ('<c a="1"/>', [{"a": 1}]),
        ("<a>1</a>", [{"text": 1}]),
    ],
)
def test_xml_in_which_nothing_repeats_is_one_row(text: str, rows: list[dict[str, object]]) -> None:
    """The root, or its only child, is the row."""
    assert Loaded(text, "xml").records() == rows


def test_xml_attribute_and_child_of_one_name_are_two_columns() -> None:
    """Names that mean two things do not become one."""
    loaded = Loaded('<r><a id="1"><id>x</id></a><a><id>y</id>z</a></r>', "xml")
    assert loaded.records() == [
        {"@id": 1, "id": "x"},
        {"id": "y", "text": '[{"id": "y"}, "z"]'},
    ]


def test_xml_mixed_content_keeps_its_order() -> None:
    """Text between elements stays between them."""
    loaded = Loaded("<r><p><q>Hello <b>you</b> there</q></p><p/></r>", "xml")
    assert json.loads(loaded.tables["t"][0][0]) == {"#content": ["Hello ", {"b": "you"}, " there"]}


@pytest.mark.parametrize(
    ("values", "declared", "stored"),
    [
        (["01", "2"], "TEXT", ["01", "2"]),
        (["1", "", "2"], "INTEGER", [1, None, 2]),
        (["1", "1.50"], "REAL", [1.0, 1.5]),
        (["9007199254740993", "1.5"], "TEXT", ["9007199254740993", "1.5"]),
        (["1", "x", ""], "TEXT", ["1", "x", ""]),
        (["0.30000000000000004"], "REAL", [0.30000000000000004]),
    ],
)
def test_xml_texts_are_numbers_only_without_loss(
    values: list[str], declared: str, stored: list[object]
) -> None:
    """A column of texts is typed as CSV's are, however late the text comes that is no number."""
    rows = "".join(f'<v a="{value}"/>' for value in [*values, *values])
    loaded = Loaded(f"<r>{rows}</r>", "xml")
    assert loaded.types["t"] == {"a": declared}
    assert [row[0] for row in loaded.tables["t"]] == stored * 2


@pytest.mark.parametrize(
    ("wishes", "stored"),
    [
        ({"types": {"a": "text"}}, ["1", ""]),
        ({"empty": "text"}, ["1", ""]),
        ({"empty": "null"}, [1, None]),
        ({}, [1, None]),
    ],
)
def test_xml_wishes_about_types_and_empty_values_are_heeded(
    wishes: dict[str, object], stored: list[object]
) -> None:
    """The uploader decides what stays text, and what an empty value is."""
    loaded = Loaded('<r><v a="1"/><v a=""/></r>', "xml", **wishes)
    assert [row[0] for row in loaded.tables["t"]] == stored


@given(TABLES)
def test_xml_of_any_table_is_read_back(table: list[dict[str, str]]) -> None:
    """What was written as XML has the same values: a number goes back to its very text's value."""
    rows = "".join(f"<row b={quoteattr(row['b'])}><a>{escape(row['a'])}</a></row>" for row in table)
    loaded = Loaded(f"<rows>{rows}</rows>", "xml")
    for column, kind in loaded.types["t"].items():
        stored = [row.get(column) for row in loaded.records()]
        written = [row[column].replace("\r", "\n") for row in table]
        if kind == "TEXT":
            assert stored == written
        else:
            assert stored == [float(text) if text else None for text in written]


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ('<?xml version="1.0" encoding="windows-1252"?><a>€é</a>'.encode("cp1252"), "€é"),
        ('<?xml version="1.0" encoding="Shift_JIS"?><a>日本</a>'.encode("shift_jis"), "日本"),
        ('<?xml version="1.0" encoding="UTF-16"?><a>é日</a>'.encode("utf-16"), "é日"),
        ('<?xml version="1.0" encoding="UTF-16"?><a>é</a>'.encode("utf-16-le"), "é"),
        ("\ufeff<a>é</a>".encode(), "é"),
    ],
)
def test_xml_of_another_encoding_is_read_as_it_says(data: bytes, value: str) -> None:
    """Declarations and byte order marks are heeded."""
    assert Loaded(data, "xml").tables["t"] == [(value,)]


def test_xml_byte_that_does_not_fit_is_refused_with_its_offset() -> None:
    """A byte that the encoding does not have is no question mark."""
    head = b'<?xml version="1.0" encoding="windows-1252"?><a>'
    assert refuse(head + b"\x81</a>", "xml").extra == {"offset": len(head)}
    assert refuse(b"<a>caf\xe9</a>", "xml").extra == {"offset": 6}
    assert Loaded(b"<a>caf\xe9</a>", "xml", encoding="latin-1").tables["t"] == [("café",)]
    assert "not known" in refuse(b'<?xml version="1.0" encoding="x-no"?><a/>', "xml").detail


BILLION = '<!DOCTYPE r [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;">]><r>&b;</r>'


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (BILLION, "limit-exceeded"),
        ('<!DOCTYPE r [<!ENTITY a "lol">]><r x="&a;"/>', "limit-exceeded"),
        ('<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><r>&x;</r>', "limit-exceeded"),
        ('<!DOCTYPE r [<!ENTITY % p SYSTEM "http://127.0.0.1/"> %p;]><r/>', "limit-exceeded"),
        ('<!DOCTYPE r SYSTEM "http://127.0.0.1/x.dtd"><r>&x;</r>', "invalid-file"),
        ('<!DOCTYPE r SYSTEM "http://127.0.0.1/x.dtd"><r a="&x;">1</r>', "invalid-file"),
        ("<a>" * 1_000_000, "limit-exceeded"),
        ("<r>" + "<x/>" * 2 + "<a>" * 1_000_000, "limit-exceeded"),
        ("<r><a/><a>" + "<b>" * 1_000_000, "limit-exceeded"),
        ("<r>" + "".join(f"<x{n}/>" for n in range(100_001)) + "</r>", "limit-exceeded"),
        ("<r>" + "".join(f"<a><x{n}>1</x{n}></a>" for n in range(2001)) + "</r>", "limit-exceeded"),
        ("<r/>", "no-rows"),
        ("<r><a></r>", "invalid-file"),
        ("<r>&nothing;</r>", "invalid-file"),
        ("<r>\x01</r>", "invalid-file"),
        ("<r><a/>", "invalid-file"),
    ],
    ids=range(16),
)
def test_xml_that_is_hostile_or_broken_is_refused(text: str, code: str) -> None:
    """Entities are not expanded, nothing is fetched, and depth and width have their limits."""
    assert refuse(text, "xml").code == code


def test_xml_with_html_entities_of_an_outside_definition_is_read() -> None:
    """The names that XHTML's definition has are known without it."""
    text = (
        '<!DOCTYPE r PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "x.dtd"><r b="1&amp;">&eacute;</r>'
    )
    assert Loaded(text, "xml").tables["t"] == [("1&", "é")]


def test_xml_that_is_broken_names_line_and_column() -> None:
    """The place of an error is that in the file."""
    refusal = refuse("<r>\n <a></b>\n</r>", "xml")
    assert (refusal.line, refusal.column) == (2, 7)


def test_xml_files_of_others_are_read() -> None:
    """Files of xmlschema's tests, one of them in Windows-1252."""
    collection = Loaded((DATA / "xml" / "collection.xml").read_bytes(), "xml")
    assert [row["position"] for row in collection.records()] == [1, 2]
    assert json.loads(collection.records()[1]["author"])["name"] == "Joan Miró"
    menu = Loaded((DATA / "xml" / "menu-cp1252.xml").read_bytes(), "xml")
    assert menu.tables["primo"][1] == ("Gnocchi al ragù",)
    assert list(menu.tables) == ["antipasto", "primo", "secondo", "dolce"]
