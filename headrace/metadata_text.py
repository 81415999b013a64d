"""Metadata as people write it: the YAML or JSON of a ``metadata.yaml``, and the part of a database.

A file may be Datasette's own, of a whole instance (``databases: {sales: {…}}``), or say at its top
what is said about the one database that it comes with.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.errors import Refusal
from headrace.metadata import KNOWN_KEYS, MAX_BYTES, check_metadata, refuse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_DEPTH = 20  # levels of nesting; Datasette's own has six
FILE_NAME = re.compile(r"metadata\.(?:ya?ml|json)", re.IGNORECASE)
MAX_TEXT_BYTES = 4 * MAX_BYTES  # a file of a whole instance may say more than is used


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a file says about one database.

    Attributes:
        metadata: That, checked; None: nothing.
        warnings: What else it says, which is left out.
    """

    metadata: dict[str, Any] | None
    warnings: tuple[str, ...] = ()


def is_list(text: str) -> bool:
    """Say whether a file of that name holds records, by how it begins: metadata is no list."""
    return text.lstrip("\ufeff \t\r\n").startswith(("[", "- "))


def is_metadata(document: Mapping[str, Any]) -> bool:
    """Say whether an object has any key of Datasette's metadata."""
    return bool(document.keys() & (KNOWN_KEYS | {"databases"}))


def read_metadata_text(text: str, database: str) -> Said:
    """Read what a text says about a database.

    Raises:
        Refusal: ``invalid-metadata``.
    """
    return find_section(load_metadata_text(text), database)


def load_metadata_text(text: str) -> dict[str, Any]:
    """Load the document of a text: JSON, or YAML with the types of JSON.

    Raises:
        Refusal: ``invalid-metadata``: it is neither, no object, too large, or has aliases.
    """
    if len(text.encode(errors="surrogatepass")) > MAX_TEXT_BYTES:
        raise refuse("", f"it is more than {MAX_TEXT_BYTES:,} bytes")
    text = text.removeprefix("\ufeff")
    document = _load_json(text) if text.lstrip().startswith("{") else _load_yaml(text)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise refuse("", "it is no object")
    return document


def find_section(document: Mapping[str, Any], database: str) -> Said:
    """Find and check what a document says about a database.

    Raises:
        Refusal: ``invalid-metadata``.
    """
    if "databases" not in document:
        return Said(metadata=check_metadata(dict(document)))
    warnings = []
    if others := sorted(key for key in document if key != "databases"):
        warnings.append(f"the metadata says of the whole server, and is left out: {_list(others)}")
    sections = document["databases"]
    if not isinstance(sections, dict):
        raise refuse("/databases", "it is no object")
    if others := sorted(str(name) for name in sections if name != database):
        warnings.append(f"the metadata of other databases is left out: {_list(others)}")
    if database not in sections:
        return Said(metadata=None, warnings=tuple(warnings))
    try:
        found = check_metadata(sections[database])
    except Refusal as refusal:
        refusal.extra["pointer"] = f"/databases/{database}{refusal.extra['pointer']}"
        raise
    return Said(metadata=found, warnings=tuple(warnings))


def _load_json(text: str) -> Any:
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as exc:
        raise refuse("", "its JSON is nested too deeply") from exc
    except json.JSONDecodeError as exc:
        raise Refusal(
            "invalid-metadata",
            f"the JSON of the metadata is broken: {exc.msg}",
            line=exc.lineno,
            column=exc.colno,
        ) from exc
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [member for value in level for member in _members(value)]
    if level:
        raise refuse("", f"its JSON is nested more than {MAX_DEPTH} levels deep")
    return document


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _refuse_constant(name: str) -> Any:
    raise refuse("", f"{name} is no JSON")


def _load_yaml(text: str) -> Any:
    import yaml  # noqa: PLC0415 - 1 MB, and few uploads bring metadata along

    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise refuse("", "its YAML has aliases", hint="write out what they stand for")
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > MAX_DEPTH:
                raise refuse("", f"its YAML is nested more than {MAX_DEPTH} levels deep")
        return yaml.load(text, Loader=_loader())  # noqa: S506 - made of the safe one
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        raise Refusal(
            "invalid-metadata",
            f"the YAML of the metadata is broken: {exc.problem or exc.context}",
            line=None if mark is None else mark.line + 1,
            column=None if mark is None else mark.column + 1,
        ) from exc
    except (yaml.YAMLError, ValueError) as exc:
        raise Refusal("invalid-metadata", "the YAML of the metadata is broken") from exc


def _loader() -> Any:
    """Give Datasette's own loader, but for dates: they stay the text that they are.

    Source: datasette 0.65.5, ``utils/__init__.py``, ``parse_metadata``.
    """
    import yaml  # noqa: PLC0415

    class Loader(yaml.CSafeLoader):
        """Leaves dates as text."""

    Loader.yaml_implicit_resolvers = {
        first: [each for each in resolvers if each[0] != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }
    return Loader


def _list(names: list[str]) -> str:
    shown = ", ".join(name[:100] for name in names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10:,} more"  # noqa: PLR2004
