"""Names of databases and tables, and what a URL makes of them."""

from __future__ import annotations

import pytest
from datasette.utils import tilde_encode as datasette_tilde_encode

from headrace.errors import Refusal
from headrace.names import (
    check_database_name,
    check_table_name,
    file_stem,
    quote_identifier,
    safe_database_name,
    safe_table_name,
    tilde_encode,
    without_brackets,
)


@pytest.mark.parametrize("name", ["sales", "Sales_2026", "a-b", "_x", "9", "x" * 64])
def test_check_database_name_plain_is_kept(name: str) -> None:
    """Letters, digits, underscores and hyphens are a database name."""
    assert check_database_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "-", "-x", ".", "..", "a/b", "a b", "ä", "x" * 65, "ingest", "INGEST", "_memory", "a\n"],
)
def test_check_database_name_unsafe_is_refused(name: str) -> None:
    """Whatever a URL, a key or a path could trip over is refused."""
    with pytest.raises(Refusal) as refused:
        check_database_name(name)
    assert refused.value.code == "invalid-name"


def test_check_database_name_refusal_suggests_a_safe_one() -> None:
    """The hint is a name that would be taken."""
    with pytest.raises(Refusal) as refused:
        check_database_name("Q3 Umsätze")
    assert "'Q3_Umsatze'" in (refused.value.hint or "")


@pytest.mark.parametrize("name", ["orders", "Q3 Umsätze", "🚀", 'a"b', "[x]", "a.b/c"])
def test_check_table_name_any_text_is_kept(name: str) -> None:
    """A table may be called anything that SQLite and a URL can carry."""
    assert check_table_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "  ", "sqlite_x", "SQLITE_x", "_litestream_seq", "_headrace_merges", "a\x00", "t" * 129],
)
def test_check_table_name_reserved_is_refused(name: str) -> None:
    """Empty, overlong, reserved names and control characters are refused."""
    with pytest.raises(Refusal):
        check_table_name(name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("orders", "orders"),
        ("Q3 Umsätze", "Q3_Umsatze"),
        ("2026.01 report", "2026_01_report"),
        ("日本", "data_cf2abf0c"),
        ("日本\udce9", "data_40c25d34"),
        ("Åse Øst Straße", "Ase_Ost_Strasse"),
        ("売上 2026", "2026_8fea80df"),
        ("🚀", "data"),
        ("../../etc/passwd", "etc_passwd"),
        ("ingest", "ingest_data"),
        ("x" * 100, "x" * 64),
    ],
)
def test_safe_database_name_is_always_allowed(text: str, name: str) -> None:
    """Any text becomes a name that passes the check."""
    assert safe_database_name(text) == name
    assert check_database_name(name) == name


@pytest.mark.parametrize("text", ["sqlite_sequence", "", "日本", "_litestream_lock", "a" * 500])
def test_safe_table_name_is_always_allowed(text: str) -> None:
    """Any text becomes a table name that passes the check."""
    assert check_table_name(safe_table_name(text))


def test_safe_names_of_different_texts_are_different_whatever_their_letters() -> None:
    """Files whose names have no letter of ASCII do not take the place of each other."""
    texts = ["東京", "大阪", "東京 2026", "大阪 2026", "Москва", "Αθήνα"]
    assert len({safe_database_name(text) for text in texts}) == len(texts)
    assert [safe_table_name(text) for text in texts[2:]] == [
        "東京_2026", "大阪_2026", "Москва", "Αθήνα",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("filename", "stem"),
    [
        ("orders.csv", "orders"),
        ("a/b\\orders.csv.gz", "orders"),
        ("v1.2 report.xlsx", "v1.2 report"),
        (".hidden.csv", "hidden"),
        ("noending", "noending"),
        ("", ""),
    ],
)
def test_file_stem_drops_folders_and_endings(filename: str, stem: str) -> None:
    """A file's stem is what people call it."""
    assert file_stem(filename) == stem


@pytest.mark.parametrize(
    "text", ["plain", "a b", "a/b", "ä", "🚀", "~", "%", "a.b", "-_", "\n", '"']
)
def test_tilde_encode_is_datasettes(text: str) -> None:
    """Our URLs are spelled as Datasette spells them."""
    assert tilde_encode(text) == datasette_tilde_encode(text)


def test_without_brackets_is_what_datasette_can_quote() -> None:
    """Square brackets become round ones; all else stays."""
    assert without_brackets("a[b]c(d)") == "a(b)c(d)"


def test_quote_identifier_doubles_quotes() -> None:
    """A quote inside a name cannot end it."""
    assert quote_identifier('a"b') == '"a""b"'
