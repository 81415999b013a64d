"""iCalendar: each event is a row of ``events``, to-dos of ``todos``, journals of ``journals``.

Read as a stream, one component at a time; recurrence rules are kept as they are written, and are
never expanded. What has no column of its own is kept in ``properties``, as JSON.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from icalendar.parser import Contentline

from headrace.errors import Refusal
from ingest.converters import Conversion, Converted, TableRows
from ingest.converters.encodings import UTF8, reads_text
from ingest.converters.lossless import parse_integer
from ingest.converters.staging import Kind, create_table, insert_statement, open_staging

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

MAX_DEPTH = 50  # components within components
_BATCH_ROWS = 1000

# Columns by property. The names are those of the properties, as ics libraries have them.
_COLUMNS = (
    "uid", "summary", "description", "location", "dtstart", "dtend", "duration", "all_day",
    "timezone", "rrule", "rdate", "exdate", "recurrence_id", "status", "organizer", "attendees",
    "categories", "url", "geo", "class", "transp", "priority", "sequence", "created",
    "last_modified", "dtstamp", "alarms", "attachments", "calendar", "properties",
)  # fmt: skip
_TABLES = {
    "VEVENT": ("events", _COLUMNS),
    "VTODO": ("todos", (*_COLUMNS[:5], "due", "completed", "percent_complete", *_COLUMNS[6:])),
    "VJOURNAL": ("journals", _COLUMNS),
}
_OTHERS = ("components", ("type", "name", "content", "calendar"))
_CALENDARS = ("calendars", ("name", "description", "prodid", "version", "method", "properties"))
_INTEGERS = frozenset({"all_day", "priority", "sequence", "percent_complete"})

_TEXTS = frozenset({"SUMMARY", "DESCRIPTION", "LOCATION", "UID"})
_PLAIN = frozenset({"RRULE", "STATUS", "URL", "GEO", "CLASS", "TRANSP", "DURATION"})
_NUMBERS = frozenset({"PRIORITY", "SEQUENCE", "PERCENT-COMPLETE"})
_TIMES = frozenset(
    {"DTSTART", "DTEND", "DUE", "COMPLETED", "RECURRENCE-ID", "CREATED", "LAST-MODIFIED", "DTSTAMP"}
)
_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)(Z?))?")
_CALENDAR_PROPERTIES = {
    "X-WR-CALNAME": "name", "NAME": "name", "X-WR-CALDESC": "description",
    "DESCRIPTION": "description", "PRODID": "prodid", "VERSION": "version", "METHOD": "method",
}  # fmt: skip
_ESCAPED = re.compile(r"\\([\\;,nN])")
_COMMA = re.compile(r"(?<!\\),")

Property = tuple[str, dict[str, Any], str]  # name, parameters, value as it is written


@dataclass(slots=True)
class _Component:
    """A component that is being read."""

    name: str
    line: int
    properties: list[Property] = field(default_factory=list)
    components: list[_Component] = field(default_factory=list)


def convert(conversion: Conversion) -> Converted:
    """Convert a calendar file; a file may hold several calendars.

    Raises:
        Refusal: ``invalid-file`` with the line, ``limit-exceeded``, ``no-rows``.
    """
    if conversion.wishes.encoding is None and _is_utf8(conversion.input):
        return replace(_convert(conversion), encoding=UTF8)
    return reads_text(_convert)(conversion)


def _convert(conversion: Conversion) -> Converted:
    with open_staging(conversion.output) as connection:
        rows = _Rows(connection)
        for calendar, component in _read_components(conversion, rows):
            if component is calendar:
                rows.add(_CALENDARS, _calendar_row(calendar))
            elif component.name in _TABLES:
                rows.add(_TABLES[component.name], _event_row(component, _name_of(calendar)))
            else:
                rows.add(_OTHERS, _other_row(component, _name_of(calendar)))
        made = rows.finish()
    if not any(table.name != _CALENDARS[0] for table in made):
        raise Refusal("no-rows", "the calendar holds nothing")
    return Converted(tables=made)


class _Rows:
    """Tables that are created when their first row comes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._waiting: dict[str, list[tuple[Any, ...]]] = {}
        self._columns: dict[str, tuple[str, ...]] = {}
        self._counts: Counter[str] = Counter()
        connection.execute("BEGIN")

    @property
    def count(self) -> int:
        """How many rows there are so far."""
        return self._counts.total()

    def add(self, table: tuple[str, tuple[str, ...]], row: dict[str, Any]) -> None:
        """Add a row; a column that it does not have is NULL."""
        name, columns = table
        if name not in self._columns:
            kinds = [Kind.INTEGER if column in _INTEGERS else Kind.TEXT for column in columns]
            create_table(self._connection, name, columns, kinds)
            self._columns[name] = columns
        waiting = self._waiting.setdefault(name, [])
        waiting.append(tuple(row.get(column) for column in columns))
        self._counts[name] += 1
        if len(waiting) >= _BATCH_ROWS:
            self._write(name)

    def finish(self) -> tuple[TableRows, ...]:
        """Write what waits; give the tables, the events first."""
        for name in self._waiting:
            self._write(name)
        self._connection.execute("COMMIT")
        order = [name for name, _ in (*_TABLES.values(), _OTHERS, _CALENDARS)]
        return tuple(
            TableRows(name=name, rows=self._counts[name]) for name in order if self._counts[name]
        )

    def _write(self, name: str) -> None:
        statement = insert_statement(name, len(self._columns[name]))
        self._connection.executemany(statement, self._waiting[name])
        self._waiting[name].clear()


def _read_components(
    conversion: Conversion, rows: _Rows
) -> Iterator[tuple[_Component, _Component]]:
    """Give each component of a calendar when it ends, with its calendar; then the calendar."""
    open_ones: list[_Component] = []
    for number, (line, done_bytes) in _unfolded(conversion):
        if not line.strip():
            continue
        name, parameters, value = _divide(line, number)
        if name == "BEGIN":
            _begin(open_ones, value.strip().upper(), number)
        elif not open_ones:
            raise _broken("there is a line outside of a calendar", number)
        elif name != "END":
            open_ones[-1].properties.append((name, parameters, value))
        else:
            component = _end(open_ones, value.strip().upper(), number)
            if len(open_ones) > 1:
                open_ones[-1].components.append(component)
            else:
                yield (open_ones[0] if open_ones else component), component
                conversion.report(rows.count, done_bytes)
    if open_ones:
        raise _broken(f"{open_ones[-1].name[:40]!r} does not end", open_ones[-1].line)


def _begin(open_ones: list[_Component], name: str, number: int) -> None:
    """Open a component within those that are open."""
    if not open_ones and name != "VCALENDAR":
        raise _broken(f"a calendar does not begin with {name[:40]!r}", number)
    open_ones.append(_Component(name=name, line=number))
    if len(open_ones) > MAX_DEPTH:
        raise Refusal(
            "limit-exceeded",
            f"components are nested more than {MAX_DEPTH} levels deep",
            line=number,
            extra={"limit": "depth"},
        )


def _end(open_ones: list[_Component], name: str, number: int) -> _Component:
    """Close the innermost component."""
    component = open_ones.pop()
    if name != component.name:
        raise _broken(
            f"{component.name[:40]!r} of line {component.line} ends as {name[:40]!r}", number
        )
    return component


def _divide(line: str, number: int) -> Property:
    """Divide a line into its name, its parameters and its value."""
    try:
        name, parameters, value = Contentline(line).raw_parts()  # type: ignore[no-untyped-call]
    except ValueError as exc:
        raise _broken("the line is not of the form NAME;PARAMETER=…:VALUE", number) from exc
    return str(name).upper(), {key: parameters[key] for key in parameters}, str(value)


def _unfolded(conversion: Conversion) -> Iterator[tuple[int, tuple[str, int]]]:
    """Give each line whole, with its number and the bytes up to its end.

    Folding may cut a character in two, so lines are put together before they are decoded.
    """
    parts: list[tuple[int, bytes]] = []  # of the line in hand: offset in the file, bytes
    first = 1
    end = 0
    for number, (offset, raw) in enumerate(_lines(conversion.input), start=1):
        stripped = raw.rstrip(b"\r\n")
        if parts and stripped[:1] in (b" ", b"\t"):
            parts.append((offset + 1, stripped[1:]))
        else:
            if parts:
                yield first, (_decode(parts, first), offset)
            parts, first = [(offset, stripped)], number
        end = offset + len(raw)
    if parts:
        yield first, (_decode(parts, first), end)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Give the lines of the file, each with its offset."""
    offset = 0
    with path.open("rb") as file:
        for line in file:
            mark = len(codecs.BOM_UTF8) if not offset and line.startswith(codecs.BOM_UTF8) else 0
            yield offset + mark, line[mark:]
            offset += len(line)


def _is_utf8(path: Path) -> bool:
    """Say whether all of it is UTF-8, its lines put together."""
    decoder = codecs.getincrementaldecoder(UTF8)()
    try:
        for _offset, line in _lines(path):
            text = line.rstrip(b"\r\n")
            decoder.decode(text[1:] if text[:1] in (b" ", b"\t") else text)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _decode(parts: list[tuple[int, bytes]], number: int) -> str:
    """Put a line together, and decode it."""
    line = b"".join(part for _, part in parts)
    try:
        return line.decode()
    except UnicodeDecodeError as exc:
        start = exc.start
        while start >= len(parts[0][1]):
            start -= len(parts.pop(0)[1])
        offset = parts[0][0] + start
        raise Refusal(
            "invalid-file",
            f"byte {offset} is not utf-8",
            hint="say the encoding by ?encoding=…, or save the file as UTF-8",
            line=number,
            extra={"offset": offset},
        ) from exc


def _event_row(  # noqa: C901 - a case for each kind of property
    component: _Component, calendar: str | None
) -> dict[str, Any]:
    """Make a row of an event, a to-do or a journal."""
    row: dict[str, Any] = {"calendar": calendar}
    lists: dict[str, list[Any]] = {}
    kept: list[Property] = []
    for name, parameters, value in component.properties:
        column = name.lower().replace("-", "_")
        unseen = {key for key in parameters if key not in ("TZID", "VALUE")}
        if name in ("ATTENDEE", "ATTACH"):
            column = {"ATTENDEE": "attendees", "ATTACH": "attachments"}[name]
            lists.setdefault(column, []).append(_with_parameters(value, parameters))
        elif name == "CATEGORIES" and not parameters:
            lists.setdefault("categories", []).extend(map(_unescape, _COMMA.split(value)))
        elif name in ("RDATE", "EXDATE") and _zone(parameters) in (None, row.get("timezone")):
            times = [_iso(time) or time for time in value.split(",")]
            lists.setdefault(column, []).extend(times)
        elif column in row or (unseen and name != "ORGANIZER"):
            kept.append((name, parameters, value))
        elif name == "ORGANIZER":
            row["organizer"] = _address(value)
            kept += [(name, parameters, value)] if unseen else []
        elif name in _TEXTS:
            row[column] = _unescape(value)
        elif name in _PLAIN and not parameters:
            row[column] = value
        elif name in _NUMBERS and (number := parse_integer(value)) is not None:
            row[column] = number
        elif name in _TIMES and (time := _iso(value)) is not None and _fits(name, parameters, row):
            row[column] = time
            if name in ("DTSTART", "DUE") and "timezone" not in row:
                row["timezone"] = _zone(parameters) or ("UTC" if value.endswith("Z") else None)
                row["all_day"] = int("T" not in time)
        else:
            kept.append((name, parameters, value))
    alarms = [_document(alarm) for alarm in component.components if alarm.name == "VALARM"]
    others = [_document(other) for other in component.components if other.name != "VALARM"]
    row |= {column: _to_json(values) for column, values in lists.items()}
    row["alarms"] = _to_json(alarms) if alarms else None
    row["properties"] = _properties(kept, others)
    return row


def _calendar_row(calendar: _Component) -> dict[str, Any]:
    """Make a row of what a calendar says about itself."""
    row: dict[str, Any] = {}
    kept = []
    for name, parameters, value in calendar.properties:
        column = _CALENDAR_PROPERTIES.get(name)
        if column is None or column in row or parameters:
            kept.append((name, parameters, value))
        else:
            row[column] = _unescape(value)
    row["properties"] = _properties(kept, [])
    return row


def _other_row(component: _Component, calendar: str | None) -> dict[str, Any]:
    """Make a row of a component that has no table of its own (VTIMEZONE, VFREEBUSY, X-…)."""
    names = (value for name, _, value in component.properties if name in ("TZID", "UID"))
    return {
        "type": component.name,
        "name": next(names, None),
        "content": _to_json(_document(component)),
        "calendar": calendar,
    }


def _name_of(calendar: _Component) -> str | None:
    """Give the calendar's name."""
    for name, _, value in calendar.properties:
        if _CALENDAR_PROPERTIES.get(name) == "name":
            return _unescape(value)
    return None


def _properties(kept: list[Property], components: list[Any]) -> str | None:
    """Give what has no column, as JSON: each property's values, and components within."""
    found: dict[str, list[Any]] = {}
    for name, parameters, value in kept:
        found.setdefault(name, []).append(_with_parameters(value, parameters))
    document: dict[str, Any] = dict(found)
    if components:
        document["components"] = components
    return _to_json(document) if document else None


def _document(component: _Component) -> dict[str, Any]:
    """Give a component as JSON can hold it; values stay as they are written."""
    document: dict[str, Any] = {"type": component.name}
    for name, parameters, value in component.properties:
        document.setdefault(name, []).append(_with_parameters(value, parameters))
    if component.components:
        document["components"] = [_document(each) for each in component.components]
    return document


def _with_parameters(value: str, parameters: dict[str, Any]) -> Any:
    """Give a value as it is, or with its parameters if it has any."""
    return {"value": value, **parameters} if parameters else value


def _fits(name: str, parameters: dict[str, Any], row: dict[str, Any]) -> bool:
    """Say whether a time needs no time zone but the row's."""
    zone = _zone(parameters)
    return zone is None or name in ("DTSTART", "DUE") or zone == row.get("timezone")


def _zone(parameters: dict[str, Any]) -> str | None:
    zone = parameters.get("TZID")
    return zone if isinstance(zone, str) else None


def _iso(value: str) -> str | None:
    """Write a date or a time as ISO 8601 does; None if it is neither."""
    match = _TIME.fullmatch(value)
    if match is None:
        return None
    year, month, day, hour, minute, second, utc = match.groups()
    date = f"{year}-{month}-{day}"
    return date if hour is None else f"{date}T{hour}:{minute}:{second}{utc}"


def _address(value: str) -> str:
    """Give an e-mail address without its scheme."""
    return value[7:] if value.lower().startswith("mailto:") else value


def _unescape(value: str) -> str:
    r"""Give a text without its escapes. Source: RFC 5545, 3.3.11: ``\\ \; \, \n \N``."""
    return _ESCAPED.sub(lambda match: "\n" if match[1] in "nN" else match[1], value)


def _broken(detail: str, line: int) -> Refusal:
    return Refusal("invalid-file", f"the calendar is broken: {detail}", line=line)


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
