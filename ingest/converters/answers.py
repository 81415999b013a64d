"""What the converter's process says before its outcome: one JSON object a line."""

from __future__ import annotations

import json
from typing import Any


def encode_progress(rows: int, size_bytes: int) -> bytes:
    """Encode how many rows and bytes of the input are done."""
    return _encode({"progress": [rows, size_bytes]})


def encode_refused(reason: str) -> bytes:
    """Encode why the platform did not give the process the cage that it should have."""
    return _encode({"refused": reason})


def decode_progress(line: bytes) -> tuple[int, int] | None:
    """Read rows and bytes; None: the line says something else."""
    value = _decode(line, "progress")
    if not isinstance(value, list) or not all(isinstance(each, int) for each in value):
        return None
    return (value[0], value[1]) if len(value) == 2 else None  # noqa: PLR2004 - rows, bytes


def decode_refused(line: bytes) -> str | None:
    """Read the reason; None: the line says something else."""
    value = _decode(line, "refused")
    return value if isinstance(value, str) else None


def _encode(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"


def _decode(line: bytes, member: str) -> Any:
    if not line.startswith(f'{{"{member}":'.encode()):
        return None  # an outcome may be long: it is not parsed for nothing
    try:
        return json.loads(line)[member]
    except ValueError:
        return None
