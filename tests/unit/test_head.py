"""Cutting the beginning of a file where a record ends."""

from __future__ import annotations

import json

import pytest

from ingest.converters import KNOWN_FORMATS
from ingest.head import cut_head, why_not


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"a,b\n1,2\n3,", b"a,b\n1,2\n"),
        (b'a,b\n1,"x\ny"\n2,"z\n', b'a,b\n1,"x\ny"\n'),
        (b'a\n"he said ""hi\n', b"a\n"),
        ("a\n\u010a\n1".encode("utf-16"), "a\n\u010a\n".encode("utf-16")),
        ("a,b\n1,2\n3".encode("utf-16-be"), "a,b\n1,2\n".encode("utf-16-be")),
    ],
)
def test_head_of_csv_is_cut_after_its_last_whole_row(head: bytes, kept: bytes) -> None:
    """No half row is shown, whatever the quotes and the width of its characters."""
    assert cut_head(head, "csv") == kept


def test_head_of_csv_without_a_whole_row_is_not_read() -> None:
    """A first field that goes on for a megabyte is nothing to show."""
    assert cut_head(b'"' + b"x" * 1000 + b"\n", "csv") is None


def test_head_of_ndjson_is_cut_after_its_last_line() -> None:
    """A record that is cut in two is left out."""
    assert cut_head(b'{"a": 1}\n{"a": 2}\n{"a', "ndjson") == b'{"a": 1}\n{"a": 2}\n'


@pytest.mark.parametrize(
    ("head", "rows"),
    [
        ('[{"a": "é]"}, {"a": 2}, {"a', [{"a": "é]"}, {"a": 2}]),
        ("[1, 2, 3", [1, 2]),
        ('\ufeff [\n{"a": [1]},\n', [{"a": [1]}]),
    ],
)
def test_head_of_a_json_array_is_closed_after_its_last_element(
    head: str, rows: list[object]
) -> None:
    """What is left is JSON, and holds only whole elements: a number may go on."""
    assert json.loads(cut_head(head.encode(), "json") or b"") == rows


@pytest.mark.parametrize("head", [b'{"rows": [{"a": 1}, {"a"', b"[", b'[{"a": "' + b"x" * 99])
def test_head_of_json_without_a_whole_element_is_not_read(head: bytes) -> None:
    """An object says what it is only at its end."""
    assert cut_head(head, "json") is None


@pytest.mark.parametrize("found", sorted(set(KNOWN_FORMATS) - {"csv", "ndjson", "json"}))
def test_head_of_other_formats_says_why_it_is_not_read(found: str) -> None:
    """Nobody is shown rows that are a guess."""
    assert cut_head(b"PK\x03\x04 and so on\n", found) is None
    assert why_not(found)
