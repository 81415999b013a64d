"""Content codings: which one a client takes, and how a body is put into it."""

from __future__ import annotations

import gzip
from functools import lru_cache

import brotli

IDENTITY = "identity"
# In the order of preference among equals: brotli makes the smaller body.
CODINGS = ("br", "gzip")
# Costs: 1 ms for 100 kB of HTML; a body is compressed once and read often.
_BROTLI_QUALITY = 5
_GZIP_LEVEL = 6
LEAST_BYTES = 512  # below this, the headers weigh more

_TEXT = frozenset({"application/json", "application/javascript", "application/xml"})
_TEXT_ENDINGS = ("+json", "+xml")


@lru_cache(maxsize=512)
def choose_coding(accepted: str | None) -> str:
    """Choose the content coding for an ``Accept-Encoding`` header.

    The client's weights decide, then our order. A client that refuses all of them, ``identity``
    included, gets ``identity``: a page that it may not like is better than none.

    Source: RFC 9110, 12.5.3.

    Args:
        accepted: The header's value; None if there is none.
    """
    if not accepted:
        return IDENTITY
    weights: dict[str, float] = {}
    for part in accepted.lower().split(","):
        name, _, parameters = part.partition(";")
        weights[name.strip()] = _read_weight(parameters)
    if "x-gzip" in weights:
        weights.setdefault("gzip", weights["x-gzip"])
    other = weights.get("*", 0.0)
    best, best_weight = IDENTITY, 0.0
    for coding in CODINGS:
        weight = weights.get(coding, other)
        if weight > best_weight:
            best, best_weight = coding, weight
    return IDENTITY if weights.get(IDENTITY, 0.0) > best_weight else best


def compress(coding: str, body: bytes) -> bytes:
    """Put a body into a coding of ``CODINGS``."""
    if coding == "br":
        encoded: bytes = brotli.compress(body, quality=_BROTLI_QUALITY)
        return encoded
    return gzip.compress(body, _GZIP_LEVEL, mtime=0)


def is_worth_compressing(content_type: str, size_bytes: int) -> bool:
    """Tell whether a body gets smaller: text does, pictures and databases hardly."""
    kind = content_type.partition(";")[0].strip().lower()
    is_text = kind.startswith("text/") or kind in _TEXT or kind.endswith(_TEXT_ENDINGS)
    return is_text and size_bytes >= LEAST_BYTES


def _read_weight(parameters: str) -> float:
    """Give q of ``;q=0.5``; what is no number counts as a refusal."""
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
