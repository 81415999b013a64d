"""The same request sent twice counts once: ``Idempotency-Key`` (invariant I6).

Source: draft-ietf-httpapi-idempotency-key-header-06: 409 while the first is on its way, 422 for
another request with the same key.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from headrace.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

KEPT_FOR = timedelta(hours=24)
HEADER = "Idempotency-Key"

# A string of RFC 9651 (quoted), or the bare text that most clients send.
_KEY = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?")
_NOT_OF_IT = frozenset({"wait_for"})  # how long to wait is not what is asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a key stands for.

    Attributes:
        key: As the client chose it.
        fingerprint: Of the request that had it first.
        receipts: Ids of the receipts that it got.
        failed: Those of them that failed, and not by the client's fault: they are tried again.
    """

    key: str
    fingerprint: str
    receipts: tuple[str, ...]
    failed: frozenset[str] = frozenset()


class KeysInFlight:
    """The keys of the requests that are being answered."""

    def __init__(self) -> None:
        self._keys: set[str] = set()

    @contextmanager
    def hold(self, key: str | None) -> Iterator[None]:
        """Keep a key for one request while the block runs.

        Raises:
            Refusal: ``in-flight``.
        """
        if key is None:
            yield
            return
        if key in self._keys:
            raise Refusal(
                "in-flight",
                f"a request with this {HEADER} is being answered",
                hint="wait for its answer, or send this one again later",
            )
        self._keys.add(key)
        try:
            yield
        finally:
            self._keys.discard(key)


def read_key(headers: Mapping[str, str]) -> str | None:
    """Give the key of a request, if it has one.

    Raises:
        Refusal: ``bad-request``.
    """
    value = headers.get(HEADER)
    if value is None:
        return None
    key = value.strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not _KEY.fullmatch(key):
        raise Refusal("bad-request", f"{HEADER} takes 1 to 255 printable ASCII characters")
    return key


def fingerprint(fields: Mapping[str, str], files: Iterable[tuple[str, str | None]]) -> str:
    """Give what tells a request from others: its options, and its files by name and SHA-256."""
    options = sorted((name, value) for name, value in fields.items() if name not in _NOT_OF_IT)
    return hashlib.sha256(json.dumps([options, list(files)]).encode()).hexdigest()
