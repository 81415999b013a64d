"""What an uploader may ask about how a file is read and shaped."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from headrace.errors import Refusal
from headrace.wishes import READING, WISHES, Wishes, read_wishes
from ingest.converters import FORMATS, Conversion, Format, run_converter

if TYPE_CHECKING:
    from pathlib import Path


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


def _run(folder: Path, format_name: str, data: bytes, **wishes: Any) -> None:
    source, output = folder / "in", folder / "out.db"
    source.write_bytes(data)
    output.unlink(missing_ok=True)
    run_converter(
        Conversion(
            input=source, output=output, format=format_name, table="t", wishes=Wishes(**wishes)
        )
    )


ASKED = {
    "encoding": "utf-8",
    "delimiter": ";",
    "header": True,
    "empty": "null",
    "on_bad_rows": "quarantine",
    "nested": "flatten",
}


@pytest.mark.parametrize(
    ("known", "name"),
    [
        (known, name)
        for known in FORMATS
        if known.honours is not None
        for name in sorted(READING - known.honours)
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_wish_that_a_format_cannot_honour_is_refused(
    tmp_path: Path, known: Format, name: str
) -> None:
    """Nothing is left undone without a word; the formats that know the option are named."""
    with pytest.raises(Refusal) as refused:
        _run(tmp_path, known.name, b"", **{name: ASKED[name]})
    assert refused.value.code == "invalid-option"
    assert name in refused.value.detail
    assert "csv" in str(refused.value.hint) or name == "nested"
    assert known.name not in refused.value.extra["known"][name]


def test_wish_for_what_is_so_anyway_is_never_refused(tmp_path: Path) -> None:
    """The defaults may be said for every format; where types are cast, ``empty`` is for all."""
    rows = b'[{"a": ""}]'
    _run(tmp_path, "json", rows, empty="auto", on_bad_rows="fail", delimiter=None, header=None)
    _run(tmp_path, "json", rows, empty="text", types={"a": "text"})


def test_each_option_about_reading_has_a_format_that_honours_it() -> None:
    """An option that no format knows would be refused always."""
    assert set(ASKED) == READING == {name for known in FORMATS for name in known.honours or ()}
