"""The OpenAPI document, and what it is made of."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, cast

import pytest
from aiohttp import hdrs
from multidict import MultiDict
from openapi_spec_validator import OpenAPIV31SpecValidator

from headrace.errors import REFUSALS, Refusal
from headrace.operation import Operation, Parameter, choice, flag, number
from headrace.options import FIELDS
from ingest.api import bundles, make_app, readers
from ingest.api.description import describe
from ingest.audit_rows import COLUMNS
from ingest.documents import AuditEntry, Token

if TYPE_CHECKING:
    from ingest.api import Node

# Said by readers about Datasette's pages alone.
NOT_OF_OPERATIONS = {"not-there-yet", "too-stale"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Give the document."""
    made: dict[str, Any] = json.loads(describe().body)
    return made


def test_document_is_valid_openapi(document: dict[str, Any]) -> None:
    """The document is what OpenAPI 3.1 says, and every reference leads somewhere."""
    assert document["openapi"] == "3.1.0"
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []
    text = json.dumps(document)
    named = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert named == document["components"]["schemas"].keys()


def test_every_route_is_in_the_document(document: dict[str, Any]) -> None:
    """Whatever the primary answers, besides what its readers alone may ask, is declared."""
    app = make_app(cast("Node", None))
    private = {
        (each.method, each.path) for concern in (readers, bundles) for each in concern.routes
    }
    answered = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource and not (route.method == hdrs.METH_HEAD and _is_of_get(route.handler))
    } - private
    described = {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method, said in methods.items()
        if said["tags"] != ["reader"]
    }
    assert described == answered


def _is_of_get(handler: object) -> bool:
    """Tell a HEAD that a GET brings with it from one that is declared."""
    return "head" not in getattr(handler, "__name__", "")


def test_every_code_is_of_an_operation(document: dict[str, Any]) -> None:
    """Each code of a problem is named by an operation that may answer it, by its status."""
    said = {}
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                for code in re.findall("`([a-z-]+)`: ", answer["description"]):
                    said[code] = int(status)
    known = {code: int(each.status) for code, each in REFUSALS.items()}
    assert said == {code: known[code] for code in known.keys() - NOT_OF_OPERATIONS}


def test_every_operation_says_what_it_is_for(document: dict[str, Any]) -> None:
    """Operations, parameters and members of documents have a sentence each, and no other marks."""
    for path, methods in document["paths"].items():
        for operation in methods.values():
            texts = [
                operation["summary"],
                *(p["description"] for p in operation.get("parameters", [])),
            ]
            assert all(text and "``" not in text for text in texts), path
    for name, schema in document["components"]["schemas"].items():
        members = schema["properties"].items()
        silent = [member for member, said in members if not said.get("description")]
        assert not silent, f"{name}: {silent}"
        assert schema["description"], name


def test_options_of_an_upload_are_those_that_are_read(document: dict[str, Any]) -> None:
    """The document names every option that an upload takes, as query parameter and form field."""
    upload = document["paths"]["/ingest"]["post"]
    query = {each["name"] for each in upload["parameters"] if each["in"] == "query"}
    form = upload["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert query == FIELDS
    assert form.keys() == FIELDS | {"file"}


def test_rows_of_the_audit_log_have_the_declared_members() -> None:
    """What SQL names and what is declared are the same columns, in the same order."""
    assert tuple(AuditEntry.__annotations__) == COLUMNS


def test_token_has_no_hash() -> None:
    """What is shown of a token is declared without anything of its text."""
    assert "sha256" not in Token.__annotations__


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("wait=61", "wait='61' cannot be used: it is a number from 0 to 60"),
        ("wait=-1", "wait='-1' cannot be used: it is a number from 0 to 60"),
        ("wait=1.5", "wait='1.5' cannot be used: it is a number from 0 to 60"),
        ("wait=", "wait='' cannot be used: it is a number from 0 to 60"),
        ("wait=٣", "wait='٣' cannot be used: it is a number from 0 to 60"),
        ("for=ever", "for='ever' cannot be used: it is one of change, published"),
        ("dry_run=yes", "dry_run='yes' cannot be used: it is one of 0, 1"),
        ("dryrun=1", "the option 'dryrun' is not known: there are before, dry_run, for, wait"),
        ("wait=1&wait=2", "wait is given more than once"),
        ("before=x", "before='x' cannot be used: it is the id of a thing"),
        ("before=0f\n", "before='0f\\n' cannot be used: it is the id of a thing"),
    ],
)
def test_query_that_is_not_as_declared_is_refused(query: str, detail: str) -> None:
    """A parameter that is not declared, or has another value, is named in one sentence."""
    with pytest.raises(Refusal) as caught:
        _declared().check_query(_query(query))
    assert (caught.value.code, caught.value.detail) == ("invalid-option", detail)


@pytest.mark.parametrize("query", ["", "wait=0", "wait=60&for=published", "dry_run=1", "before=0f"])
def test_query_that_is_as_declared_is_taken(query: str) -> None:
    """What is declared passes."""
    _declared().check_query(_query(query))


def _query(text: str) -> MultiDict[str]:
    pairs = (part.partition("=") for part in text.split("&") if part)
    return MultiDict((name, value) for name, _, value in pairs)


def _declared() -> Operation:
    return Operation(
        takes=(
            number("wait", "Seconds.", low=0, high=60),
            choice("for", "What.", ("change", "published")),
            flag("dry_run", "Do nothing."),
            Parameter(name="before", what="The id of a thing.", schema={"pattern": "^[0-9a-f]+$"}),
        ),
        answers={},
    )
