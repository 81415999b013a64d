"""The interface, as the OpenAPI document describes it: every path, and every document."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from docs.made.table import code
from headrace.options import FIELDS
from ingest.api import PUBLIC
from ingest.openapi import make_document

if TYPE_CHECKING:
    from collections.abc import Iterator

PROBLEM = "Problem"
ANY_TIME = frozenset({"internal-error", "primary-away"})  # said once, on the page
_BY_PROBLEMS = 400  # statuses from here on are answered by problems
_OF_AN_UPLOAD = "The [options of an upload](http.md#post-ingest)"
_REFERENCE = "#/components/schemas/"
_HOLDERS = {"array": "list", "object": "object"}
_SCALARS = {
    "array": "list",
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "true or false",
}


def paths() -> str:
    """Give a section for each concern, and in it one for each operation."""
    document = _document()
    sections: list[str] = []
    for tag in document["tags"]:
        sections += [f"## {_title(tag['name'])}", _plain(tag["description"])]
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if tag["name"] in operation["tags"]:
                    sections += [f"### `{method.upper()} {path}`", *_describe(operation)]
    return "\n" + "\n\n".join(sections) + "\n"


def documents() -> str:
    """Give a section for each kind of document, with its members."""
    sections: list[str] = []
    for name, schema in _document()["components"]["schemas"].items():
        sections += [f"## {name}", _plain(schema["description"])]
        members = (
            f"- `{each}` ({_type(said)}): {said.get('description', '')}".removesuffix(": ")
            for each, said in schema["properties"].items()
        )
        sections += ["\n".join(members)] if schema["properties"] else []
    return "\n" + "\n\n".join(sections) + "\n"


@cache
def _document() -> dict[str, Any]:
    return make_document(PUBLIC)


def _describe(operation: dict[str, Any]) -> Iterator[str]:
    """Give the paragraphs of one operation."""
    needed = " Needs a token, or a cookie." if "security" in operation else ""
    yield f"{operation['summary']}.{needed}"
    if "description" in operation:
        yield operation["description"]
    yield "\n".join([*_takes(operation), *_bodies(operation), *_answers(operation)])
    if refused := _refused(operation):
        yield f"Refused with {refused}."


def _takes(operation: dict[str, Any]) -> Iterator[str]:
    """Give the parameters; the options of an upload, which several have, as one."""
    parameters = operation.get("parameters", [])
    upload = [each for each in parameters if each["name"] in FIELDS and each["in"] == "query"]
    shared = len(upload) == len(FIELDS)
    if shared:
        yield f"- {_OF_AN_UPLOAD} (query)"
    for each in parameters:
        if not (shared and each in upload):
            needed = ", needed" if each["required"] and each["in"] != "path" else ""
            yield f"- `{each['name']}` ({each['in']}{needed}): {each['description']}"


def _bodies(operation: dict[str, Any]) -> Iterator[str]:
    kinds: dict[str, list[str]] = {}
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        kinds.setdefault(_kind(content["schema"]), []).append(kind)
    for document, known in kinds.items():
        yield f"- Body: {document} as {code(*known)}" if document else f"- Body: {code(*known)}"


def _answers(operation: dict[str, Any]) -> Iterator[str]:
    for status, answer in operation["responses"].items():
        if int(status) < _BY_PROBLEMS:
            kinds = {_kind(each["schema"]): None for each in answer.get("content", {}).values()}
            named = " or ".join(filter(None, kinds))
            yield f"- Answers `{status}`{' ' if named else ''}{named}: {answer['description']}"


def _refused(operation: dict[str, Any]) -> str:
    """List the codes of problems, by status."""
    listed = []
    for status, answer in operation["responses"].items():
        for content in answer.get("content", {}).values():
            narrowed = content["schema"].get("allOf", [{}])[-1].get("properties", {})
            codes = narrowed.get("code", {}).get("enum", [])
            if narrower := [each for each in codes if each not in ANY_TIME]:
                listed.append(f"{status} {code(*narrower)}")
    return "; ".join(listed)


def _kind(schema: dict[str, Any]) -> str:
    """Name what is sent: a document of a name, or something without one."""
    named = [
        _link(each, "documents.md") for each in schema.get("anyOf", [schema]) if "$ref" in each
    ]
    return " or ".join(named)


def _type(schema: dict[str, Any]) -> str:
    """Name the type of a member."""
    if "$ref" in schema:
        return _link(schema, "")
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if choices := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return "a [code](errors.md)" if choices == _codes() else code(*map(str, choices))
    return _of_kind(schema, schema.get("type", "anything"))


def _of_kind(schema: dict[str, Any], kind: str) -> str:
    inner = schema.get("items") or schema.get("additionalProperties")
    if isinstance(inner, dict) and kind in _HOLDERS:
        return f"{_HOLDERS[kind]} of {_type(inner)}"
    return "time" if schema.get("format") == "date-time" else _SCALARS.get(kind, kind)


def _codes() -> list[str]:
    codes: list[str] = _document()["components"]["schemas"][PROBLEM]["properties"]["code"]["enum"]
    return codes


def _link(schema: dict[str, Any], page: str) -> str:
    name = schema["$ref"].removeprefix(_REFERENCE)
    return f"[{name}]({page}#{name.lower()})"


def _title(tag: str) -> str:
    return tag.replace("_", " ").capitalize()


def _plain(text: str) -> str:
    return text.replace("``", "`")
