"""The OpenAPI document, made of what handlers declare.

Source: spec.openapis.org/oas/v3.1.0.html.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aiohttp import hdrs, web

from headrace import __version__, documents
from headrace.errors import PROBLEM, REFUSALS
from headrace.generation import Cut, Entry, Source
from headrace.json_schema import prose_of, schemas_of
from headrace.operation import Place, Who, find_operation
from headrace.reader_operations import READER
from headrace.receipt import Progress, Receipt, TableOutcome
from headrace.tokens import SESSION_COOKIE
from ingest import documents as of_primary
from ingest.audit_rows import AuditRow
from ingest.schedules import Schedule
from ingest.token_store import Token
from ingest.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from headrace.operation import Answer, Operation, Parameter

_VERSION = "3.1.0"
_SCHEMAS = "#/components/schemas/"
_PIECE = re.compile(r"\{(\w+)(?::[^{}]*)?\}")
_TEXTS = frozenset({"text/csv", "text/html"})
_NO_BODY = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_DELETE, hdrs.METH_OPTIONS})

# Whose docstrings say what the members of a document mean.
_DESCRIBED_BY: dict[type, type] = {
    documents.Receipt: Receipt,
    documents.Progress: Progress,
    documents.TableOutcome: TableOutcome,
    of_primary.Cut: Cut,
    of_primary.CutSource: Source,
    of_primary.Generation: Entry,
    of_primary.Schedule: Schedule,
    of_primary.Token: Token,
    of_primary.NewToken: Token,
    of_primary.AuditEntry: AuditRow,
    of_primary.Session: Writer,
}
_KNOWN = ("unauthorized",)
_KEPT = ("too-many-requests", "stopping", "lease-lapsed", "replication-down")
_REFUSED: dict[Who, tuple[str, ...]] = {
    Who.ANYBODY: (),
    Who.KNOWN: _KNOWN,
    Who.WRITER: (*_KNOWN, "cross-site", "forbidden", *_KEPT),
    Who.ROWS: (),
    Who.ADMIN_READER: (*_KNOWN, "forbidden"),
    Who.ADMIN: (*_KNOWN, "cross-site", "forbidden", *_KEPT),
}
_ANY_TIME = ("internal-error", "primary-away")
_ABOUT = """\
Carries files to Datasette: POST a file, and a moment later people read it, from the reader nearest
to them.

Every refusal is a problem document (RFC 9457) with a `code` for programs. Who asks for `text/html`,
as browsers do, gets a page that says the same. Every answer carries `Headrace-Generation`.
"""


def make_document(concerns: Iterable[ModuleType]) -> dict[str, Any]:
    """Make the document.

    Args:
        concerns: Modules that have ``routes``; each is a tag.
    """
    concerns = list(concerns)
    schemas = _Schemas()
    paths: dict[str, dict[str, Any]] = {}
    for concern in concerns:
        tag = _name(concern)
        for route in concern.routes:
            declared = find_operation(route.handler)
            if isinstance(route, web.RouteDef) and declared is not None:
                path = _PIECE.sub(r"{\1}", route.path)
                described = _describe(declared, route.method, path, schemas, route.handler.__doc__)
                paths.setdefault(path, {})[route.method.lower()] = {"tags": [tag], **described}
    for path, declared in READER.items():
        described = _describe(declared, hdrs.METH_GET, path, schemas, None)
        paths[path] = {"get": {"tags": ["reader"], **described}}
    tags = [{"name": _name(each), "description": prose_of(each.__doc__)} for each in concerns]
    return {
        "openapi": _VERSION,
        "info": {
            "title": "Headrace",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [*tags, {"name": "reader", "description": "What a reader says about itself."}],
        "paths": paths,
        "components": {
            "schemas": schemas.make(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIE},
            },
        },
    }


class _Schemas:
    """Collects the types that the document refers to."""

    def __init__(self) -> None:
        self._types: dict[type, None] = {documents.Problem: None}

    def refer(self, schema: Any) -> dict[str, Any]:
        """Give the schema of a type, of any of several, or the one that it is."""
        if isinstance(schema, tuple):
            return {"anyOf": [self.refer(each) for each in schema]}
        if isinstance(schema, type):
            self._types[schema] = None
            return {"$ref": f"{_SCHEMAS}{schema.__name__}"}
        return dict(schema)

    def make(self) -> dict[str, Any]:
        """Give the schemas by name."""
        _, named = schemas_of(self._types, _SCHEMAS, _DESCRIBED_BY)
        # As openapi-generator knows it.
        titles = [each.title for each in REFUSALS.values()]
        named["Problem"]["properties"]["code"] |= {
            "enum": list(REFUSALS),
            "x-enum-descriptions": titles,
        }
        return dict(sorted(named.items()))


def _describe(
    declared: Operation, method: str, path: str, schemas: _Schemas, docstring: str | None
) -> dict[str, Any]:
    """Describe one operation."""
    summary, _, more = prose_of(declared.about or docstring).partition("\n\n")
    described: dict[str, Any] = {
        "operationId": _operation_id(method, path),
        "summary": _plain(summary).rstrip("."),
    }
    if more:
        described["description"] = _plain(more)
    pieces = set(_PIECE.findall(path))
    takes = [each for each in declared.takes if each.place is not Place.PATH or each.name in pieces]
    if takes:
        described["parameters"] = [_describe_parameter(each) for each in takes]
    if declared.bodies and method not in _NO_BODY:
        described["requestBody"] = {
            "required": declared.body_required,
            "content": {
                each.kind: {"schema": schemas.refer(each.schema)} for each in declared.bodies
            },
        }
    described["responses"] = _describe_answers(declared, method, schemas)
    if declared.who is not Who.ANYBODY:
        described["security"] = [{"bearer": []}, {"cookie": []}]
    return described


def _describe_parameter(parameter: Parameter) -> dict[str, Any]:
    described = {
        "name": parameter.name,
        "in": parameter.place.value,
        "description": _plain(parameter.what),
        "required": parameter.required,
        "schema": dict(parameter.schema),
    }
    if parameter.example is not None:
        described["example"] = parameter.example
    return described


def _describe_answers(declared: Operation, method: str, schemas: _Schemas) -> dict[str, Any]:
    answers = {
        status: _describe_answer(answer, schemas) for status, answer in declared.answers.items()
    }
    by_status: dict[int, list[str]] = {}
    for code in _refused(declared):
        by_status.setdefault(int(REFUSALS[code].status), []).append(code)
    for status, codes in by_status.items():
        answers[status] = {
            "description": ", ".join(f"`{code}`: {REFUSALS[code].title}" for code in codes),
            "content": {} if method == hdrs.METH_HEAD else {PROBLEM: {"schema": _problem(codes)}},
        }
    return {str(status): answers[status] for status in sorted(answers)}


def _describe_answer(answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {"description": _plain(answer.what)}
    if answer.headers:
        described["headers"] = {
            name: {"description": what, "schema": {"type": "string"}}
            for name, what in answer.headers.items()
        }
    if answer.schema is not None:
        described["content"] = {
            kind: {"schema": {"type": "string"} if kind in _TEXTS else schemas.refer(answer.schema)}
            for kind in answer.kinds
        }
    return described


def _problem(codes: list[str]) -> dict[str, Any]:
    narrowed = {"properties": {"code": {"enum": codes}}}
    return {"allOf": [{"$ref": f"{_SCHEMAS}Problem"}, narrowed]}


def _refused(declared: Operation) -> tuple[str, ...]:
    """Give the codes of what an operation can be refused for, each once."""
    codes = [*declared.refuses, *_REFUSED[declared.who]]
    if declared.checked:
        codes.append("invalid-option")
    if declared.about is None and declared.who is not Who.ROWS:  # the primary answers it
        codes += _ANY_TIME
    return tuple(dict.fromkeys(codes))


def _operation_id(method: str, path: str) -> str:
    """Name an operation by its method and path, without what most paths have in common."""
    first, *words = re.findall(r"\w+", path)
    if first != "ingest" or not words:
        words.insert(0, first)
    return "_".join([method.lower(), *words])


def _name(concern: ModuleType) -> str:
    return concern.__name__.rpartition(".")[2]


def _plain(text: str) -> str:
    """Give reStructuredText's code marks as Markdown has them."""
    return text.replace("``", "`")
