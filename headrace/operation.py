"""What a request may hold and how it is answered: said once, beside the handler that does it.

The declarations are what query parameters are checked against, and what the OpenAPI document is
made of (``ingest/openapi.py``). So the two cannot differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from multidict import MultiMapping


Handler = TypeVar("Handler", bound="Callable[..., Any]")

JSON = "application/json"
_ATTRIBUTE = "operation"  # of a handler
_NUMBER = re.compile("[0-9]{1,18}")
_SHOWN = 100  # characters of a value that was refused


class Place(StrEnum):
    """Where a parameter stands."""

    QUERY = "query"
    PATH = "path"
    HEADER = "header"


class Who(StrEnum):
    """Who is answered."""

    ANYBODY = "anybody"
    KNOWN = "known"  # by a token, or a cookie that one became
    WRITER = "writer"  # the same, while writes can be kept
    ADMIN_READER = "admin-reader"
    ADMIN = "admin"
    ROWS = "rows"  # a writer, who is refused in Datasette's words


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """Something that a request may say.

    Attributes:
        name: As it is sent.
        what: What it is, for people.
        schema: JSON Schema of its value.
        place: Where it stands.
        required: Whether it has to be said.
        example: A value that a person would send; None: what the schema says.
    """

    name: str
    what: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    place: Place = Place.QUERY
    required: bool = False
    example: Any = None

    def check(self, value: str) -> None:
        """Refuse a value that is none of the declared ones.

        Raises:
            Refusal: ``invalid-option``.
        """
        schema, why = self.schema, None
        if "enum" in schema and value not in schema["enum"]:
            why = f"it is one of {', '.join(schema['enum'])}"
        elif "pattern" in schema and not re.fullmatch(schema["pattern"], value):
            why = f"it is {self.what[0].lower()}{self.what[1:].rstrip('.')}"
        elif schema.get("type") == "integer":
            low, high = schema["minimum"], schema["maximum"]
            if not _NUMBER.fullmatch(value) or not low <= int(value) <= high:
                why = f"it is a number from {low} to {high}"
        if why is not None:
            shown = value[:_SHOWN]
            raise Refusal("invalid-option", f"{self.name}={shown!r} cannot be used: {why}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What a request may carry, in one media type.

    Attributes:
        kind: The media type.
        schema: JSON Schema, or a type that one is made of.
    """

    kind: str
    schema: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer that is no problem.

    Attributes:
        what: What it says, for people.
        schema: JSON Schema, or a type that one is made of; None: no body.
        kinds: Media types that it comes in.
        headers: What its headers say, by name.
    """

    what: str
    schema: Any = None
    kinds: tuple[str, ...] = (JSON,)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing that can be asked for.

    Attributes:
        takes: Its parameters.
        bodies: What it may carry.
        answers: By status.
        refuses: Codes of problems, besides those that ``who`` brings with it.
        who: Who is answered.
        checked: Whether query parameters are checked before the handler is asked; where not, the
            handler does it, so that what is refused has a receipt.
        body_required: Whether it has to carry something.
        about: What it is for; None: the docstring of its handler says that.
    """

    takes: tuple[Parameter, ...] = ()
    bodies: tuple[Body, ...] = ()
    answers: Mapping[int, Answer]
    refuses: tuple[str, ...] = ()
    who: Who = Who.ANYBODY
    checked: bool = True
    body_required: bool = True
    about: str | None = None

    def check_query(self, query: MultiMapping[str]) -> None:
        """Refuse query parameters that are not declared, or have other values.

        A misspelled ``dry_run`` must not delete.

        Raises:
            Refusal: ``invalid-option``.
        """
        known = {each.name: each for each in self.takes if each.place is Place.QUERY}
        for name in query:
            if name not in known:
                there = f"there are {', '.join(sorted(known))}" if known else "there is none"
                said = name[:_SHOWN]
                raise Refusal("invalid-option", f"the option {said!r} is not known: {there}")
            if len(query.getall(name)) > 1:
                raise Refusal("invalid-option", f"{name} is given more than once")
            known[name].check(query[name])


def operation(
    *takes: Parameter,
    answers: Mapping[int, Answer],
    bodies: tuple[Body, ...] = (),
    refuses: tuple[str, ...] = (),
    who: Who = Who.ANYBODY,
    checked: bool = True,
    body_required: bool = True,
) -> Callable[[Handler], Handler]:
    """Declare what a handler takes and answers; its docstring says what it is for."""
    declared = Operation(
        takes=takes,
        bodies=bodies,
        answers=answers,
        refuses=refuses,
        who=who,
        checked=checked,
        body_required=body_required,
    )

    def declare(handler: Handler) -> Handler:
        setattr(handler, _ATTRIBUTE, declared)
        return handler

    return declare


def find_operation(handler: object) -> Operation | None:
    """Give what a handler declares; None: nothing."""
    found: Operation | None = getattr(handler, _ATTRIBUTE, None)
    return found


def flag(name: str, what: str) -> Parameter:
    """Give a query parameter that is ``1`` or ``0``."""
    return Parameter(name=name, what=what, schema={"enum": ["0", "1"], "default": "0"})


def number(name: str, what: str, *, low: int, high: int, default: int | None = None) -> Parameter:
    """Give a query parameter that is a number in a range."""
    schema: dict[str, Any] = {"type": "integer", "minimum": low, "maximum": high}
    return Parameter(
        name=name, what=what, schema=schema if default is None else {**schema, "default": default}
    )


def choice(name: str, what: str, choices: tuple[str, ...]) -> Parameter:
    """Give a query parameter that is one of some words; the first is the default."""
    return Parameter(name=name, what=what, schema={"enum": list(choices), "default": choices[0]})


def header(
    name: str, what: str, *, required: bool = False, example: Any = None, **schema: Any
) -> Parameter:
    """Give a request header."""
    return Parameter(
        name=name,
        what=what,
        place=Place.HEADER,
        required=required,
        schema={"type": "string", **schema},
        example=example,
    )


def in_path(name: str, what: str, *, example: Any = None, **schema: Any) -> Parameter:
    """Give a piece of the path."""
    return Parameter(
        name=name,
        what=what,
        place=Place.PATH,
        required=True,
        schema={"type": "string", **schema},
        example=example,
    )
