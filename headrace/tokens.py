"""The root token, which may do everything. Others are the primary's to know (ingest/access.py)."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from headrace.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping


SESSION_COOKIE = "headrace_session"  # that a token becomes in a browser
MADE_PREFIX = "hr_"  # of tokens that were made
UNKNOWN_HINT = "is it whole, and of this server? It may have been revoked, or have expired long ago"


def hash_token(text: str) -> str:
    """Give what is kept of a token: its SHA-256, 64 hex digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def bearer_of(headers: Mapping[str, str]) -> str | None:
    """Give the token of a request; None: it has none, also where another scheme says who it is of.

    Source: RFC 6750, section 2.1.
    """
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


class Tokens:
    """The one token; only its hash is kept."""

    def __init__(self, token: str) -> None:
        self._sha256 = hash_token(token)

    def check(self, headers: Mapping[str, str]) -> None:
        """Refuse a request without the right token.

        Raises:
            Refusal: ``unauthorized``.
        """
        token = bearer_of(headers)
        if token is None:
            raise Refusal(
                "unauthorized",
                "the request has no token",
                hint="send the header: Authorization: Bearer …",
            )
        if not hmac.compare_digest(hash_token(token), self._sha256):
            raise Refusal("unauthorized", "the token is not known", hint=UNKNOWN_HINT)
