"""What may be said about a database, and how it is changed."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.errors import Refusal
from headrace.metadata import (
    MAX_BYTES,
    changed_keys,
    check_metadata,
    patch_metadata,
    without_table,
)
from headrace.metadata_text import read_metadata_text

WHOLE: dict[str, Any] = {
    "title": "Finds",
    "description": "What was found.\nIn two lines.",
    "license": "CC BY 4.0",
    "license_url": "https://creativecommons.org/licenses/by/4.0/",
    "source": "The museum",
    "source_url": "http://example.org/finds?a=1",
    "about": "Us",
    "about_url": "https://example.org/",
    "tables": {
        "finds": {
            "title": "All finds",
            "columns": {"weight": "as it was found"},
            "units": {"weight": "kg", "speed": "km/h", "area": "m**2"},
            "sort_desc": "weight",
            "sortable_columns": ["weight"],
            "label_column": "note",
            "facets": ["city", {"array": "tags"}, {"date": "found_on"}],
            "facet_size": 10,
            "size": 50,
            "hidden": False,
            "fts_table": "finds_fts",
            "fts_pk": "id",
        }
    },
    "queries": {
        "heavy": {
            "sql": "SELECT * FROM finds WHERE weight > :least",
            "title": "Heavy ones",
            "description": "more than",
            "params": ["least"],
            "hide_sql": True,
            "fragment": "chart",
        },
        "all": "SELECT * FROM finds",
    },
}

REFUSED = [
    ("text", "", None),
    ({"titel": "x"}, "/titel", "did you mean 'title'?"),
    ({"description_html": "<script>"}, "/description_html", "HTML would run"),
    ({"allow": {"id": "root"}}, "/allow", "who may read"),
    ({"plugins": {}}, "/plugins", "configures the server"),
    ({"title": 1}, "/title", None),
    ({"title": "a\u0000b"}, "/title", None),
    ({"title": "\ud800"}, "/title", None),
    ({"title": "x" * 501}, "/title", None),
    ({"license_url": "javascript:alert(1)"}, "/license_url", None),
    ({"source_url": "https://"}, "/source_url", None),
    ({"source_url": "https://a b"}, "/source_url", None),
    ({"about_url": "https://[::1"}, "/about_url", None),
    ({"tables": []}, "/tables", None),
    ({"tables": {"a/b~c": {"allow": True}}}, "/tables/a~1b~0c/allow", "who may read"),
    ({"tables": {"t": {"column": {}}}}, "/tables/t/column", "did you mean 'columns'?"),
    ({"tables": {"t": {"columns": {"": "x"}}}}, "/tables/t/columns/", None),
    ({"tables": {"t": {"units": {"a": "9**9**9"}}}}, "/tables/t/units/a", "write it like"),
    ({"tables": {"t": {"units": {"a": "m**99"}}}}, "/tables/t/units/a", None),
    ({"tables": {"t": {"size": True}}}, "/tables/t/size", None),
    ({"tables": {"t": {"size": 1001}}}, "/tables/t/size", None),
    ({"tables": {"t": {"hidden": "yes"}}}, "/tables/t/hidden", None),
    ({"tables": {"t": {"facets": [{"sql": "a"}]}}}, "/tables/t/facets/0", None),
    ({"tables": {"t": {"sort": "a", "sort_desc": "b"}}}, "/tables/t/sort_desc", None),
    ({"queries": {"q": {"title": "x"}}}, "/queries/q", None),
    ({"queries": {"q": {"sql": "SELECT 1", "write": True}}}, "/queries/q/write", "readers serve"),
    ({"queries": {"q": " "}}, "/queries/q", None),
    ({"tables": {f"t{n}": {"description": "x" * 9000} for n in range(9)}}, "", None),
]


def test_metadata_with_every_key_is_taken_as_it_is() -> None:
    """All that Datasette shows of a database can be said."""
    assert check_metadata(WHOLE) == WHOLE


@pytest.mark.parametrize(("document", "pointer", "hint"), REFUSED)
def test_metadata_that_cannot_be_shown_is_refused_where_it_stands(
    document: Any, pointer: str, hint: str | None
) -> None:
    """A refusal points at the member that is wrong, and says what to do where that is known."""
    with pytest.raises(Refusal) as refused:
        check_metadata(document)
    assert refused.value.code == "invalid-metadata"
    assert refused.value.extra["pointer"] == pointer
    assert (hint or "") in (refused.value.hint or "")


# RFC 7396, appendix A: original, patch, result.
PATCHES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("original", "patch", "result"), PATCHES)
def test_patch_gives_what_the_standard_says(original: Any, patch: Any, result: Any) -> None:
    """The examples of RFC 7396 hold."""
    assert patch_metadata(original, patch) == result


def test_metadata_of_a_table_goes_with_it() -> None:
    """Nothing is left of a table that is gone, and the rest stays."""
    metadata = {"title": "x", "tables": {"a": {"title": "A"}, "b": {"title": "B"}}}
    assert without_table(metadata, "a") == {"title": "x", "tables": {"b": {"title": "B"}}}
    assert without_table({"tables": {"a": {}}}, "a") == {}


def test_difference_of_metadata_names_keys_tables_and_queries() -> None:
    """Who compares two generations reads what was said otherwise."""
    before = {"title": "x", "tables": {"a": {"size": 1}, "b": {}}}
    after = {"title": "y", "tables": {"a": {"size": 2}, "b": {}}, "queries": {"q": "SELECT 1"}}
    assert changed_keys(before, after) == ["queries/q", "tables/a", "title"]


def test_text_of_a_whole_instance_gives_the_part_of_the_database() -> None:
    """A metadata.yaml that was made for Datasette is used as it is; what else it says is named."""
    text = (
        "title: Server\nplugins: {}\ndatabases:\n  shop:\n    title: Shop\n"
        "    license: 2026-01-01\n  other: {}\n"
    )
    said = read_metadata_text(text, "shop")
    assert said.metadata == {"title": "Shop", "license": "2026-01-01"}
    assert [warning.rpartition(": ")[2] for warning in said.warnings] == ["plugins, title", "other"]
    assert read_metadata_text(text.replace("shop:", "shoe:"), "shop").metadata is None


def test_text_of_one_database_is_json_or_yaml() -> None:
    """What is said at the top is about the database that it comes with."""
    assert read_metadata_text('\ufeff{"title": "x"}', "a").metadata == {"title": "x"}
    assert read_metadata_text("title: x", "a").metadata == {"title": "x"}
    assert read_metadata_text("", "a").metadata == {}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{"title": }', (1, 11)),
        ("title: [", (2, 1)),
        ("a: &x 1\nb: *x", (None, None)),
        ("- title", (None, None)),
        ("{" + '"a":{' * 30 + "}" * 31, (None, None)),
        ("{" * 90_000, (1, 2)),
        ("[" * 90_000, (None, None)),
        ('{"size": NaN}', (None, None)),
        ("title: " + "x" * 5 * MAX_BYTES, (None, None)),
        ("!!python/object:os.system x", (1, 1)),
        ("a: \x00", (None, None)),
    ],
)
def test_text_that_is_no_metadata_is_refused(
    text: str, place: tuple[int | None, int | None]
) -> None:
    """Broken, hostile and endless texts are refused, with line and column where there are any."""
    with pytest.raises(Refusal) as refused:
        read_metadata_text(text, "a")
    assert refused.value.code == "invalid-metadata"
    assert (refused.value.line, refused.value.column) == place


def test_refusal_of_a_section_points_into_the_whole_document() -> None:
    """Who sent a whole metadata.json finds the member in there."""
    with pytest.raises(Refusal) as refused:
        read_metadata_text('{"databases": {"a": {"allow": true}}}', "a")
    assert refused.value.extra["pointer"] == "/databases/a/allow"
