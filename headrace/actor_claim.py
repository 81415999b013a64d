"""What a reader tells the primary of who is signed in to its Datasette: signed, for one request.

The key is made of the root token, which a reader shares with the primary. A client cannot make such
a header, and one that it sends is dropped by the reader (serve/headers.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from itsdangerous import BadData, URLSafeSerializer

ASKED_AT = "/-/headrace-actor.json"  # where a worker says who is signed in
HEADER = "Headrace-Actor"
ALL = "*"  # databases
TOLERANCE_S = 300.0  # between the clocks of two machines, and for the way
MAX_NAMES_CHARACTERS = 4000  # of databases: a header takes 8,190 bytes in all


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorClaim:
    """Who is signed in, and what he may write to.

    Attributes:
        actor: Id of the actor, as Datasette has it.
        databases: Names; ``"*"`` stands for all.
    """

    actor: str
    databases: tuple[str, ...]


class ActorClaims:
    """Signs claims, and checks them.

    Args:
        token: The root token.
    """

    def __init__(self, token: str) -> None:
        self._serializer = URLSafeSerializer(
            token,
            salt="headrace-actor",
            signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
        )

    def encode(self, claim: ActorClaim, *, method: str, path: str, now_s: float) -> str:
        """Give the header of one request.

        Args:
            claim: What is said.
            method: Of the request that it is for.
            path: Of that request, without its query.
            now_s: The time, in seconds since 1970.
        """
        names: list[str] = []
        left = MAX_NAMES_CHARACTERS
        for name in claim.databases:
            left -= len(name) + 3
            if left < 0:
                break
            names.append(name)
        said = [claim.actor[:200], names, method, path, int(now_s)]
        return str(self._serializer.dumps(said))

    def decode(self, text: str, *, method: str, path: str, now_s: float) -> ActorClaim | None:
        """Read the header of a request; None if it is not a reader's, or of another request."""
        try:
            actor, names, for_method, for_path, at_s = self._serializer.loads(text)
        except (BadData, ValueError, TypeError):
            return None
        if (for_method, for_path) != (method, path) or abs(now_s - at_s) > TOLERANCE_S:
            return None
        return ActorClaim(actor=actor, databases=tuple(names))
