"""The options of an upload, as parameters of a request."""

from __future__ import annotations

from typing import Any

from headrace.operation import Parameter
from headrace.options import ABOUT, CHOICES


def option_parameters() -> tuple[Parameter, ...]:
    """Give all of them."""
    return tuple(
        Parameter(name=name, what=what, schema=_schema(name)) for name, what in ABOUT.items()
    )


def _schema(name: str) -> dict[str, Any]:
    if name in CHOICES:
        return {"enum": list(CHOICES[name])}
    return {"type": "string"}
