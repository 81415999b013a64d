"""The options of an upload, as parameters of a request."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from headrace.json_schema import attributes_of
from headrace.operation import Parameter
from headrace.options import ABOUT, CHOICES
from headrace.wishes import Wishes


def option_parameters() -> tuple[Parameter, ...]:
    """Give all of them: where a file goes first, then how it is read and shaped."""
    about = {**ABOUT, **_about_wishes()}
    return tuple(
        Parameter(name=name, what=what, schema=_schema(name)) for name, what in about.items()
    )


def _about_wishes() -> dict[str, str]:
    said = attributes_of(Wishes)
    return {each.name: said[each.name] for each in fields(Wishes)}


def _schema(name: str) -> dict[str, Any]:
    if name in CHOICES:
        return {"enum": list(CHOICES[name])}
    return {"type": "string"}
