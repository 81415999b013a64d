"""What an uploader may ask about how a file is read and shaped."""

from __future__ import annotations

import json

import pytest

from headrace.errors import Refusal
from ingest.converters.wishes import WISHES, Wishes, read_wishes


def test_nothing_asked_gives_the_defaults() -> None:
    """Who asks for nothing gets what is right for most."""
    assert read_wishes({}) == Wishes()


def test_all_wishes_are_read_and_survive_the_journal() -> None:
    """What was asked for is the same after a restart."""
    wishes = read_wishes(
        {
            "types": "zip:TEXT, price:real",
            "strict": "1",
            "encoding": "cp1252",
            "delimiter": "tab",
            "header": "0",
            "on_bad_rows": "quarantine",
            "empty": "null",
            "nested": "flatten",
            "pk": "id,day",
            "index": "zip,day+price",
            "fts": "title",
            "extract": "city:cities,state",
            "columns": "zip,price:cost",
            "database": "sales",
        }
    )
    assert wishes == Wishes(
        types={"zip": "text", "price": "real"},
        strict=True,
        encoding="cp1252",
        delimiter="\t",
        header=False,
        on_bad_rows="quarantine",
        empty="null",
        nested="flatten",
        pk=("id", "day"),
        index=(("zip",), ("day", "price")),
        fts=("title",),
        extract={"city": "cities", "state": "state"},
        columns={"zip": "zip", "price": "cost"},
    )
    assert Wishes.decode(json.loads(json.dumps(wishes.encode()))) == wishes


def test_json_takes_names_with_commas_and_colons() -> None:
    """Any column can be named, whatever it is called."""
    wishes = read_wishes({"pk": '["a,b", "c+d"]', "types": '{"a:b": "text"}'})
    assert wishes.pk == ("a,b", "c+d")
    assert wishes.types == {"a:b": "text"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("types", "zip:number"),
        ("strict", "perhaps"),
        ("header", "2"),
        ("encoding", "utf-9"),
        ("encoding", "a\0b"),
        ("delimiter", ",,"),
        ("delimiter", '"'),
        ("on_bad_rows", "skip"),
        ("empty", "none"),
        ("nested", "drop"),
        ("pk", "[1]"),
        ("pk", "[broken"),
        ("types", '{"a": 1}'),
        ("types", "{broken"),
    ],
)
def test_wish_that_is_no_wish_is_refused(name: str, value: str) -> None:
    """A typing error is told, and not taken for something else."""
    assert name in WISHES
    with pytest.raises(Refusal) as refused:
        read_wishes({name: value})
    assert refused.value.code == "invalid-option"
    assert name in refused.value.detail
