"""Reads deploy/compose.yml as compose does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

COMPOSE = Path(__file__).parents[2] / "deploy" / "compose.yml"


def read_compose(**variables: str) -> dict[str, Any]:
    """Give the file, with variables in place; one that is not given has its own name as its value.

    Source: compose-spec, ``12-interpolation.md``: ``${NAME:?}`` has to be there.
    """
    text = re.sub(
        r"\$\{(\w+):\?\}", lambda found: variables.get(found[1], found[1]), COMPOSE.read_text()
    )
    document: dict[str, Any] = yaml.safe_load(text)
    return document
