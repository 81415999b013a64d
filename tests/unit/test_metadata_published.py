"""What uploaders say, beside what the operator says, on a reader."""

from __future__ import annotations

from typing import Any

from serve.published import names_units, prefer, showable


def test_operator_wins_key_by_key() -> None:
    """What stands in the operator's own file is shown; what it does not say is the uploader's."""
    operator: dict[str, Any] = {
        "title": "Mine",
        "tables": {"t": {"columns": {"a": "mine"}}},
        "queries": {"q": {"sql": "SELECT 1"}},
    }
    published = {
        "title": "Theirs",
        "license": "CC0",
        "tables": {"t": {"columns": {"a": "theirs", "b": "theirs"}, "size": 5}, "u": {}},
        "queries": {"q": {"sql": "SELECT 2", "title": "x"}, "r": "SELECT 3"},
    }
    assert prefer(operator, published) == {
        "title": "Mine",
        "license": "CC0",
        "tables": {"t": {"columns": {"a": "mine", "b": "theirs"}, "size": 5}, "u": {}},
        "queries": {"q": {"sql": "SELECT 1"}, "r": "SELECT 3"},
    }
    assert operator["tables"] == {"t": {"columns": {"a": "mine"}}}


def test_operator_who_names_a_source_wins_with_its_link() -> None:
    """A name and its link come from one hand: nobody's link stands under another's name."""
    published = {"source": "x", "source_url": "https://x.org", "description": "x", "sort": "a"}
    operator = {"source": "Mine", "description_html": "<b>", "sort_desc": "b"}
    assert prefer(operator, published) == operator


def test_what_names_a_column_that_is_gone_is_not_shown() -> None:
    """A table whose columns changed later is shown without what would be an error on its page."""
    metadata = {
        "title": "x",
        "tables": {
            "t": {
                "title": "T",
                "sort": "gone",
                "label_column": "gone",
                "facets": ["a", "gone", {"array": "gone"}, {"date": "a"}],
                "units": {"a": "m", "n": "kg", "gone": "s"},
            },
            "gone": {"title": "G"},
            "_headrace_merges": {"hidden": False},
        },
        "queries": {"T": "SELECT 1", "q": "SELECT 2"},
    }
    shown = showable(
        metadata, ["t"], {"t": {"a": "TEXT", "n": "REAL"}, "_headrace_merges": {"receipt": "TEXT"}}
    )
    assert shown == {
        "title": "x",
        "tables": {"t": {"title": "T", "facets": ["a", {"date": "a"}], "units": {"n": "kg"}}},
        "queries": {"q": "SELECT 2"},
    }
    assert names_units(shown)
    assert showable({}, ["t"], {}) == {}
