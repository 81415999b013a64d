"""Ids of receipts of dropped files."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ingest.buckets.place import Found
from ingest.buckets.record import event_key, receipt_id_of

FOUND = Found(
    name="sales/a.csv",
    size_bytes=4,
    etag='"c4ca4238"',
    modified_at=datetime(2026, 11, 27, 12, 0, tzinfo=UTC),
)


def test_receipt_id_of_the_same_file_is_the_same() -> None:
    """However often a file is told of, it has one receipt."""
    assert receipt_id_of("secret", "s3://b", FOUND) == receipt_id_of("secret", "s3://b", FOUND)


def test_receipt_id_of_another_file_is_another() -> None:
    """Other bytes, another name, another date or place, or one that came back: another receipt."""
    others = [
        replace(FOUND, name="sales/b.csv"),
        replace(FOUND, size_bytes=5),
        replace(FOUND, etag='"c81e728d"'),
        replace(FOUND, modified_at=FOUND.modified_at + timedelta(seconds=1)),
    ]
    ids = {receipt_id_of("secret", "s3://b", each) for each in (FOUND, *others)}
    ids.add(receipt_id_of("secret", "s3://c", FOUND))
    ids.add(receipt_id_of("secret", "s3://b", FOUND, round_=1))
    assert len(ids) == 7


def test_receipt_id_cannot_be_told_from_the_file_alone() -> None:
    """A receipt is shown to whoever knows its id: so that follows from a secret, too."""
    one, other = (receipt_id_of(each, "s3://b", FOUND) for each in ("secret", "other"))
    assert one[:12] == other[:12]
    assert one[12:] != other[12:]
    assert event_key("secret") != event_key("other")


def test_receipt_id_of_any_name_and_date_has_its_form() -> None:
    """Whoever owns a file names and dates it."""
    for year in (1, 1970, 9999):
        found = replace(FOUND, name="\ud800\n\u202e", modified_at=datetime(year, 1, 1, tzinfo=UTC))
        assert re.fullmatch(r"[0-9a-f]{32}", receipt_id_of("secret", "s3://b", found))
