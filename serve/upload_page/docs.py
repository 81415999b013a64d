"""The OpenAPI document, as a page shows it: what is said often is said once."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from headrace.errors import PROBLEM

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

EVERYWHERE = ("internal-error", "primary-away")  # said once
_HOST = "https://data.example.org"
_FORM = "multipart/form-data"
_JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer.

    Attributes:
        status: Its status.
        what: What it says.
        kinds: Media types that it comes in.
        schemas: Names of the documents that it may be.
    """

    status: str
    what: str
    kinds: tuple[str, ...]
    schemas: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One operation.

    Attributes:
        method: GET, POST, …
        path: Its path.
        said: What the document says.
        replies: Answers that are no problems.
        problems: Codes by status.
        bodies: Names of what it may carry, by media type; ``""`` for bytes and forms.
        needs_token: Whether somebody has to say who he is.
        curl: A command that asks for it.
        parameters: What it takes, besides the options of an upload.
        takes_options: Whether it takes these.
    """

    method: str
    path: str
    said: Mapping[str, Any]
    replies: tuple[Reply, ...]
    problems: Mapping[str, tuple[str, ...]]
    bodies: Mapping[str, str]
    needs_token: bool
    curl: str
    parameters: tuple[Mapping[str, Any], ...]
    takes_options: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member of a document.

    Attributes:
        name: Its name.
        kind: Its type, in words.
        what: What it means.
        always: Whether it is always there.
    """

    name: str
    kind: str
    what: str
    always: bool


def describe(document: Mapping[str, Any]) -> dict[str, Any]:
    """Give what the template shows."""
    options = _options(document)
    shown: dict[str, list[Shown]] = {each["name"]: [] for each in document["tags"]}
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            each = _show(method.upper(), path, said, document, options)
            shown[said["tags"][0]].append(each)
    schemas = document["components"]["schemas"]
    return {
        "about": document["info"]["description"].strip().split("\n\n"),
        "version": document["info"]["version"],
        "options": options,
        "everywhere": EVERYWHERE,
        "problems": _problems(document),
        "groups": [(tag, shown[tag["name"]]) for tag in document["tags"] if shown[tag["name"]]],
        "schemas": {name: (schema, _members(schema)) for name, schema in schemas.items()},
    }


def _show(
    method: str,
    path: str,
    said: Mapping[str, Any],
    document: Mapping[str, Any],
    options: Collection[Mapping[str, Any]],
) -> Shown:
    content = said.get("requestBody", {}).get("content", {})
    parameters = said.get("parameters", [])
    problems = {
        status: tuple(code for code in _codes(each) if code not in EVERYWHERE)
        for status, each in said["responses"].items()
    }
    return Shown(
        method=method,
        path=path,
        said=said,
        replies=tuple(_replies(said["responses"])),
        problems={status: codes for status, codes in problems.items() if codes},
        bodies={kind: _name(each["schema"]) for kind, each in content.items()},
        needs_token=bool(said.get("security")),
        curl=_curl(method, path, said, document),
        parameters=tuple(each for each in parameters if each not in options),
        takes_options=any(each in options for each in parameters),
    )


def _replies(responses: Mapping[str, Any]) -> Iterator[Reply]:
    for status, each in responses.items():
        if not _codes(each) and status < "400":
            content = each.get("content", {})
            names = [name for kind in content.values() for name in _names(kind["schema"])]
            yield Reply(
                status=status,
                what=each["description"],
                kinds=tuple(content),
                schemas=tuple(dict.fromkeys(names)),
            )


def _codes(response: Mapping[str, Any]) -> tuple[str, ...]:
    schema = response.get("content", {}).get(PROBLEM, {}).get("schema", {})
    return tuple(
        code
        for part in schema.get("allOf", [])
        for code in part.get("properties", {}).get("code", {}).get("enum", [])
    )


def _options(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Give the options of an upload, which several operations take."""
    upload = document["paths"]["/ingest"]["post"]
    return [each for each in upload["parameters"] if each["in"] == "query"]


def _problems(document: Mapping[str, Any]) -> list[dict[str, str]]:
    """List the codes that some operation may answer, each with its status."""
    code = document["components"]["schemas"]["Problem"]["properties"]["code"]
    titles = dict(zip(code["enum"], code["x-enum-descriptions"], strict=True))
    statuses = {
        code: status
        for methods in document["paths"].values()
        for said in methods.values()
        for status, each in said["responses"].items()
        for code in _codes(each)
    }
    found = [{"code": code, "status": statuses[code], "title": titles[code]} for code in statuses]
    return sorted(found, key=lambda each: (each["status"], each["code"]))


def _members(schema: Mapping[str, Any]) -> list[Member]:
    required = schema.get("required", [])
    return [
        Member(
            name=name,
            kind=kind_of(member),
            what=member.get("description", ""),
            always=name in required,
        )
        for name, member in schema.get("properties", {}).items()
    ]


def code_marks(text: str) -> Markup:
    """Give a sentence in which what stands between backticks is code."""
    pieces = text.split("`")
    return Markup().join(
        Markup("<code>{}</code>").format(piece) if at % 2 else escape(piece)
        for at, piece in enumerate(pieces)
    )


def kind_of(schema: Mapping[str, Any]) -> str:
    """Say in words what a value is."""
    if "anyOf" in schema:
        return " or ".join(kind_of(each) for each in schema["anyOf"])
    if "x-enum-descriptions" in schema:
        return "one of the problems"
    if "enum" in schema or "const" in schema:
        return ", ".join(map(str, schema.get("enum", [schema.get("const")])))
    return _name(schema) or _type_of(schema)


def _type_of(schema: Mapping[str, Any]) -> str:
    kind = str(schema.get("type", "string" if "pattern" in schema else "any"))
    if kind == "array":
        return f"list of {kind_of(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {kind_of(schema['additionalProperties'])}"
    if "minimum" in schema and "maximum" in schema:
        return f"{kind}, {schema['minimum']} to {schema['maximum']}"
    return {"date-time": "time", "binary": "bytes"}.get(schema.get("format", ""), kind)


def _name(schema: Mapping[str, Any]) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _names(schema: Mapping[str, Any]) -> list[str]:
    return [name for each in schema.get("anyOf", [schema]) if (name := _name(each))]


def _curl(method: str, path: str, said: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """Give a command that asks for something; it holds no quote that a shell would see."""
    words = ["curl"]
    if method == "HEAD":
        words.append("--head")
    elif method != "GET" and not (method == "POST" and said.get("requestBody")):
        words += ["-X", method]
    if said.get("security"):
        words += ["-H", '"Authorization: Bearer $TOKEN"']
    query = ""
    for each in said.get("parameters", []):
        value = str(each.get("example", ""))
        if each["in"] == "path":
            path = path.replace(f"{{{each['name']}}}", value)
        elif each["in"] == "header" and each["required"]:
            words += ["-H", shlex.quote(f"{each['name']}: {value}")]
    content = said.get("requestBody", {}).get("content", {})
    if _FORM in content:
        words += ["-F", "file=@orders.csv"]
    elif _JSON in content:
        example = _example(_name(content[_JSON]["schema"]), document)
        words += ["--json", shlex.quote(json.dumps(example))]
    elif content:
        kind = next(iter(content))
        words += ["-H", shlex.quote(f"Content-Type: {kind}"), "--data-binary", "@orders.csv"]
        query = (
            "?filename=orders.csv"
            if any(p["name"] == "filename" for p in said["parameters"])
            else ""
        )
    return " ".join([*words, shlex.quote(f"{_HOST}{path}{query}")])


def _example(name: str, document: Mapping[str, Any]) -> dict[str, Any]:
    schema = document["components"]["schemas"].get(name, {})
    required = schema.get("required", [])
    return {
        member: ["…"] if said.get("type") == "array" else "…"
        for member, said in schema.get("properties", {}).items()
        if member in required
    }
