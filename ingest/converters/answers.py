"""What the converter's process says before its outcome: one JSON object a line."""

from __future__ import annotations

import json
from typing import Any

MAX_STEP = 40  # characters


def encode_progress(step: str, rows: int, size_bytes: int) -> bytes:
    """Encode what is being done, and how many rows and bytes are."""
    return _encode({"progress": [step, rows, size_bytes]})


def encode_refused(reason: str) -> bytes:
    """Encode why the platform did not give the process the cage that it should have."""
    return _encode({"refused": reason})


def decode_progress(line: bytes) -> tuple[str, int, int] | None:
    """Read the step, rows and bytes; None: the line says something else."""
    value = _decode(line, "progress")
    if not isinstance(value, list) or list(map(type, value)) != [str, int, int]:
        return None
    return str(value[0][:MAX_STEP]), int(value[1]), int(value[2])


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
