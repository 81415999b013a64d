"""Signing in by a browser: a token, typed once, becomes a cookie.

The cookie names the token, and holds nothing of it: with the token it ends. It is signed by a key
that is made of the root token and of a secret in the journal, so whoever reads the object store
cannot make one.

Source: OWASP, Session Management Cheat Sheet (attributes of the cookie).
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from itsdangerous import BadData, URLSafeSerializer

if TYPE_CHECKING:
    from datetime import datetime

PATH = "/ingest"  # Datasette and its plugins never see it
LIFETIME_S = 30 * 86400


class Sessions:
    """Makes cookies, and reads them.

    Args:
        root_token: The root token.
        secret: Of the journal.
    """

    def __init__(self, root_token: str, secret: str) -> None:
        key = hmac.digest(root_token.encode(), secret.encode(), "sha256")
        self._serializer = URLSafeSerializer(
            key,
            salt="headrace-session",
            signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
        )

    def encode(self, token_id: str, expires_at: datetime) -> str:
        """Give the value of a cookie.

        Args:
            token_id: Of the token that it stands for.
            expires_at: When it ends.
        """
        return str(self._serializer.dumps([token_id, int(expires_at.timestamp())]))

    def decode(self, value: str, now: datetime) -> str | None:
        """Give the id of the token that a cookie stands for; None if it is not good (any more)."""
        try:
            token_id, expires_s = self._serializer.loads(value)
        except (BadData, ValueError, TypeError):
            return None
        return str(token_id) if now.timestamp() < expires_s else None
