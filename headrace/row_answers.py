"""How Datasette's write API answers: its JSON, and its form of an error.

Source: Datasette 1.0a41, ``utils/__init__.py`` (``error_body``, ``CustomJSONEncoder``) and
``docs/json_api.rst``, "JSON API errors".
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

from headrace.web import TRY_AGAIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from headrace.errors import Refusal

_FORBIDDEN = frozenset({"unauthorized", "forbidden"})


def error_document(errors: Iterable[str], status: int, *, older: bool = False) -> dict[str, Any]:
    """Give an error as Datasette has it; the older form is that of datasette-insert."""
    errors = list(errors)
    if older:
        return {"status": status, "error": "; ".join(errors)}
    return {"ok": False, "error": "; ".join(errors), "errors": errors, "status": status}


def answer_rows(
    document: Mapping[str, Any], *, status: int, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Answer with JSON as Datasette writes it."""
    return web.Response(
        text=json.dumps(document, default=_encode_bytes),
        status=status,
        content_type="application/json",
        charset="utf-8",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def answer_refusal(refusal: Refusal, *, older: bool = False) -> web.Response:
    """Answer with a refusal of ours in Datasette's form; ``code`` and ``hint`` are added.

    Who may not write is told so with 403 and no word more, as by Datasette; why is in the hint.
    """
    status, errors, hint = refusal.status.value, [refusal.detail], refusal.hint
    if refusal.code in _FORBIDDEN:
        status, errors = 403, ["Permission denied"]
        hint = ": ".join(filter(None, (refusal.detail, hint)))
    document = error_document(errors, status, older=older)
    document["code"] = refusal.code
    if hint:
        document["hint"] = hint
    document |= refusal.extra
    again_s = str(refusal.extra.get("retry_after", 1))
    headers = {"Retry-After": again_s} if status in TRY_AGAIN else {}
    return answer_rows(document, status=status, headers=headers)


def _encode_bytes(value: object) -> Any:
    if not isinstance(value, bytes):
        raise TypeError(f"cannot encode {type(value).__name__}")
    return {"$base64": True, "encoded": base64.b64encode(value).decode()}
