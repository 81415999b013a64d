"""What an uploader may ask about how a file is read and shaped; given as fields of the request."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from headrace.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TYPES = frozenset({"text", "integer", "real", "blob"})
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
# What an option can be. Of those that are no flags the first is the default.
CHOICES = {
    "on_bad_rows": ("fail", "quarantine"),
    "empty": ("auto", "null", "text"),
    "nested": ("json", "flatten"),
    "strict": (*_FALSE, *_TRUE),
    "header": (*_TRUE, *_FALSE),
}
# What is written. A value that begins with a bracket is JSON.
ABOUT = {
    "types": "Types of columns, `zip:text,price:real`: text, integer, real or blob.",
    "strict": "Make STRICT tables.",
    "encoding": "Of a text file, `cp1252` or another name that Python knows; found out.",
    "delimiter": "Of a delimited file: one character, or `tab`, `comma`, `semicolon`, `pipe`; "
    "found out.",
    "header": "Whether the first row names the columns; found out.",
    "on_bad_rows": "Fail the file, or keep its bad rows in `<table>_rejects`.",
    "empty": "What an empty field is: NULL in numeric columns and '' in text, NULL, or ''.",
    "nested": "Objects within records: kept as JSON, or made columns.",
    "pk": "Columns of the primary key, `id,day`.",
    "index": "Indexes to have, `zip,day+price`: a plus joins columns of one.",
    "fts": "Columns to search in, `title,body`.",
    "extract": "Columns to move to a table of their own, `city:cities,state`: after a colon that "
    "table's name.",
    "columns": "Columns to keep, in this order, `zip,price:cost`: after a colon their new names.",
}
READING = frozenset({"encoding", "delimiter", "header", "empty", "on_bad_rows", "nested"})
MAX_DELIMITER = 1  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How a file is read and shaped, where the uploader says so.

    Lists are written ``a,b``, pairs ``a:x,b:y``, an index over several columns ``a+b``. A value
    that begins with a bracket is JSON, for names that hold these characters.

    Attributes:
        types: Type of a column by its name, lower case: one of ``TYPES``.
        strict: Make STRICT tables.
        encoding: Of a text file, a name that Python knows; None: found out.
        delimiter: Of a delimited file, one character; None: found out.
        header: Whether a delimited file's first row names its columns; None: found out.
        on_bad_rows: ``fail`` the file, or ``quarantine`` them in ``<table>_rejects``.
        empty: What an empty field is: ``auto`` (NULL in numeric columns, '' in text), ``null``
            (NULL everywhere) or ``text`` ('' everywhere: a column with empty fields stays TEXT).
        nested: Objects within records: kept as ``json``, or made columns: ``flatten``.
        pk: Columns of the primary key.
        index: Indexes to have.
        fts: Columns to search in.
        extract: Columns to move to a table of their own, by name: the other table's name.
        columns: Columns to keep, in this order, by name: the name to have. Empty: all.
    """

    types: Mapping[str, str] = field(default_factory=dict)
    strict: bool = False
    encoding: str | None = None
    delimiter: str | None = None
    header: bool | None = None
    on_bad_rows: str = "fail"
    empty: str = "auto"
    nested: str = "json"
    pk: tuple[str, ...] = ()
    index: tuple[tuple[str, ...], ...] = ()
    fts: tuple[str, ...] = ()
    extract: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def reading(self) -> frozenset[str]:
        """The options about how a file is read (``READING``) that something is asked for by."""
        plain = Wishes()
        return frozenset(name for name in READING if getattr(self, name) != getattr(plain, name))

    def without(self, names: Iterable[str]) -> Wishes:
        """Give the same, but nothing asked for by these options."""
        plain = Wishes()
        return replace(self, **{name: getattr(plain, name) for name in names})

    def encode(self) -> dict[str, Any]:
        """Give the JSON form."""
        return asdict(self)

    @classmethod
    def decode(cls, document: Mapping[str, Any]) -> Wishes:
        """Read the JSON form."""
        values = dict(document)
        for name in ("pk", "fts"):
            values[name] = tuple(values.get(name, ()))
        values["index"] = tuple(tuple(columns) for columns in values.get("index", ()))
        return cls(**values)


WISHES = frozenset(each.name for each in fields(Wishes))


def read_wishes(values: Mapping[str, str]) -> Wishes:
    """Read the fields of a request that are wishes; others are left alone.

    Raises:
        Refusal: ``invalid-option``.
    """
    return Wishes(
        types=_read_types(values),
        strict=bool(_read_flag(values, "strict")),
        encoding=_read_encoding(values),
        delimiter=_read_delimiter(values),
        header=_read_flag(values, "header"),
        on_bad_rows=_read_choice(values, "on_bad_rows"),
        empty=_read_choice(values, "empty"),
        nested=_read_choice(values, "nested"),
        pk=tuple(_read_list(values, "pk")),
        index=tuple(tuple(_split(each, "+")) for each in _read_list(values, "index")),
        fts=tuple(_read_list(values, "fts")),
        extract=_read_pairs(values, "extract"),
        columns=_read_pairs(values, "columns"),
    )


def _read_types(values: Mapping[str, str]) -> dict[str, str]:
    types = {name: wanted.lower() for name, wanted in _read_pairs(values, "types").items()}
    for name, wanted in types.items():
        if wanted not in TYPES:
            known = ", ".join(sorted(TYPES))
            raise _refuse("types", f"{name}:{wanted}", f"a type is one of {known}")
    return types


def _read_flag(values: Mapping[str, str], name: str) -> bool | None:
    value = values.get(name)
    if value is None:
        return None
    if value.lower() in _TRUE + _FALSE:
        return value.lower() in _TRUE
    raise _refuse(name, value, "it is 1 or 0")


def _read_choice(values: Mapping[str, str], name: str) -> str:
    choices = CHOICES[name]
    value = values.get(name, choices[0])
    if value not in choices:
        raise _refuse(name, value, f"it is one of {', '.join(choices)}")
    return value


def _read_encoding(values: Mapping[str, str]) -> str | None:
    value = values.get("encoding")
    if value is None:
        return None
    try:
        "a".encode(value)  # an empty text would not even be looked at
    except (LookupError, ValueError):
        raise _refuse("encoding", value, "no such encoding is known") from None
    return value


def _read_delimiter(values: Mapping[str, str]) -> str | None:
    value = values.get("delimiter")
    if value is None:
        return None
    value = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}.get(
        value.lower(), value
    )
    if len(value) != MAX_DELIMITER or not value.isascii() or value in '"\r\n\0':
        raise _refuse("delimiter", value, "it is one ASCII character, no quote and no line end")
    return value


def _read_list(values: Mapping[str, str], name: str) -> list[str]:
    value = values.get(name, "")
    if not value.lstrip().startswith("["):
        return _split(value, ",")
    found = _read_json(name, value)
    if not all(isinstance(each, str) for each in found):
        raise _refuse(name, value, "it is a JSON array of strings")
    return list(found)


def _read_pairs(values: Mapping[str, str], name: str) -> dict[str, str]:
    value = values.get(name, "")
    if value.lstrip().startswith("{"):
        found = _read_json(name, value)
        if not all(isinstance(each, str) for each in found.values()):
            raise _refuse(name, value, "it is a JSON object of strings")
        return dict(found)
    pairs = (each.partition(":") for each in _read_list(values, name))
    return {left.strip(): right.strip() or left.strip() for left, _, right in pairs}


def _read_json(name: str, value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError as exc:
        raise _refuse(name, value, f"its JSON cannot be read: {exc}") from None


def _split(value: str, separator: str) -> list[str]:
    return [part.strip() for part in value.split(separator) if part.strip()]


def _refuse(name: str, value: str, why: str) -> Refusal:
    return Refusal("invalid-option", f"{name}={value[:100]!r} cannot be used: {why}")
