"""What is said about a database: title, licence, columns, canned queries; checked and patched.

The keys are those of Datasette 0.65's metadata for a database and its tables. Whoever may upload
may say these things, and readers show them to everybody. So what would be HTML, code, a right or a
setting of the server is refused: those are for the operator's own metadata file.

Source: https://docs.datasette.io/en/0.65.1/metadata.html, and datasette 0.65.5, ``views/table.py``,
``views/database.py``, ``facets.py``.
"""

from __future__ import annotations

import difflib
import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from headrace.errors import Refusal
from headrace.names import MAX_COLUMN_NAME, MAX_TABLE_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Check = Callable[[Any, str], None]

MAX_BYTES = 64 * 1024  # of all that is said about one database, as JSON
MAX_LINE = 500  # characters of a title, a licence and the like
MAX_TEXT = 20_000  # characters of a description
MAX_URL = 2000  # characters
MAX_SQL = 20_000  # characters
MAX_ITEMS = 2000  # columns, tables or queries
MAX_PAGE = 1000  # rows; Datasette's max_returned_rows: a larger size is an error on the page
FACETS = ("column", "array", "date")

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
# Datasette has pint calculate what stands there, so it is words and small powers only.
_UNIT_WORD = r"[^\W\d_][^\W\d]*(?:\s?(?:\^|\*\*)\s?-?\d)?|%"
_UNIT = re.compile(rf"(?:{_UNIT_WORD})(?:(?:\s?[*/]\s?|\s)(?:{_UNIT_WORD}))*")
_HTML = "HTML would run in the browsers of all who read it: write it as text, in `description`"
_RIGHTS = "who may read what is decided by the operator's own metadata file"
_SETTINGS = "it configures the server: it belongs into the operator's own metadata file"
_WRITES = "readers serve copies that nobody can write to"
_REFUSED = {
    "description_html": _HTML,
    "allow": _RIGHTS,
    "allow_sql": _RIGHTS,
    "permissions": _RIGHTS,
    "plugins": _SETTINGS,
    "extra_css_urls": _SETTINGS,
    "extra_js_urls": _SETTINGS,
    "custom_units": _SETTINGS,
    "template": _SETTINGS,
    "write": _WRITES,
    "on_success_message": _WRITES,
    "on_success_redirect": _WRITES,
    "on_error_message": _WRITES,
    "on_error_redirect": _WRITES,
}


def check_metadata(document: Any) -> dict[str, Any]:
    """Give what is said about a database if Datasette can show all of it; it is not changed.

    Args:
        document: The section of one database, as it would stand in ``metadata.json``.

    Raises:
        Refusal: ``invalid-metadata``; ``pointer`` says where (RFC 6901).
    """
    _check_object(document, "", keys=_DATABASE)
    checked: dict[str, Any] = document
    size_bytes = len(encode_metadata(checked))
    if size_bytes > MAX_BYTES:
        raise refuse("", f"it is {size_bytes:,} bytes as JSON, and may be {MAX_BYTES:,}")
    return checked


def patch_metadata(target: Any, patch: Any) -> Any:
    """Give what a JSON Merge Patch makes of a document; neither is changed.

    Source: RFC 7396, section 2.
    """
    if not isinstance(patch, dict):
        return patch
    patched = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            patched.pop(name, None)
        else:
            patched[name] = patch_metadata(patched.get(name), value)
    return patched


def without_table(metadata: Mapping[str, Any], table: str) -> dict[str, Any]:
    """Give what is left to say when a table is gone."""
    tables = {name: said for name, said in metadata.get("tables", {}).items() if name != table}
    rest = {name: value for name, value in metadata.items() if name != "tables"}
    return {**rest, "tables": tables} if tables else rest


def changed_keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Name what differs between two: keys, and of tables and queries each by its name."""
    found = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if key in {"tables", "queries"}:
            olds, news = old or {}, new or {}
            names = sorted({*olds, *news})
            found += [f"{key}/{name}" for name in names if olds.get(name) != news.get(name)]
        else:
            found.append(key)
    return found


def encode_metadata(metadata: Mapping[str, Any]) -> bytes:
    """Give the JSON."""
    return json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode()


def refuse(pointer: str, why: str, *, hint: str | None = None) -> Refusal:
    """Give the refusal of what stands at a place."""
    where = pointer or "the whole of it"
    detail = f"the metadata cannot be used: {where}: {why}"
    return Refusal("invalid-metadata", detail, hint=hint, extra={"pointer": pointer})


def point(pointer: str, name: str | int) -> str:
    """Give the JSON pointer of a member (RFC 6901, section 3)."""
    return f"{pointer}/{str(name).replace('~', '~0').replace('/', '~1')}"


def _check_object(value: Any, pointer: str, *, keys: Mapping[str, Check]) -> None:
    """Refuse what is no object of these keys."""
    if not isinstance(value, dict):
        raise refuse(pointer, "it is no object")
    for name, member in value.items():
        check = keys.get(name)
        if check is None:
            raise _unknown(point(pointer, name), str(name), keys)
        check(member, point(pointer, name))
    if "sort" in value and "sort_desc" in value:
        raise refuse(point(pointer, "sort_desc"), "a table is sorted by one of sort and sort_desc")


def _unknown(pointer: str, name: str, keys: Mapping[str, Check]) -> Refusal:
    if name in _REFUSED:
        return refuse(pointer, f"{name!r} is not taken", hint=_REFUSED[name])
    near = difflib.get_close_matches(name, keys, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(keys)}"
    return refuse(pointer, f"{name[:100]!r} is not known", hint=hint)


def _check_map(
    value: Any, pointer: str, *, check: Check, check_name: Check, of_lines: int = MAX_ITEMS
) -> None:
    """Refuse what is no object of names that are free to choose."""
    if not isinstance(value, dict):
        raise refuse(pointer, "it is no object")
    if len(value) > of_lines:
        raise refuse(pointer, f"it has more than {of_lines:,} members")
    for name, member in value.items():
        check_name(name, point(pointer, name))
        check(member, point(pointer, name))


def _check_text(value: Any, pointer: str, *, most: int) -> None:
    if not isinstance(value, str):
        raise refuse(pointer, "it is no text")
    if len(value) > most:
        raise refuse(pointer, f"it has {len(value):,} characters, and may have {most:,}")
    if _CONTROL.search(value):
        raise refuse(pointer, "it has control characters")


def _check_name(value: Any, pointer: str, *, most: int) -> None:
    _check_text(value, pointer, most=most)
    if not value.strip() or "\n" in value or "\r" in value:
        raise refuse(pointer, "it is no name")


def _check_url(value: Any, pointer: str) -> None:
    _check_text(value, pointer, most=MAX_URL)
    try:
        url = urlsplit(value)
        fits = url.scheme.lower() in {"http", "https"} and bool(url.hostname)
    except ValueError:
        fits = False
    if not fits or any(character.isspace() for character in value):
        raise refuse(pointer, "it is no URL that begins with http:// or https://")


def _check_flag(value: Any, pointer: str) -> None:
    if not isinstance(value, bool):
        raise refuse(pointer, "it is neither true nor false")


def _check_count(value: Any, pointer: str, *, most: int) -> None:
    if type(value) is not int or not 1 <= value <= most:
        raise refuse(pointer, f"it is no whole number from 1 to {most:,}")


def _check_list(value: Any, pointer: str, *, check: Check) -> None:
    if not isinstance(value, list):
        raise refuse(pointer, "it is no array")
    if len(value) > MAX_ITEMS:
        raise refuse(pointer, f"it has more than {MAX_ITEMS:,} items")
    for index, item in enumerate(value):
        check(item, point(pointer, index))


def _check_facet(value: Any, pointer: str) -> None:
    """Refuse what is neither a column nor an object of one kind of facet and a column."""
    if not isinstance(value, dict):
        _check_column(value, pointer)
        return
    if len(value) != 1 or not value.keys() <= set(FACETS):
        raise refuse(pointer, f"a facet is a column, or one of {', '.join(FACETS)} with a column")
    for kind, column in value.items():
        _check_column(column, point(pointer, kind))


def _check_unit(value: Any, pointer: str) -> None:
    _check_text(value, pointer, most=100)
    if not _UNIT.fullmatch(value):
        raise refuse(pointer, "it is no unit", hint="write it like m, km/h or kg*m^2")


def _check_query(value: Any, pointer: str) -> None:
    """Refuse what is neither SQL nor an object with it."""
    if isinstance(value, str):
        _check_sql(value, pointer)
        return
    _check_object(value, pointer, keys=_QUERY)
    if "sql" not in value:
        raise refuse(pointer, "it has no sql")


def _check_sql(value: Any, pointer: str) -> None:
    _check_text(value, pointer, most=MAX_SQL)
    if not value.strip():
        raise refuse(pointer, "it is empty")


_check_line = partial(_check_text, most=MAX_LINE)
_check_column = partial(_check_name, most=MAX_COLUMN_NAME)
_check_table_name = partial(_check_name, most=MAX_TABLE_NAME)
_ABOUT: dict[str, Check] = {
    "title": _check_line,
    "description": partial(_check_text, most=MAX_TEXT),
    "license": _check_line,
    "license_url": _check_url,
    "source": _check_line,
    "source_url": _check_url,
    "about": _check_line,
    "about_url": _check_url,
}
_TABLE: dict[str, Check] = {
    **_ABOUT,
    "columns": partial(
        _check_map, check=partial(_check_text, most=MAX_TEXT), check_name=_check_column
    ),
    "units": partial(_check_map, check=_check_unit, check_name=_check_column),
    "sort": _check_column,
    "sort_desc": _check_column,
    "sortable_columns": partial(_check_list, check=_check_column),
    "label_column": _check_column,
    "facets": partial(_check_list, check=_check_facet),
    "facet_size": partial(_check_count, most=MAX_PAGE),
    "size": partial(_check_count, most=MAX_PAGE),
    "hidden": _check_flag,
    "fts_table": _check_table_name,
    "fts_pk": _check_column,
}
_QUERY: dict[str, Check] = {
    "sql": _check_sql,
    "title": _check_line,
    "description": partial(_check_text, most=MAX_TEXT),
    "params": partial(_check_list, check=_check_column),
    "hide_sql": _check_flag,
    "fragment": _check_line,
}
_DATABASE: dict[str, Check] = {
    **_ABOUT,
    "tables": partial(
        _check_map, check=partial(_check_object, keys=_TABLE), check_name=_check_table_name
    ),
    "queries": partial(_check_map, check=_check_query, check_name=_check_table_name),
}
KNOWN_KEYS = _DATABASE.keys() | _REFUSED.keys()
