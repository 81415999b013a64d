from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from icalendar import Calendar, Event

from tests.unit.convert_kit import DATA, Loaded, refuse

TEXTS = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=200
).filter(lambda text: text == text.strip())


def _calendar(*lines: str, ending: str = "\r\n") -> str:
    return ending.join(["BEGIN:VCALENDAR", "X-WR-CALNAME:Mine", *lines, "END:VCALENDAR", ""])


def _event(*lines: str) -> str:
    return _calendar("BEGIN:VEVENT", *lines, "END:VEVENT")


def test_icalendar_event_has_a_column_for_each_property() -> None:
    """An event is a row; times are ISO, lists are JSON."""
    loaded = Loaded(
        _event(
            "UID:1@example.org",
            "SUMMARY:Tea\\, and\\nmore",
            "DTSTART;TZID=Europe/Berlin:20240131T100000",
            "DTEND;TZID=Europe/Berlin:20240131T110000",
            "RRULE:FREQ=WEEKLY;COUNT=3",
            "EXDATE;TZID=Europe/Berlin:20240207T100000",
            "ORGANIZER:mailto:ada@example.org",
            'ATTENDEE;CN="Hopper, Grace";PARTSTAT=ACCEPTED:mailto:grace@example.org',
            "CATEGORIES:a,b\\,c",
            "PRIORITY:5",
            "CREATED:20240101T000000Z",
        ),
        "icalendar",
    )
    assert loaded.records("events") == [
        {
            "uid": "1@example.org",
            "summary": "Tea, and\nmore",
            "dtstart": "2024-01-31T10:00:00",
            "dtend": "2024-01-31T11:00:00",
            "all_day": 0,
            "timezone": "Europe/Berlin",
            "rrule": "FREQ=WEEKLY;COUNT=3",
            "exdate": '["2024-02-07T10:00:00"]',
            "organizer": "ada@example.org",
            "attendees": '[{"value": "mailto:grace@example.org", "CN": "Hopper, Grace",'
            ' "PARTSTAT": "ACCEPTED"}]',
            "categories": '["a", "b,c"]',
            "priority": 5,
            "created": "2024-01-01T00:00:00Z",
            "calendar": "Mine",
        }
    ]
    assert loaded.records("calendars") == [{"name": "Mine"}]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("DTSTART;VALUE=DATE:20240131", {"dtstart": "2024-01-31", "all_day": 1}),
        ("DTSTART:20240131T100000", {"dtstart": "2024-01-31T10:00:00", "all_day": 0}),
        (
            "DTSTART:20240131T100000Z",
            {"dtstart": "2024-01-31T10:00:00Z", "all_day": 0, "timezone": "UTC"},
        ),
        ("DTSTART:tomorrow", {"properties": '{"DTSTART": ["tomorrow"]}'}),
        ("X-FOO;A=1:b\\,c", {"properties": '{"X-FOO": [{"value": "b\\\\,c", "A": "1"}]}'}),
        (
            "SUMMARY;LANGUAGE=de:Tee",
            {"properties": '{"SUMMARY": [{"value": "Tee", "LANGUAGE": "de"}]}'},
        ),
        ("PRIORITY:high", {"properties": '{"PRIORITY": ["high"]}'}),
        ("GEO:1.5;2.5", {"geo": "1.5;2.5"}),
        ("URL:https://example.org/?a=%2C", {"url": "https://example.org/?a=%2C"}),
    ],
)
def test_icalendar_property_without_a_column_is_kept(line: str, expected: dict[str, str]) -> None:
    """What does not fit a column is in `properties`, as it is written."""
    (row,) = Loaded(_event(line), "icalendar").records("events")
    assert row == {**expected, "calendar": "Mine"}


def test_icalendar_property_that_comes_twice_is_kept_twice() -> None:
    """A second summary does not replace the first."""
    (row,) = Loaded(_event("SUMMARY:a", "SUMMARY:b"), "icalendar").records("events")
    assert row["summary"] == "a"
    assert json.loads(row["properties"]) == {"SUMMARY": ["b"]}


def test_icalendar_other_components_have_their_own_tables() -> None:
    """To-dos and journals are tables, alarms stay with their event, the rest is kept whole."""
    loaded = Loaded(
        _calendar(
            "BEGIN:VTODO", "DUE:20240131T100000Z", "PERCENT-COMPLETE:50",
            "BEGIN:VALARM", "TRIGGER:-PT5M", "END:VALARM", "END:VTODO",
            "BEGIN:VJOURNAL", "SUMMARY:j", "END:VJOURNAL",
            "BEGIN:VTIMEZONE", "TZID:x", "BEGIN:STANDARD", "TZNAME:EST", "END:STANDARD",
            "END:VTIMEZONE",
        ),
        "icalendar",
    )  # fmt: skip
    (todo,) = loaded.records("todos")
    assert (todo["due"], todo["percent_complete"]) == ("2024-01-31T10:00:00Z", 50)
    assert json.loads(todo["alarms"]) == [{"type": "VALARM", "TRIGGER": ["-PT5M"]}]
    assert loaded.records("journals") == [{"summary": "j", "calendar": "Mine"}]
    (zone,) = loaded.records("components")
    assert (zone["type"], zone["name"]) == ("VTIMEZONE", "x")
    assert json.loads(zone["content"])["components"] == [{"type": "STANDARD", "TZNAME": ["EST"]}]


def test_icalendar_line_folded_within_a_character_is_whole() -> None:
    """Lines are put together before they are decoded."""
    data = _event("SUMMARY:caf" + "é").encode().replace("é".encode(), b"\xc3\r\n \xa9")
    assert Loaded(data, "icalendar").records("events")[0]["summary"] == "café"


@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_icalendar_texts_written_by_a_library_are_read_back(texts: list[str]) -> None:
    """What icalendar writes, folded and escaped, is what was meant."""
    calendar = Calendar()
    for text in texts:
        event = Event()
        event.add("summary", text)
        event.add("description", text[::-1])
        calendar.add_component(event)
    rows = Loaded(calendar.to_ical(), "icalendar").records("events")
    assert [row["summary"] for row in rows] == texts
    assert [row["description"] for row in rows] == [text[::-1] for text in texts]


def test_icalendar_rule_without_end_is_not_expanded() -> None:
    """A rule for each second of all time is a text."""
    loaded = Loaded(_event("DTSTART:19700101T000000Z", "RRULE:FREQ=SECONDLY"), "icalendar")
    assert loaded.records("events")[0]["rrule"] == "FREQ=SECONDLY"


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        (_calendar(), "no-rows", None),
        (_event("no colon"), "invalid-file", 4),
        (_calendar("BEGIN:VEVENT"), "invalid-file", 4),
        ("BEGIN:VCALENDAR\nBEGIN:VEVENT\n", "invalid-file", 2),
        ("BEGIN:VEVENT\nEND:VEVENT\n", "invalid-file", 1),
        (_event() + "X:y\n", "invalid-file", 6),
        ("BEGIN:VCALENDAR\n" + "BEGIN:X\n" * 100_000, "limit-exceeded", 51),
    ],
)
def test_icalendar_that_is_broken_or_hostile_is_refused(
    text: str, code: str, line: int | None
) -> None:
    """A calendar that ends early, or nests without end, is refused with its line."""
    refusal = refuse(text, "icalendar")
    assert (refusal.code, refusal.line) == (code, line)


def test_icalendar_byte_that_does_not_fit_is_refused_with_its_offset() -> None:
    """A byte is refused where the others are UTF-8, and where they are not what is said."""
    text = _event("SUMMARY:garçon, été, Noël").encode()
    data = text.replace("ë".encode(), b"\xeb")
    for wishes in ({}, {"encoding": "utf-8"}):
        refusal = refuse(data, "icalendar", **wishes)
        assert (refusal.line, refusal.extra) == (4, {"offset": data.index(b"\xeb")})


@pytest.mark.parametrize("encoding", ["latin-1", None])
def test_icalendar_of_a_legacy_encoding_is_read(encoding: str | None) -> None:
    """An encoding is believed, or found by what the bytes look like; that is said."""
    loaded = Loaded(_event("SUMMARY:café").encode("latin-1"), "icalendar", encoding=encoding)
    assert loaded.records("events")[0]["summary"] == "café"
    guessed = loaded.converted.encoding == "windows-1252" and bool(loaded.converted.warnings)
    assert guessed is (encoding is None)
    assert Loaded(_event("UID:é").encode("utf-16"), "icalendar").records("events")[0]["uid"] == "é"


def test_icalendar_files_of_others_are_read() -> None:
    """Files of icalendar's tests."""
    folder = DATA / "icalendar"
    names = Loaded((folder / "created_calendar_with_unicode_fields.ics").read_bytes(), "icalendar")
    assert names.records("events")[0]["summary"] == "Non-ASCII Test: ÄÖÜ äöü €"
    every = Loaded((folder / "issue_1050_all_components.ics").read_bytes(), "icalendar")
    assert set(every.tables) == {"events", "todos", "journals", "components", "calendars"}
