"""Calendars, mailboxes, XML, HTML, SQL dumps, YAML and Markdown: POSTed, and read in Datasette."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import System

DATA = Path(__file__).parents[1] / "data"
RECURSIVE = b"""CREATE TABLE t(a);
INSERT INTO t WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x FROM c) SELECT x FROM c;
"""


@pytest.mark.parametrize(
    ("filename", "body", "kind", "table", "expected"),
    [
        (
            "all.ics",
            (DATA / "icalendar" / "issue_1050_all_components.ics").read_bytes(),
            "icalendar",
            "events",
            {"uid": "event-1", "dtstart": "2025-01-15T10:00:00", "timezone": "America/New_York"},
        ),
        (
            "mail.mbox",
            (DATA / "mbox" / "test-4-message.mbox").read_bytes(),
            "mbox",
            "messages",
            {"subject": "mail 1", "date": "2011-12-25T21:33:37+08:00"},
        ),
        (
            "collection.xml",
            (DATA / "xml" / "collection.xml").read_bytes(),
            "xml",
            "collection",
            {"id": "b0836217462", "position": 1, "title": "The Umbrellas"},
        ),
        (
            "menu.xml",
            (DATA / "xml" / "menu-cp1252.xml").read_bytes(),
            "xml",
            "dolce",
            {"text": "Crostata ai mirtilli"},
        ),
        (
            "iana.html",
            (DATA / "html" / "iana-reserved-domains.html").read_bytes(),
            "html",
            "arpa-table",
            {"Language": "Arabic", "Domain (A-label)": "XN--KGBECHTV"},
        ),
        (
            "greetings.sql",
            (DATA / "sql" / "greetings_create.sql").read_bytes(),
            "sql",
            "greetings",
            {"greeting_id": 1, "greeting": "Hi"},
        ),
        (
            "members.yaml",
            (DATA / "yaml" / "members.yaml").read_bytes(),
            "yaml",
            "members",
            {"name": "Jack", "age": 27, "blog": "http://example.com/jack"},
        ),
        (
            "post.markdown",
            (DATA / "markdown" / "2013-07-22-post-excerpt-with-layout.markdown").read_bytes(),
            "markdown",
            "post",
            {"title": "Post Excerpt with Layout", "layout": "post"},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_upload_of_a_text_format_is_read_back_over_datasette(  # noqa: PLR0917 - a table
    system: System, filename: str, body: bytes, kind: str, table: str, expected: dict[str, object]
) -> None:
    """Each format goes in by one POST without a word about it, and comes out as rows."""
    database = f"text_{filename.replace('.', '_')}"
    receipt = system.upload(body, filename, database=database)
    assert receipt["format"] == kind
    assert table in [each["name"] for each in receipt["tables"]]
    system.wait_until_live(receipt)
    row = system.rows(f"/{database}/{table}")[0]
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("filename", "body", "status", "code"),
    [
        ("a.xml", b'<!DOCTYPE r [<!ENTITY a "b">]><r>&a;</r>', 422, "limit-exceeded"),
        ("b.xml", b"<a>" * 1_000_000, 422, "limit-exceeded"),
        ("c.html", b"<table><tr>" + b"<td>x" * 100_000, 422, "limit-exceeded"),
        (
            "d.mbox",
            b"From a@b Sun Dec 25 21:33:37 2011\n"
            + b"".join(
                b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n)
                for n in range(10_000)
            ),
            422,
            "limit-exceeded",
        ),
        ("e.sql", b"CREATE TABLE t(a);\nATTACH 'x' AS y;\n", 422, "invalid-file"),
        (
            "f.sql",
            RECURSIVE,
            422,
            "limit-exceeded",
        ),
        ("g.sql", b"-- MySQL dump 10\nCREATE TABLE `t` (a int);\n", 415, "unknown-format"),
        ("h.ics", b"BEGIN:VCALENDAR\n" + b"BEGIN:X\n" * 10_000, 422, "limit-exceeded"),
        (
            "i.yaml",
            b"a0: &a0 [x]\n"
            + b"".join(
                b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9))
                for n in range(1, 12)
            ),
            422,
            "limit-exceeded",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_upload_of_a_hostile_text_is_refused_and_the_service_goes_on(
    system: System, filename: str, body: bytes, status: int, code: str
) -> None:
    """A hostile file is refused with its code, and the next upload works."""
    response = system.post(body, filename, database="hostile")
    assert (response.status_code, response.json()["code"]) == (status, code)
    receipt = system.upload(b"a\n1\n", "fine.csv", database="unharmed")
    assert receipt["state"] == "published"


def test_upload_whose_encoding_is_said_is_read_in_it(system: System) -> None:
    """A file that would look like bytes is found and read by what its sender says."""
    body = '[{"who": "Åsa"}]'.encode("utf-32-be")
    receipt = system.upload(body, "people.json", database="said", encoding="utf-32-be")
    assert (receipt["format"], receipt["encoding"]) == ("json", "utf-32-be")
    system.wait_until_live(receipt)
    assert [row["who"] for row in system.rows("/said/people")] == ["Åsa"]
