"""Which of the objects are for us, where one goes by its key, and what its manifest says. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from headrace.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST = ".headrace.json"  # after the name of the file that it is for
MANIFEST_AT_MOST_BYTES = 64 * 1024
FAILED = "_failed"  # where what could not be taken is moved to, below the place
ERROR = ".error.json"  # after its name: why
READERS = "_headrace"  # below our own incoming/: what readers took (headrace/incoming.py)

_DEPTH = 3  # database, table, file
# Temporary names: of rsync and many others (.name), of obstore in a folder (name#1).
_TEMPORARY = re.compile(r"\..*|.*#\d+", re.DOTALL)
_NOT_OF_IT = frozenset({"wait_for"})  # nobody waits


def is_file(name: str, size_bytes: int) -> bool:
    """Say whether an object is one that is taken.

    Args:
        name: Its key below the place.
        size_bytes: Its size. Consoles of stores make empty objects for folders.
    """
    parts = name.split("/")
    if parts[0] in {FAILED, READERS} or any(map(_TEMPORARY.fullmatch, parts)):
        return False
    if size_bytes == 0 and "." not in parts[-1]:
        return False
    return not name.endswith(MANIFEST)


def fields_of(name: str, manifest: Mapping[str, str]) -> dict[str, str]:
    """Give the options of an upload: ``file``, ``database/file`` or ``database/table/file``.

    What the path says holds: who may write to one folder only, writes to its database only.

    Raises:
        Refusal: ``invalid-name`` or ``invalid-option``.
    """
    parts = name.split("/")
    if len(parts) > _DEPTH:
        raise Refusal(
            "invalid-name",
            f"the file lies in {len(parts) - 1} folders, one within the other",
            hint="a file is <database>/<file>, or <database>/<table>/<file>",
        )
    said = dict(zip(("database", "table"), parts[:-1], strict=False))
    for option, value in said.items():
        if manifest.get(option, value) != value:
            raise Refusal(
                "invalid-option",
                f"the manifest says {option}={manifest[option]!r}, and the path {value!r}",
            )
    return {**manifest, **said}


def decode_manifest(body: bytes) -> dict[str, str]:
    """Read the options that lie beside a file: a JSON object, whose values may be lists or objects.

    Raises:
        Refusal: ``invalid-option``.
    """
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise Refusal("invalid-option", f"the manifest is no JSON: {exc}") from exc
    if not isinstance(values, dict):
        raise Refusal("invalid-option", "the manifest is no JSON object")
    if unknown := _NOT_OF_IT & values.keys():
        raise Refusal("invalid-option", f"a manifest cannot say {min(unknown)}")
    return {name: _text_of(value) for name, value in values.items() if value is not None}


def _text_of(value: Any) -> str:
    """Give a value as a query parameter has it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "1" if value else "0"
    return json.dumps(value, ensure_ascii=False)
