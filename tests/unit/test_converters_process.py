from __future__ import annotations

import errno
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from headrace.errors import Refusal
from ingest.converters import (
    FORMATS,
    Conversion,
    Converted,
    Limits,
    TableRows,
    decode_outcome,
    decode_request,
    encode_outcome,
    encode_request,
    load_converter,
)
from ingest.converters.process import refusal_for


def test_request_of_any_names_comes_through() -> None:
    """What the parent asks for is what the process reads, whatever the paths are called."""
    conversion = Conversion(
        input=Path("/in/\udcff é"),
        output=Path("/o"),
        format="csv",
        table='"',
        filename="a\n",
        media_type="text/csv",
    )
    limits = Limits(wall_s=1.5)
    data = encode_request(conversion, limits)
    assert decode_request(data) == (conversion, limits)


def test_outcome_of_tables_comes_through_as_one_line() -> None:
    """Tables and warnings are read back as they were made."""
    converted = Converted(tables=(TableRows(name="é\n", rows=3),), warnings=("a", "b"))
    data = encode_outcome(converted)
    assert data.count(b"\n") == 1
    assert decode_outcome(data) == converted


def test_outcome_of_refusal_comes_through_with_all_it_says() -> None:
    """A refusal is the same on both sides of the process's end."""
    refusal = Refusal("invalid-file", "x", hint="h", line=1, column=2, extra={"lines": [1]})
    read = decode_outcome(encode_outcome(refusal))
    assert isinstance(read, Refusal)
    assert read.document() == refusal.document()


@pytest.mark.parametrize("data", [b"", b"{}", b'{"converted": ', b"[]"])
def test_outcome_that_is_none_is_an_error(data: bytes) -> None:
    """A process that says nothing sensible has not made anything."""
    with pytest.raises((ValueError, KeyError, TypeError)):
        decode_outcome(data)


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
def test_converter_of_every_format_is_found(known: object) -> None:
    """Each format that is listed has a converter."""
    assert callable(load_converter(getattr(known, "name", "")))


def test_converter_of_unknown_format_is_refused() -> None:
    """A format that is not listed is refused with those that are."""
    with pytest.raises(Refusal) as caught:
        load_converter("dbf")
    assert "csv" in caught.value.extra["known"]


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        (MemoryError(), "limit-exceeded"),
        (RuntimeError("can't start new thread"), "limit-exceeded"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk-full"),
        (RuntimeError("[SQLite] Failed: database or disk is full"), "disk-full"),
        (OSError(errno.EIO, "Input/output error"), None),
        (ValueError("x"), None),
    ],
)
def test_error_of_the_machine_is_told_from_a_defect(exc: Exception, code: str | None) -> None:
    """Memory and disk have their own refusals; anything else is a crash."""
    refusal = refusal_for(exc)
    assert (refusal and refusal.code) == code


def test_error_of_full_database_is_a_full_disk(tmp_path: Path) -> None:
    """SQLite's own word for a full disk is understood."""
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        connection.execute("PRAGMA max_page_count = 2")
        connection.execute("CREATE TABLE t (a)")
        with pytest.raises(sqlite3.OperationalError) as caught:
            connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
    refusal = refusal_for(caught.value)
    assert refusal is not None
    assert refusal.code == "disk-full"
