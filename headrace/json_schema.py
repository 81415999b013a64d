"""JSON Schema of the types in which documents are declared.

msgspec knows types; what their members mean is said by docstrings, which it does not read.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, get_type_hints

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n {8,}.*)*)", re.MULTILINE)
_SECTION = re.compile(r"^(?:Args|Attributes|Returns|Raises|Source):", re.MULTILINE)
TIME = {"format": "date-time"}
SHA256 = {"pattern": "^[0-9a-f]{64}$"}


def schemas_of(
    types: Iterable[type], prefix: str, described_by: Mapping[type, type]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Give the schemas of types, and those that they refer to, by name.

    Args:
        types: TypedDicts, and what can be made of them.
        prefix: Where the named ones will stand: ``#/components/schemas/``.
        described_by: Records whose docstrings say what the members of a type mean.
    """
    import msgspec  # noqa: PLC0415 - only when somebody asks

    types = list(types)
    found, named = msgspec.json.schema_components(types, ref_template=f"{prefix}{{name}}")
    for each in _with_parts(types):
        schema = named.get(each.__name__)
        if schema is not None:
            _describe(schema, each, described_by)
    return list(found), named


def prose_of(docstring: str | None) -> str:
    """Give what a docstring says before its sections, one paragraph a line."""
    text = inspect.cleandoc(docstring or "")
    before = _SECTION.split(text, maxsplit=1)[0].strip()
    return "\n\n".join(" ".join(each.split()) for each in before.split("\n\n"))


def attributes_of(*types: type) -> dict[str, str]:
    """Give what docstrings say of attributes; the last one that says something counts."""
    said: dict[str, str] = {}
    for each in types:
        text = inspect.cleandoc(each.__doc__ or "").partition("Attributes:")[2]
        said |= {name: " ".join(what.split()) for name, what in _ATTRIBUTE.findall(text)}
    return said


def _describe(schema: dict[str, Any], kind: type, described_by: Mapping[type, type]) -> None:
    schema["description"] = prose_of(kind.__doc__)
    said = attributes_of(*(described_by[kind],) if kind in described_by else (), kind)
    properties = schema.get("properties", {})
    # In the order of the declaration: msgspec sorts them.
    schema["properties"] = {
        name: properties[name] for name in get_type_hints(kind) if name in properties
    }
    for name, member in properties.items():
        for suffix, more in (("_at", TIME), ("sha256", SHA256)):
            if name.endswith(suffix):
                _narrow(member, more)
        if name in said:
            member["description"] = said[name].replace("``", "`").replace("None", "null")


def _narrow(member: dict[str, Any], more: Mapping[str, str]) -> None:
    """Say more of the text that a member is, where it may be null as well."""
    for each in member.get("anyOf", [member]):
        if each.get("type") == "string":
            each.update(more)


def _with_parts(types: Iterable[Any]) -> list[type]:
    """Give TypedDicts, and those that their members hold."""
    found: dict[type, None] = {}
    waiting = list(types)
    while waiting:
        each = waiting.pop()
        waiting += getattr(each, "__args__", ())
        if isinstance(each, type) and hasattr(each, "__required_keys__") and each not in found:
            found[each] = None
            waiting += get_type_hints(each).values()
    return list(found)
