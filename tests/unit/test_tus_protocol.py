"""The headers of tus."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import Refusal
from headrace.tus_metadata import describe, read_metadata
from ingest.tus.protocol import read_checksum, read_count, read_parts

KEYS = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=","), min_size=1
)
ID = "0" * 31


def encode(metadata: dict[str, str]) -> str:
    """Write metadata as clients do."""
    pairs = (
        f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in metadata.items()
    )
    return ",".join(pairs)


@given(st.dictionaries(KEYS, st.text()))
def test_metadata_is_read_as_it_was_meant(metadata: dict[str, str]) -> None:
    """Every key that the protocol allows, and every text, comes through."""
    assert read_metadata(encode(metadata)) == metadata
    assert read_metadata(encode(metadata).replace(",", " , ")) == metadata


@given(st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60))
def test_metadata_of_any_kind_is_read_or_refused(header: str) -> None:
    """Whatever a client sends, it is told what is wrong, and nothing else happens."""
    try:
        metadata = read_metadata(header)
    except Refusal:
        return
    assert read_metadata(encode(metadata)) == metadata


def test_metadata_with_a_key_alone_has_an_empty_value() -> None:
    """The value and its space may be left out; a key that is there twice is refused."""
    assert read_metadata("strict,table dA==") == {"strict": "", "table": "t"}
    for wrong in ("a YQ==,a YQ==", ",", "a YQ", "a \xff", "a /w=="):
        with pytest.raises(Refusal):
            read_metadata(wrong)


def test_metadata_of_uppy_are_no_options() -> None:
    """What clients add by themselves is about the file; all else is an option."""
    said = describe({"name": "a.csv", "type": "text/csv", "relativePath": "null", "table": "t"})
    assert (said.filename, said.media_type, dict(said.fields)) == (
        "a.csv",
        "text/csv",
        {"table": "t"},
    )


@pytest.mark.parametrize("value", ["", "-1", "1.0", "0x1", "٣", "1" * 19, "1 2"])
def test_count_that_is_no_number_is_refused(value: str) -> None:
    """A number of bytes is digits of ASCII."""
    with pytest.raises(Refusal):
        read_count({"Upload-Offset": value}, "Upload-Offset")
    assert read_count({"Upload-Offset": "10"}, "Upload-Offset") == 10


def test_checksum_is_an_algorithm_and_its_digest() -> None:
    """A checksum that could never be right is told from one that is wrong."""
    digest = hashlib.sha256(b"a").digest()
    encoded = base64.b64encode(digest).decode()
    found = read_checksum({"Upload-Checksum": f"sha256 {encoded}"})
    assert found is not None
    assert (found.algorithm, found.digest) == ("sha256", digest)
    assert read_checksum({}) is None
    for wrong in (f"sha1 {encoded}", f"SHA256 {encoded}", "sha256", "sha256 !", f"crc32 {encoded}"):
        with pytest.raises(Refusal):
            read_checksum({"Upload-Checksum": wrong})


def test_parts_are_named_by_any_url_of_theirs() -> None:
    """A part's URL may be absolute, through whatever host, or a path."""
    concat = f"final;/ingest/tus/{ID}1 https://a.example/ingest/tus/{ID}2 /ingest/tus/{ID}1"
    assert read_parts(concat) == (f"{ID}1", f"{ID}2", f"{ID}1")
    assert read_parts(None) is None
    assert read_parts("partial") is None
    for wrong in ("", "final;", "final", f"parts;/ingest/tus/{ID}1", "final;/ingest/tus/../a"):
        with pytest.raises(Refusal):
            read_parts(wrong)
